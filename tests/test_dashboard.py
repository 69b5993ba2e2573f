"""The dashboard in a real browser, against the real API, and against one that misbehaves.

Each state is photographed to `.lab/pictures/`, and what the documents show to
`.lab/pictures/documents/`. No rule of axe is left out.
"""

import contextlib
import csv
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from conftest import open_page, wait_until
from dashboard import (
    DESKTOP,
    LAPTOP,
    PHONE,
    TABLET,
    Misbehaving,
    System,
    check_accessibility,
    check_both,
    check_fits,
    check_tables,
    check_tooltips,
    picture,
    total,
    turn_to,
)
from playwright.sync_api import Browser, Error, Page, expect

LONG = "LAB_LONG" in os.environ
NAMES = ("Alice Meyer", "Bob Okafor", "Carla Rossi", "D'Arcy Flint", "Zoë Ångström", "=1+2")


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


@pytest.fixture
def misbehaving() -> Iterator[str]:
    """Yield the address of an API that misbehaves as a test tells it to."""
    with Misbehaving.serve() as url:
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page that fails the test if it complains, or asks anything beyond this machine."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    page = context.new_page()
    hosts: set[str | None] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("console", lambda each: errors.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert hosts - {None} <= {"localhost", "127.0.0.1"}
    # A container that starts elsewhere on this machine changes the network under the browser.
    assert [each for each in errors if "ERR_NETWORK_CHANGED" not in each] == []


def test_live(system: System, page: Page) -> None:
    """Empty, live, selected, paused, down and back; a new user is there within two refreshes."""
    api = system.start_api()
    url = system.start_dashboard(system.api_url)
    open_page(page, url)
    expect(page.get_by_text("No users yet")).to_be_visible()
    check_both(page, "empty")
    dice = random.Random(7)
    for user_id in range(300):
        system.create(user_id, min(95, int(dice.triangular(0, 95, 22))))
    expect(total(page)).to_have_text("300")
    system.create(300, 33)
    expect(total(page)).to_have_text("301")
    for size in (TABLET, LAPTOP, DESKTOP):
        page.set_viewport_size(size)
        check_both(page, f"live-{size['width']}")
    for size in (LAPTOP, DESKTOP):
        page.set_viewport_size(size)
        check_fits(page)

    check_tooltips(page, system)
    check_tables(page)
    page.get_by_role("slider").last.press("ArrowLeft")
    expect(page.get_by_text("Ages 0 to 99: ")).to_be_visible()
    expect(page).to_have_url(re.compile("ages="))
    picture(page, "selected")

    page.get_by_role("radio", name="Pause").or_(page.get_by_role("button", name="Pause")).click()
    expect(page.get_by_text("Paused, updated")).to_be_visible()
    expect(page).to_have_url(re.compile("refresh=Pause"))
    picture(page, "paused")
    page.get_by_role("radio", name="2 s").or_(page.get_by_role("button", name="2 s")).click()
    expect(page.get_by_text("Live, updated")).to_be_visible()

    api.stop()
    expect(page.get_by_text("API down").first).to_be_visible()
    expect(total(page)).to_have_text("303")
    check_both(page, "down")
    system.start_api()
    expect(page.get_by_text("No users yet")).to_be_visible()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "bGFiLWxhYi1sYWItbGFiIQ==",
}


@pytest.mark.parametrize(
    ("public_url", "opened"),
    [({}, 0), ({"PUBLIC_URL": "https://lab.example, https://hub.example/user/me/8501/"}, 1)],
    ids=["local", "public"],
)
def test_who_may_open_a_session(system: System, public_url: dict[str, str], opened: int) -> None:
    """PUBLIC_URL opens its own addresses and nothing else, and no check asks the internet.

    A port forwarder may change Host or Origin to the server's own, and leave its prefix or not.
    """
    with socket.create_server(("127.0.0.1", 0)) as internet:
        internet.setblocking(False)
        proxy = {"http_proxy": f"http://127.0.0.1:{internet.getsockname()[1]}"}
        url = system.start_dashboard(system.api_url, **public_url, **proxy)
        port, after = int(url.rpartition(":")[2]), (403, 101)[opened]
        cases = [
            ("localhost", "http://localhost", "", 101),
            ("127.0.0.1:8501", "http://127.0.0.1:8501", "", 101),
            ("localhost", f"http://localhost:{port}", "", 101),
            ("localhost", "http://localhost:3000", "", 403),
            ("localhost", "null", "", 403),
            ("localhost", "https://evil.example", "", 403),
            ("evil.example:8501", "http://evil.example:8501", "", 403),
            ("lab.example.evil", "https://lab.example", "", 403),
            ("localhost", "http://lab.example", "", 403),
            ("localhost", "https://lab.example:444", "", 403),
            ("lab.example", "https://lab.example", "", after),
            ("localhost", "https://lab.example:443", "", after),
            ("lab.example", f"http://localhost:{port}", "", after),
            ("localhost", "https://hub.example", "", after),
        ]
        if opened:
            cases.append(("hub.example", "https://hub.example", "/user/me/8501", 101))
        statuses = []
        for host, origin, prefix, _ in cases:
            with contextlib.closing(HTTPConnection("localhost", port)) as line:
                headers = UPGRADE | {"Host": host, "Origin": origin}
                line.request("GET", f"{prefix}/_stcore/stream", headers=headers)
                statuses.append((host, origin, prefix, line.getresponse().status))
        assert statuses == cases
        with pytest.raises(BlockingIOError):
            internet.accept()


