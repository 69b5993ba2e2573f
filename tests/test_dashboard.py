"""The dashboard in a real browser, against the real API, and against one that misbehaves.

Each state is photographed to `.lab/pictures/`, and what the documents show to
`.lab/pictures/documents/`. No rule of axe is left out.
"""

import contextlib
import csv
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx2
import pytest
from conftest import Terminal, free_port, open_page, service_python, wait_until
from playwright.sync_api import Browser, Error, Page, ViewportSize, WebSocketRoute, expect

from tools.processes import ROOT

PICTURES = ROOT / ".lab" / "pictures"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
DESKTOP: ViewportSize = {"width": 1200, "height": 1000}
PHONE: ViewportSize = {"width": 390, "height": 844}
NAMES = ("Alice Meyer", "Bob Okafor", "Carla Rossi", "D'Arcy Flint", "Zoë Ångström", "=1+2")


# Charts and tables are drawn on these; how many colours there are on one, up to a few.
CANVASES = "[data-testid=stVegaLiteChart] canvas, [data-testid=data-grid-canvas]"
COLOURS = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    for (let at = 0; at < pixels.length && seen.size < 9; at += 4)
        seen.add(pixels.slice(at, at + 4).join());
    return seen.size;
}"""


class Misbehaving(BaseHTTPRequestHandler):
    """An API that answers every GET as `mode` says, and takes its time for a write."""

    mode = "live"
    released = threading.Event()
    writes: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        status, body = 200, b'{"total": 3, "ages": {"30": 1, "41": 2}}'
        if self.path.startswith("/users/"):
            body = b'{"1": {"name": "Alice", "age": 30}}'
        if self.mode == "silent":
            self.released.wait(10)
        elif self.mode == "refuses":
            status, body = 403, b'{"detail": "Ask the **owner** of this API"}'
        elif self.mode == "not understood":
            body = b'{"total": "many"}'
        elif self.mode == "fails":
            status, body = 500, b'{"detail": "Something broke"}'
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.mode == "slow" and self.released.wait(0.1):
                    return

    def do_POST(self) -> None:
        status = 422
        if "user_id" in self.path:
            status = 201
            self.writes.append(self.path)
            self.released.wait(1.5)
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class System:
    """A real API and dashboards, each in a terminal of its own."""

    def __init__(self) -> None:
        self.http = httpx2.Client(timeout=10, trust_env=False)
        self._opened: list[Terminal] = []
        self.api_port = free_port()
        self.api_url = f"http://localhost:{self.api_port}"

    def run(self, service: str, *command: str, **variables: str) -> Terminal:
        python = service_python(service)
        self._opened.append(Terminal([python, "-m", *command], service, **variables))
        return self._opened[-1]

    def start_api(self, **variables: str) -> Terminal:
        port = str(self.api_port)
        api = self.run("api", "uvicorn", "main:app", "--port", port, **variables)
        wait_until("the API", lambda: self.answers(f"{self.api_url}/health"))
        return api

    def start_dashboard(self, api_url: str, **variables: str) -> str:
        url = f"http://localhost:{free_port()}"
        words = ("streamlit", "run", "app.py", "--server.port", url.rpartition(":")[2])
        self.run("frontend", *words, API_URL=f"{api_url}/users/", **variables)
        wait_until("the dashboard", lambda: self.answers(f"{url}/_stcore/health"))
        return url

    def answers(self, url: str) -> bool:
        try:
            return self.http.get(url).status_code == 200
        except httpx2.TransportError:
            return False

    def create(self, user_id: int, age: int, name: str = "Alice", token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        params: dict[str, str | int] = {"user_id": user_id, "name": name, "age": age}
        answer = self.http.post(f"{self.api_url}/users/", params=params, headers=headers)
        assert answer.status_code == 201

    def asked_for_ages(self) -> int:
        """Return how often the API was asked for the age counts, as it counts it itself."""
        metrics = self.http.get(f"{self.api_url}/metrics").text
        pattern = r'^api_requests_total\{[^}]*route="/stats/ages"[^}]*\} (\d+)'
        return sum(map(int, re.findall(pattern, metrics, re.M)))

    def close(self) -> None:
        for each in self._opened:
            each.kill()
        self.http.close()


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


@pytest.fixture
def misbehaving() -> Iterator[str]:
    """Yield the address of an API that misbehaves as a test tells it to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Misbehaving.mode = "live"
    Misbehaving.released.clear()
    Misbehaving.writes.clear()
    yield f"http://localhost:{server.server_port}"
    Misbehaving.released.set()
    server.shutdown()
    server.server_close()


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


