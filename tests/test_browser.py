"""The system in a real browser: what a person sees, without a click."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Lab, Terminal, open_page
from dashboard import System, picture, total
from playwright.sync_api import Browser, Page, expect

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


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


def test_the_page_follows_the_api(system: System, page: Page) -> None:
    """Empty, then a bar, then one user more, then the API gone, then back: all without a click."""
    api = system.start_api()
    open_page(page, system.start_dashboard(system.api_url))
    expect(page.get_by_text("No users yet")).to_be_visible()

    system.create(1, age=33)
    expect(page.get_by_text("Live, updated")).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart] canvas").first).to_be_visible()
    expect(total(page)).to_have_text("1")
    expect(page.locator(".headline")).to_contain_text("Mean 33.0")

    system.create(2, age=44)
    expect(total(page)).to_have_text("2")

    api.stop()
    expect(page.get_by_text("API down").first).to_be_visible()
    page.locator("summary").click()
    expect(page.get_by_text(f"Address: {system.api_url}")).to_be_visible()
    expect(total(page)).to_have_text("2")

    system.start_api()
    system.create(3, age=55)
    expect(page.get_by_text("Live, updated")).to_be_visible()
    expect(total(page)).to_have_text("1")


def test_the_documentation_needs_no_internet(system: System, page: Page) -> None:
    """/docs draws its list of calls, and "Try it out" creates a user."""
    system.start_api()
    page.goto(f"{system.api_url}/docs")
    page.get_by_text("Create a user", exact=True).click()
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
