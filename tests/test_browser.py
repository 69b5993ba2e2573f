"""The system in a real browser: what a person sees, without a click."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from conftest import Lab, Terminal, free_port, service_python, wait_until
from playwright.sync_api import Browser, Page, expect

from tools.processes import ROOT

PICTURES = ROOT / ".lab" / "pictures"
VIEWPORT = {"width": 1200, "height": 860}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield an empty page that fails the test if it asks anything beyond this machine."""
    page = browser.new_page(viewport=VIEWPORT)  # type: ignore[arg-type]
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    yield page
    page.close()
    hosts = {urlsplit(address).hostname for address in addresses if "://" in address}
    assert hosts <= {"localhost", "127.0.0.1"}


class Services:
    """The API and the dashboard, each in a terminal, so that the API can be stopped alone."""

    def __init__(self, terminal: Callable[..., Terminal], http: httpx2.Client) -> None:
        self._terminal, self._http = terminal, http
        self._api_port, dashboard_port = free_port(), free_port()
        self.api_url = f"http://localhost:{self._api_port}"
        self.dashboard_url = f"http://localhost:{dashboard_port}"
        self.start_api()
        terminal(
            service_python("frontend"), "-m", "streamlit", "run", "app.py",
            "--server.port", str(dashboard_port),
            folder="frontend",
            API_URL=f"{self.api_url}/users/",
        )  # fmt: skip
        wait_until("the dashboard", lambda: self.answers(f"{self.dashboard_url}/_stcore/health"))

    def start_api(self) -> None:
        """Start an API, with an empty store."""
        port = str(self._api_port)
        self._api = self._terminal(
            service_python("api"), "-m", "uvicorn", "main:app", "--port", port, folder="api"
        )
        wait_until("the API", lambda: self.answers(f"{self.api_url}/health"))

    def stop_api(self) -> None:
        self._api.stop()

    def answers(self, url: str) -> bool:
        try:
            return self._http.get(url).status_code == 200
        except httpx2.TransportError:
            return False

    def create(self, user_id: int, age: int) -> None:
        """Create a user as anybody may."""
        url = f"{self.api_url}/users/?user_id={user_id}&name=Alice&age={age}"
        assert self._http.post(url).status_code == 201


@pytest.fixture
def services(terminal: Callable[..., Terminal], http: httpx2.Client) -> Services:
    return Services(terminal, http)


def metric(page: Page, label: str) -> str:
    """Return the value on a card."""
    card = page.get_by_test_id("stMetric").filter(has_text=label)
    return card.get_by_test_id("stMetricValue").inner_text().strip()


def picture(page: Page, name: str) -> Path:
    """Photograph the page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
    return PICTURES / f"{name}.png"


def test_the_page_follows_the_api(services: Services, page: Page) -> None:
    """Empty, then a bar, then one user more, then the API gone, then back: all without a click."""
    page.goto(services.dashboard_url)
    expect(page.get_by_text("No users yet")).to_be_visible()
    picture(page, "empty")

    services.create(1, age=33)
    expect(page.get_by_text("Live, updated")).to_be_visible()
    expect(
        page.locator(
            "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
        ).first
    ).to_be_visible()
    assert metric(page, "Users") == "1"
    assert metric(page, "Mean age") == "33.0"

    services.create(2, age=44)
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("2")
    picture(page, "live")

    services.stop_api()
    expect(page.get_by_text("API down")).to_be_visible()
    page.get_by_text("Details", exact=True).click()
    expect(page.get_by_text(f"Address tried: {services.api_url}")).to_be_visible()
    assert metric(page, "Users") == "2"
    picture(page, "down")

    services.start_api()
    services.create(3, age=55)
    expect(page.get_by_text("Live, updated")).to_be_visible()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("1")


def test_the_documentation_needs_no_internet(services: Services, page: Page) -> None:
    """/docs draws its list of calls, and "Try it out" creates a user."""
    page.goto(f"{services.api_url}/docs")
    page.get_by_text("Create User", exact=True).click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    picture(page, "docs")
    expect(page.locator(".live-responses-table").get_by_text("201")).to_be_visible()


def test_a_fresh_clone_shows_its_first_bar(
    terminal: Callable[..., Terminal], checkout: Path, page: Page
) -> None:
    """From a bare clone `lab.py up` leads to a bar in the browser, and much sooner the second time.

    The seconds that it prints are those that the README states.
    """
    for start in ("cold", "with its environments there"):
        began = time.monotonic()
        lab = Lab(terminal, folder=checkout, deadline_seconds=300)
        page.goto(lab.dashboard_url)
        expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
        print(f"first bar, {start}: {time.monotonic() - began:.0f} s")
        assert ("installing" in " ".join(lab.terminal.lines)) == (start == "cold")
        assert lab.terminal.stop() == 0