def picture(page: Page, name: str) -> Path:
    """Photograph the page once all is drawn and has come to rest."""
    wait_until(
        "every canvas is painted",
        lambda: all(each.evaluate(COLOURS) > 3 for each in page.locator(CANVASES).all()),
    )
    page.wait_for_timeout(400)
    path = PICTURES / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    return path


def turn_to(page: Page, name: str, title: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()


def drag_over_the_bars(page: Page, start: float = 0.3, end: float = 0.5) -> None:
    """Brush from one share of the chart's width to another."""
    box = page.get_by_test_id("stVegaLiteChart").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + start * box["width"], box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], box["y"] + 160, steps=5)
    page.mouse.up()


def check_accessibility(page: Page) -> None:
    """Fail when axe finds anything, by any of its rules."""
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    violations: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    problems = [
        f"{violation['id']}: {node['target']} {node['html'][:300]}"
        for violation in violations
        for node in violation["nodes"]
    ]
    assert not problems, "\n".join(problems)


def check_both(page: Page, name: str) -> None:
    """Photograph and check a state in the dark and in the light."""
    page.emulate_media(color_scheme="dark")
    picture(page, f"{name}-dark")
    check_accessibility(page)
    page.emulate_media(color_scheme="light")
    picture(page, name)
    check_accessibility(page)


def check_tooltips(page: Page, system: System) -> None:
    """Fail when what hangs over a bar goes away while it is looked at and users come in."""
    tooltip = page.locator("#vg-tooltip-element")
    charts = page.get_by_test_id("stVegaLiteChart")
    for number, chart in enumerate((charts.first, charts.last)):
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box
        for step in range(50):  # from the right, until there is a bar
            across = box["x"] + box["width"] * (0.99 - step / 100)
            page.mouse.move(across, box["y"] + box["height"] / 2)
            page.wait_for_timeout(100)
            if tooltip.is_visible():
                break
        system.create(1_000 + number, 33)
        page.wait_for_timeout(2.5 * 2_000)
        expect(tooltip).to_be_visible(timeout=1)
    charts.first.scroll_into_view_if_needed()


def test_live(system: System, page: Page) -> None:
    """Empty, live, brushed, paused, down and back; a new user is there within two refreshes."""
    api = system.start_api()
    url = system.start_dashboard(system.api_url)
    open_page(page, url)
    expect(page.get_by_text("No users yet")).to_be_visible()
    check_both(page, "empty")
    dice = random.Random(7)
    for user_id in range(300):
        system.create(user_id, min(95, int(dice.triangular(0, 95, 22))))
    total = page.get_by_test_id("stMetricValue").first
    expect(total).to_have_text("300")
    system.create(300, 33)
    expect(total).to_have_text("301", timeout=2 * 2_000 + 1_500)
    check_both(page, "live")

    check_tooltips(page, system)
    drag_over_the_bars(page)
    expect(page.get_by_text("years old on average")).to_be_visible()
    expect(page).to_have_url(re.compile("ages="))
    picture(page, "brushed")

    first, last = re.findall(r"\d+", page.get_by_text("years old on average").inner_text())[:2]
    assert int(first) % 5 == (int(last) + 1) % 5 == 0  # whole bins
    page.get_by_role("slider").last.press("ArrowRight")  # what the brush does, without a mouse
    one_more = f"From {first} to {int(last) + 1}: "
    expect(page.get_by_text(one_more)).to_be_visible()
    page.get_by_role("button", name="All ages").click()
    expect(page.get_by_text("years old on average")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("ages="))

    page.get_by_text("Pause", exact=True).click()
    expect(page.get_by_text("Paused, updated")).to_be_visible()
    expect(page).to_have_url(re.compile("paused=true"))
    picture(page, "paused")
    page.get_by_text("Pause", exact=True).click()
    expect(page.get_by_text("Live, updated")).to_be_visible()

    api.stop()
    expect(page.get_by_text("API down")).to_be_visible()
    expect(total).to_have_text("303")
    check_both(page, "down")
    system.start_api()
    expect(page.get_by_text("No users yet")).to_be_visible()