def test_many_viewers_cost_what_one_costs(system: System, page: Page) -> None:
    """Ten seconds are six periods of two at most, for one browser tab as for five."""
    system.start_api()
    system.create(1, 30)
    url = system.start_dashboard(system.api_url)
    tabs = [page, *(page.context.new_page() for _ in range(4))]
    costs = []
    for viewers in (1, 5):
        for tab in tabs[:viewers]:
            open_page(tab, url)
            expect(tab.get_by_text("Live, updated").first).to_be_visible()
        before, until = system.asked_for_ages(), time.monotonic() + 10
        page.wait_for_timeout((until - time.monotonic()) * 1_000)
        costs.append(system.asked_for_ages() - before)
    print(f"requests in 10 s: 1 viewer {costs[0]}, 5 viewers {costs[1]}")
    assert 1 <= costs[0] <= 6
    assert 1 <= costs[1] <= 6


def choose_first_row(page: Page) -> None:
    """Click into the table until a user is selected: a click before it is drawn is lost."""
    expect(page.get_by_test_id("stDataFrame").locator("canvas").first).to_be_visible()
    for _ in range(6):
        with contextlib.suppress(AssertionError, Error):  # for a moment there may be two tables
            page.get_by_test_id("stDataFrame").click(position={"x": 16, "y": 52}, timeout=4_000)
            expect(page.get_by_text("1 user selected")).to_be_visible(timeout=4_000)
            return
    raise AssertionError("no click into the table selected a user")


@pytest.fixture
def users(system: System, page: Page) -> Page:
    """The users page of an API with 150 users."""
    system.start_api()
    for user_id in range(150):
        system.create(user_id, 20 + user_id % 50, NAMES[user_id % len(NAMES)])
    open_page(page, system.start_dashboard(system.api_url))
    turn_to(page, "Users", "Users")
    expect(page.get_by_text("Page 1 of 2, 100 users of 150")).to_be_visible()
    expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()
    return page


def test_a_user_is_created_found_changed_and_deleted(system: System, users: Page) -> None:
    """The dialogs stay open with the API's message until the API accepts the change."""
    users.get_by_role("button", name="Add a user").click()
    dialog = users.get_by_role("dialog")
    dialog.get_by_label("Id").fill("7")
    dialog.get_by_label("Name").fill("Grace")
    picture(users, "create")
    check_accessibility(users)
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_text("User 7 already exists")).to_be_visible()
    check_both(users, "refused")
    dialog.get_by_label("Id").fill("7000")
    dialog.get_by_role("button", name="Create").click()
    expect(users.get_by_text("The user was created.")).to_be_visible()

    search = users.get_by_label("Find by id or name (among all users)")
    search.fill("7000")
    search.press("Enter")
    expect(users.get_by_text("1 user selected")).to_be_visible()
    users.get_by_role("button", name="Edit").click()
    dialog.get_by_label("Name").fill("Grace Hopper")
    dialog.get_by_role("button", name="Save").click()
    expect(users.get_by_text("User 7000 was changed.")).to_be_visible()
    assert system.http.get(f"{system.api_url}/users/7000").json()["name"] == "Grace Hopper"

    users.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_text("User 7000: Grace Hopper, 30 years old.")).to_be_visible()
    picture(users, "delete")
    dialog.get_by_role("button", name="Delete for good").click()
    expect(users.get_by_text("No user has this id or name.")).to_be_visible()
    assert system.http.get(f"{system.api_url}/users/7000").status_code == 404


def download(page: Page, label: str) -> list[list[str]]:
    """Click a button that downloads a CSV file, and return its rows without the heading."""
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    return list(csv.reader(download.value.path().read_text("utf-8-sig").splitlines()))[1:]


def test_users_are_listed_and_downloaded(users: Page) -> None:
    """Two pages, a row selected with the mouse, a file, and all of it on a phone."""
    check_both(users, "users")
    users.get_by_role("button", name="Next").click()
    expect(users.get_by_text("Page 2 of 2, 50 users of 150")).to_be_visible()
    choose_first_row(users)
    shown = download(users, "CSV: 50 users")
    assert len(shown) == 50
    assert "'=1+2" in {row[1] for row in shown}
    users.set_viewport_size(PHONE)
    picture(users, "users-phone")
    assert users.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_protected_api_needs_its_token(system: System, page: Page) -> None:
    """Without API_TOKEN the dashboard says why nothing was changed; with it, things can be."""
    token = "a-token-for-this-test"  # noqa: S105
    system.start_api(API_TOKEN=token)
    system.create(1, 30, token=token)
    for variables in ({}, {"API_TOKEN": token}):
        open_page(page, system.start_dashboard(system.api_url, **variables))
        turn_to(page, "Users", "Users")
        expect(page.get_by_text("1 user selected")).to_be_visible()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete for good").click()
        if not variables:
            why = page.get_by_text("API refuses (status 401). Nothing was changed")
            expect(why).to_be_visible()
            picture(page, "token-needed")
    expect(page.get_by_text("User 1 was deleted.")).to_be_visible()
    assert token not in page.content()


