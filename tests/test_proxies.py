"""The system behind eight proxies, each a real one, in a real browser.

One API and one dashboard serve all eight. Their PUBLIC_URL has the addresses of all.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from conftest import CHROMIUM, free_port, wait_until
from dashboard import System, total
from playwright.sync_api import BrowserContext, Error, Locator, Page, Playwright, expect
from proxies import Place, Proxies

if sys.platform == "win32":
    pytest.skip("Windows has no nginx and HAProxy that can be installed", allow_module_level=True)

NAMES = [
    "codespaces, Host rewritten",
    "codespaces, Origin rewritten",
    "jupyterhub",
    "nginx with a prefix",
    "tls in front",
    "haproxy",
    "tunnel",
    "address",
]

PICTURE = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


@pytest.fixture(scope="module")
def proxies(system: System, tmp_path_factory: pytest.TempPathFactory) -> Proxies:
    """Return the running proxies, in front of a running API with a user, and a dashboard."""
    system.dashboard_port = free_port()
    folder = tmp_path_factory.mktemp("proxies")
    proxies = Proxies(folder, system.dashboard_port, system.api_port)
    proxies.start(system.open)
    system.start_api(PUBLIC_URL=proxies.public_url)
    system.start_dashboard(system.api_url, PUBLIC_URL=proxies.public_url)
    system.create(1, age=30)
    return proxies


@pytest.fixture(scope="module")
def context(proxies: Proxies, playwright: Playwright) -> Iterator[BrowserContext]:
    """Yield a browser that finds the proxies at the public addresses, and nothing elsewhere."""
    rules = [rule for place in proxies.places.values() for rule in place.rules]
    mapping = ", ".join([*rules, "MAP * ~NOTFOUND"])
    arguments = ["--no-sandbox", f"--host-resolver-rules={mapping}"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    yield browser.new_context(ignore_https_errors=True)
    browser.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("name", NAMES)
def test_everything_works_behind(
    name: str, proxies: Proxies, context: BrowserContext, page: Page
) -> None:
    """The page is live; a write in /docs moves its histogram; a write on the users page works."""
    place = proxies.places[name]
    histogram = page.locator("[data-testid=stVegaLiteChart] canvas").first
    show(page, place.dashboard, histogram)
    expect(page.get_by_text("Live, updated")).to_be_visible()
    before, users = histogram.evaluate(PICTURE), int(total(page).inner_text())

    location = create_in_docs(context.new_page(), place, 100 + users)
    assert location == f"{place.api_path}/users/{100 + users}"
    expect(total(page)).to_have_text(str(users + 1))
    wait_until("a bar", lambda: histogram.evaluate(PICTURE) != before, 10)

    add = page.get_by_role("button", name="Add a user")
    show(page, f"{place.dashboard}/users", add)
    add.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Id").fill(str(1_000 + users))
    dialog.get_by_label("Name").fill("Grace")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_text("The user was created")).to_be_visible()


def show(page: Page, url: str, sign: Locator) -> None:
    """Open a page; retry if this machine's network changes: Chromium then stops loading."""
    for _ in range(3):
        with suppress(AssertionError, Error):
            page.goto(url)
            expect(sign).to_be_visible(timeout=10_000)
            return
    expect(sign).to_be_visible(timeout=1_000)


def create_in_docs(page: Page, place: Place, user_id: int) -> str:
    """Create a user with "Try it out" of the page to which `GET /` leads; return its Location."""
    create = page.get_by_text("Create a user", exact=True)
    show(page, f"{place.api}/", create)
    expect(page).to_have_url(f"{place.api}/docs")
    create.click()
    page.get_by_role("button", name="Try it out").click()
    page.locator("tr[data-param-name=user_id] input").fill(str(user_id))
    page.locator("tr[data-param-name=age] input").fill("77")
    with page.expect_response(lambda response: response.request.method == "POST") as created:
        page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table").get_by_text("201")).to_be_visible()
    page.close()
    return created.value.headers["location"]