def test_a_brush_on_a_slow_line(system: System, page: Page) -> None:
    """What was brushed last stays chosen, though ticks left before the page saw its slider move."""
    system.start_api()
    for user_id in range(90):
        system.create(user_id, user_id)
    held: list[tuple[WebSocketRoute, str | bytes]] = []
    slow = threading.Event()

    def answer(socket: WebSocketRoute, message: str | bytes) -> None:
        if slow.is_set():
            held.append((socket, message))
        else:
            socket.send(message)

    def connect(socket: WebSocketRoute) -> None:
        socket.connect_to_server().on_message(lambda message: answer(socket, message))

    page.route_web_socket("**/_stcore/stream", connect)
    open_page(page, system.start_dashboard(system.api_url))
    expect(page.get_by_text("Live, updated")).to_be_visible()
    # The line above the chart comes first: held back, the chart would never come.
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    picture(page, "before-the-brush")
    slow.set()
    drag_over_the_bars(page)
    page.wait_for_timeout(1.5 * 2_000)
    drag_over_the_bars(page, 0.5, 0.7)
    page.wait_for_timeout(2.5 * 2_000)
    slow.clear()
    for socket, message in held:
        socket.send(message)
    expect(page.get_by_text("years old on average")).to_be_visible()
    page.wait_for_timeout(2 * 2_000)
    chosen = page.get_by_text("years old on average").inner_text()
    assert int(re.findall(r"\d+", chosen)[0]) >= 40, chosen


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "bGFiLWxhYi1sYWItbGFiIQ==",
}


@pytest.mark.parametrize(
    ("host", "variables", "status"),
    [
        ("localhost", {}, 101),
        ("127.0.0.1:8501", {}, 101),
        ("evil.example:8501", {}, 403),
        ("users.example", {"STREAMLIT_SERVER_ALLOWED_HOSTS": "localhost users.example"}, 101),
    ],
)
def test_by_another_name(system: System, host: str, variables: dict[str, str], status: int) -> None:
    """A page whose name was made to lead here (DNS rebinding) gets no session."""
    url = system.start_dashboard(system.api_url, **variables)
    with contextlib.closing(HTTPConnection("localhost", int(url.rpartition(":")[2]))) as line:
        headers = UPGRADE | {"Host": host, "Origin": f"http://{host}"}
        line.request("GET", "/_stcore/stream", headers=headers)

        assert line.getresponse().status == status


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
    """Click into the table until a user is chosen: a click before it is drawn is lost."""
    expect(page.get_by_test_id("stDataFrame").locator("canvas").first).to_be_visible()
    for _ in range(6):
        with contextlib.suppress(AssertionError, Error):  # for a moment there may be two tables
            page.get_by_test_id("stDataFrame").click(position={"x": 16, "y": 52}, timeout=4_000)
            expect(page.get_by_text("is chosen.")).to_be_visible(timeout=4_000)
            return
    raise AssertionError("no click into the table chose a user")