def test_system(system: System, page: Page) -> None:
    """The picture of the three services, with their state as it is now, and on a phone."""
    api = system.start_api()
    open_page(page, system.start_dashboard(system.api_url))
    turn_to(page, "System", "The system")
    expect(page.get_by_text("Alive and ready").first).to_be_visible()
    system.create(1, 30)
    expect(page.get_by_text("Users arrive")).to_be_visible()
    picture(page, "system")
    check_accessibility(page)
    page.emulate_media(color_scheme="dark")
    picture(page, "system-dark")
    check_accessibility(page)
    api.stop()
    expect(page.get_by_text("API down").first).to_be_visible()
    picture(page, "system-down-dark")
    page.set_viewport_size(PHONE)
    picture(page, "system-phone")
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= PHONE["width"]


def test_each_other_state(system: System, page: Page, misbehaving: str) -> None:
    """Loading, refused, not understood and stale look and read differently; none takes 6 s."""
    url = system.start_dashboard(misbehaving)
    Misbehaving.mode = "silent"
    open_page(page, url)
    expect(page.locator(".title").get_by_text("Loading")).to_be_visible()
    began = time.monotonic()
    picture(page, "loading")
    expect(page.get_by_text("API down").first).to_be_visible()
    assert time.monotonic() - began < 6
    for mode, words in (
        ("refuses", "API refuses"),
        ("not understood", "Not understood"),
        ("fails", "API error"),
        ("live", "Live, updated"),
    ):
        Misbehaving.mode = mode
        expect(page.get_by_text(words).first).to_be_visible()
        picture(page, mode.replace(" ", "-"))
    page.goto("about:blank")  # no viewer for a while
    Misbehaving.mode = "slow"
    page.wait_for_timeout(6_500)
    open_page(page, url)
    expect(page.get_by_text("Stale, last response").first).to_be_visible(timeout=6_000)
    picture(page, "stale")
    page.set_viewport_size(PHONE)
    picture(page, "phone")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_slow_write(system: System, page: Page, misbehaving: str) -> None:
    """While the API is asked the page says so, and a second click writes nothing twice."""
    open_page(page, system.start_dashboard(misbehaving))
    turn_to(page, "Users", "Users")
    page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Id").fill("7")
    dialog.get_by_label("Name").fill("Grace")
    create = dialog.get_by_role("button", name="Create")
    create.dblclick()
    expect(dialog.get_by_text("Waiting for the API")).to_be_visible()
    expect(create).to_be_disabled()
    picture(page, "writing")
    Misbehaving.written.set()
    expect(page.get_by_text("The user was created.")).to_be_visible()
    assert len(Misbehaving.writes) == 1


def test_the_pictures_of_the_documents(system: System, page: Page) -> None:
    """With users arriving, each page is as the documents show it, and no picture is a heavy one.

    Only with `lab.py test --long` does it wait for four bars of the past, and for the colours.
    """
    system.start_api()
    seeded = {"API_BASE_URL": system.api_url, "SIMULATION_SEED": "7"}
    system.run("data_ingestion_simulator", "main", SIMULATION_COUNT="1200", **seeded)
    ages = f"{system.api_url}/stats/ages"
    wait_until("1,200 users", lambda: system.http.get(ages).json()["total"] == 1_200)
    open_page(page, system.start_dashboard(system.api_url))
    seeded["SIMULATION_SEED"] = "8"
    system.run("data_ingestion_simulator", "main", SIMULATION_RATE="3", **seeded)
    page.wait_for_timeout(62_000 if LONG else 0)  # until there are four bars of fifteen seconds
    pictures = []
    titles = {"live": "Ages of the users", "users": "Users", "system": "The system"}
    for name, title in titles.items():
        turn_to(page, name.capitalize(), title)
        expect(page.get_by_text("Live, updated").or_(page.get_by_text("Loaded"))).to_be_visible()
        if name == "users":
            expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(4_500 if LONG else 0)  # until the server has coloured the charts
            pictures.append(picture(page, f"documents/{name}{'-dark' if scheme == 'dark' else ''}"))
    page.emulate_media(color_scheme="light")
    turn_to(page, "Live", titles["live"])
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(4_500 if LONG else 0)
    pictures.append(picture(page, "documents/live-phone"))
    assert all(10_000 < each.stat().st_size < 150_000 for each in pictures)