def test_users(system: System, page: Page, tmp_path: Path) -> None:
    """Search, page, create, edit, delete and download, and the words of the API in between."""
    system.start_api()
    for user_id in range(150):
        system.create(user_id, 20 + user_id % 50, NAMES[user_id % len(NAMES)])
    open_page(page, system.start_dashboard(system.api_url))
    turn_to(page, "Users", "Users")
    expect(page.get_by_text("Page 1, 100 users")).to_be_visible()
    expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()
    check_both(page, "users")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Page 2, 50 users")).to_be_visible()

    page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Id").fill("7")
    dialog.get_by_label("Name").fill("Grace")
    picture(page, "create")
    check_accessibility(page)
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_text("User 7 already exists")).to_be_visible()
    check_both(page, "refused")
    dialog.get_by_label("Id").fill("7000")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_text("The user was created.")).to_be_visible()

    search = page.get_by_label("Find by id (among all users)")
    search.fill("7000")
    search.press("Enter")
    expect(page.get_by_text("User 7000 is chosen.")).to_be_visible()
    page.get_by_role("button", name="Edit").click()
    dialog.get_by_label("Name").fill("Grace Hopper")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("User 7000 was changed.")).to_be_visible()
    assert system.http.get(f"{system.api_url}/users/7000").json()["name"] == "Grace Hopper"
    page.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_text("User 7000: Grace Hopper, 30 years old.")).to_be_visible()
    picture(page, "delete")
    dialog.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("Nobody has this id")).to_be_visible()
    assert system.http.get(f"{system.api_url}/users/7000").status_code == 404

    search.fill("")
    search.press("Enter")
    page.get_by_label("Filter this page by name or age").fill("=1")
    page.get_by_label("Filter this page by name or age").press("Enter")
    choose_first_row(page)
    page.get_by_text("Download", exact=True).click()
    with page.expect_download() as download:
        page.locator(".st-key-shown-csv").get_by_role("button").click()
    download.value.save_as(tmp_path / "users.csv")
    text = (tmp_path / "users.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.reader(text.splitlines()))
    assert len(rows) > 1
    assert {row[1] for row in rows[1:]} == {"'=1+2"}
    page.get_by_role("button", name="Collect everybody").click()
    expect(page.get_by_text("150 users: all there are")).to_be_visible()
    with page.expect_download() as download:
        page.locator(".st-key-all-json").get_by_role("button").click()
    download.value.save_as(tmp_path / "users.json")
    everybody = json.loads((tmp_path / "users.json").read_text(encoding="utf-8"))
    assert everybody == system.http.get(f"{system.api_url}/users/").json()
    picture(page, "download")
    page.set_viewport_size(PHONE)
    picture(page, "users-phone")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_protected_api_is_read_only_without_its_token(system: System, page: Page) -> None:
    """Without API_TOKEN the dashboard says that nothing can be changed; with it, things can."""
    token = "a-token-for-this-test"  # noqa: S105
    system.start_api(API_TOKEN=token)
    system.create(1, 30, token=token)
    for variables in ({}, {"API_TOKEN": token}):
        open_page(page, system.start_dashboard(system.api_url, **variables))
        turn_to(page, "Users", "Users")
        expect(page.get_by_text("User 1 is chosen.")).to_be_visible()
        if not variables:
            expect(page.get_by_text("Read-only")).to_be_visible()
            picture(page, "read-only")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("User 1 was deleted.")).to_be_visible()
    assert token not in page.content()


def test_system(system: System, page: Page) -> None:
    """The picture of the three services, with their state as it is now, and on a phone."""
    api = system.start_api()
    open_page(page, system.start_dashboard(system.api_url))
    turn_to(page, "System", "The system")
    expect(page.get_by_text("Alive and ready")).to_be_visible()
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
    expect(page.get_by_text("Loading")).to_be_visible()
    began = time.monotonic()
    picture(page, "loading")
    expect(page.get_by_text("API down")).to_be_visible()
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
    page.goto("about:blank")  # nobody looks for a while
    Misbehaving.mode = "slow"
    page.wait_for_timeout(6_500)
    open_page(page, url)
    expect(page.get_by_text("Stale, last answer")).to_be_visible(timeout=6_000)
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
    expect(dialog.get_by_text("Asking the API")).to_be_visible()
    expect(create).to_be_disabled()
    picture(page, "writing")
    expect(page.get_by_text("The user was created.")).to_be_visible()
    assert len(Misbehaving.writes) == 1


def test_the_pictures_of_the_documents(system: System, page: Page) -> None:
    """With users arriving, each page is as the documents show it, and no picture is a heavy one."""
    system.start_api()
    seeded = {"API_BASE_URL": system.api_url, "SIMULATION_SEED": "7"}
    system.run("data_ingestion_simulator", "main", SIMULATION_COUNT="1200", **seeded)
    ages = f"{system.api_url}/stats/ages"
    wait_until("1,200 users", lambda: system.http.get(ages).json()["total"] == 1_200)
    open_page(page, system.start_dashboard(system.api_url))
    seeded["SIMULATION_SEED"] = "8"
    system.run("data_ingestion_simulator", "main", SIMULATION_RATE="3", **seeded)
    page.set_viewport_size({"width": 1200, "height": 1290})
    page.wait_for_timeout(32_000)  # until there are three bars of ten seconds
    pictures = []
    titles = {"live": "Ages of the users", "users": "Users", "system": "The system"}
    for name, title in titles.items():
        turn_to(page, name.capitalize(), title)
        expect(page.get_by_text("Live, updated").or_(page.get_by_text("Loaded"))).to_be_visible()
        if name == "users":
            expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            pictures.append(picture(page, f"documents/{name}{'-dark' if scheme == 'dark' else ''}"))
        page.set_viewport_size({"width": 1200, "height": 860})
    page.emulate_media(color_scheme="light")
    turn_to(page, "Live", titles["live"])
    page.set_viewport_size(PHONE)
    pictures.append(picture(page, "documents/live-phone"))
    assert all(10_000 < each.stat().st_size < 150_000 for each in pictures)
