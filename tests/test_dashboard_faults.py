"""The dashboard in unlucky hands: stopped, renamed, translated, half loaded, hurried."""

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from conftest import free_port, open_page
from dashboard import (
    DESKTOP,
    LAPTOP,
    PHONE,
    PICTURES,
    TABLET,
    ZOOMED,
    System,
    picture,
    total,
    turn_to,
)
from playwright.sync_api import Browser, Page, Route, expect

TICKS = 60 if os.environ.get("LAB_LONG") else 8
STOP, CONTINUE = (getattr(signal, name, signal.SIGTERM) for name in ("SIGSTOP", "SIGCONT"))
TRANSLATE = """() => {
    const app = document.querySelector(".stApp");
    const walker = document.createTreeWalker(app, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
        if (!text.data.trim() || text.parentElement.closest("font, style, script")) continue;
        const outer = document.createElement("font"), inner = document.createElement("font");
        inner.textContent = text.data.replace(/users/g, "Nutzer");
        outer.append(inner);
        text.replaceWith(outer);
    }
}"""


# What React does with a node that a translator has moved.
MOVED = """() => {
    const [old, other] = [document.createElement("p"), document.createElement("font")];
    const text = document.createTextNode("1 user");
    old.append(text);
    other.append(text);
    old.insertBefore(document.createTextNode("2 users"), text);
    old.removeChild(text);
    if (text.parentNode || old.textContent !== "2 users") throw new Error("not removed");
}"""


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page; `page.errors` are what its scripts complain of."""
    context = browser.new_context(viewport=DESKTOP)
    yield context.new_page()
    context.close()


def live(system: System, page: Page, users: int = 60) -> str:
    """Open the live page of an API with users, and return the address of the dashboard."""
    system.start_api()
    for user_id in range(users):
        system.create(user_id, user_id % 90)
    url = system.start_dashboard(system.api_url)
    open_page(page, url)
    expect(total(page)).to_have_text(str(users))
    canvas = page.locator("[data-testid=stVegaLiteChart] canvas").nth(1)
    with suppress(AssertionError):  # a change of this machine's network stops a script's loading
        expect(canvas).to_be_visible(timeout=10_000)
        return url
    page.reload()
    expect(canvas).to_be_visible()
    return url


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process for a while")
def test_a_dashboard_that_stops_is_not_shown_as_live(system: System, page: Page) -> None:
    """The browser itself ages the badge, and takes it back when the dashboard goes on."""
    live(system, page)
    dashboard = system.opened[-1].process
    dashboard.send_signal(STOP)
    try:
        expect(page.locator(".title")).to_contain_text("No news for", timeout=15_000)
        expect(page.locator("[aria-label=Services]")).to_contain_text("No news for")
        picture(page, "stopped")
    finally:
        dashboard.send_signal(CONTINUE)
    expect(page.locator(".title")).to_contain_text("Live, updated")
    expect(page.locator("[aria-label=Services]")).not_to_contain_text("No news for")


def test_escape_closes_a_dialog_after_a_refused_write(system: System, page: Page) -> None:
    """Wherever the focus is."""
    live(system, page)
    turn_to(page, "Users", "Users")
    page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Id").fill("1")
    dialog.get_by_label("Name").fill("Grace")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_text("User 1 already exists")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


class Forwarder:
    """A port that leads to a dashboard, and calls the dashboard by its own name (the Host).

    It replaces the path /lab/ by the `prefix`.
    """

    def __init__(self, port: int, prefix: bytes = b"/lab/") -> None:
        self._to, self._prefix = port, prefix
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._start(self._serve)

    def _start(self, work: Callable[..., None], *given: socket.socket) -> None:
        threading.Thread(target=work, args=given, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self._listener.accept()[0], socket.socket()
                self._sockets += [client, server]
                try:
                    server.connect(("127.0.0.1", self._to))
                except OSError:  # the dashboard starts again
                    client.close()
                    continue
                self._start(self._pass, client, server)
                self._start(self._pass, server, client)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                host = b"\r\nHost: localhost:%d\r\n" % self._to
                data = re.sub(rb"\r\nHost: [^\r]*\r\n", host, data, count=1)
                target.sendall(re.sub(rb"^([A-Z]+ )/lab/", rb"\1" + self._prefix, data))
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_an_unknown_name_is_refused_with_the_variable_to_set(system: System, page: Page) -> None:
    """Within five seconds the page says what to do, and that is enough."""
    system.start_api()
    url = system.start_dashboard(system.api_url).replace("localhost", "users.localhost")
    sentence = page.get_by_role("alert")
    page.goto(url)
    expect(sentence).to_contain_text(f"Set PUBLIC_URL to {url},", timeout=5_000)
    picture(page, "refused")
    known = system.start_dashboard(system.api_url, PUBLIC_URL="http://users.localhost")
    open_page(page, known.replace("localhost", "users.localhost"))
    expect(sentence).to_be_hidden()


def test_a_proxy_that_changes_the_name(system: System, page: Page) -> None:
    """PUBLIC_URL is what the page names, and what helps."""
    system.start_api()
    port = free_port()
    forwarder = Forwarder(port)
    outside = f"http://users.localhost:{forwarder.port}"
    words = ("streamlit", "run", "app.py", "--server.port", str(port))
    url = f"{system.api_url}/users/"
    dashboard = system.run("frontend", *words, API_URL=url)
    dashboard.wait_for("URL: http")
    page.goto(outside)
    told = f"Set PUBLIC_URL to {outside},"
    expect(page.get_by_role("alert")).to_contain_text(told, timeout=5_000)
    dashboard.stop()
    system.run("frontend", *words, API_URL=url, PUBLIC_URL=outside).wait_for("URL: http")
    open_page(page, outside)
    expect(page.get_by_role("alert")).to_be_hidden()
    forwarder.close()


@pytest.mark.parametrize("prefix", [b"/lab/", b"/"], ids=["left", "removed"])
def test_a_path_prefix(system: System, page: Page, prefix: bytes) -> None:
    """Links carry the path of PUBLIC_URL, whether the proxy leaves it in the requests or not."""
    system.start_api()
    system.create(1, 30)
    port = free_port()
    forwarder = Forwarder(port, prefix)
    outside = f"http://users.localhost:{forwarder.port}/lab"
    words = ("streamlit", "run", "app.py", "--server.port", str(port))
    public = {"API_URL": f"{system.api_url}/users/", "PUBLIC_URL": outside}
    system.run("frontend", *words, **public).wait_for("URL: http")
    open_page(page, f"{outside}/")
    expect(total(page)).to_have_text("1")
    turn_to(page, "System", "The system")
    expect(page).to_have_url(f"{outside}/system")
    page.reload()
    expect(page.get_by_role("heading", name="The system")).to_be_visible()
    turn_to(page, "Live", "Ages of the users")
    expect(total(page)).to_have_text("1")
    assert page.url.startswith(outside)
    forwarder.close()


def test_back_leads_to_the_page_before(system: System, page: Page) -> None:
    """However many choices were made on a page, they are in its address, and no steps back."""
    url = live(system, page)
    turn_to(page, "System", "The system")
    turn_to(page, "Live", "Ages of the users")
    for name, query in (("10", "bin=10"), ("2", "bin=2"), ("5 s", r"refresh=5")):
        page.get_by_role("radio", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(query))
    page.go_back()
    expect(page.get_by_role("heading", name="The system")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Ages of the users")).to_be_visible()
    assert page.url.startswith(url)


def test_a_script_that_does_not_load(system: System, page: Page) -> None:
    """A part that is missing is named, and a button loads the page again."""
    system.start_api()
    system.create(1, 30)
    url = system.start_dashboard(system.api_url)
    broken = True

    def fail_once(route: Route) -> None:
        route.abort() if broken else route.continue_()

    page.route(re.compile("ArrowVegaLiteChart.*[.]js"), fail_once)
    open_page(page, url)
    expect(page.locator("#sentence")).to_contain_text("A part of this page did not load.")
    broken = False
    page.get_by_role("button", name="Reload").click()
    expect(page.locator("[data-testid=stVegaLiteChart] canvas").first).to_be_visible()
    expect(page.locator("#sentence")).to_be_hidden()


def test_a_translated_page_goes_on(system: System, page: Page) -> None:
    """A translator replaces text nodes: no page stops, and the numbers stay true."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    live(system, page)
    page.evaluate(MOVED)
    for tick in range(TICKS):
        system.create(1_000 + tick, 30)
        page.evaluate(TRANSLATE)
        expect(total(page)).to_have_text(str(61 + tick))
    for name, title in (("Users", "Users"), ("System", "The system")):
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        page.evaluate(TRANSLATE)
        page.wait_for_timeout(4_500)
        page.evaluate(TRANSLATE)
    page.get_by_role("link", name="Live", exact=True).first.click()
    expect(total(page)).to_be_visible()
    assert errors == []
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_fast_keys_on_the_slider(system: System, page: Page) -> None:
    """Each press counts, and nothing jumps back at the next tick."""
    live(system, page)
    handle = page.get_by_role("slider").last
    for _ in range(30):
        handle.press("ArrowLeft", delay=5)
    expect(page.get_by_text("Ages 0 to 70: ")).to_be_visible()
    page.wait_for_timeout(4_500)
    expect(page.get_by_text("Ages 0 to 70: ")).to_be_visible()
    assert handle.input_value() == "70"


def test_ticks_keep_the_charts(system: System, page: Page) -> None:
    """New numbers move the bars: the canvas stays the same, and is never empty."""
    live(system, page)
    page.evaluate("""() => {
        window.empty = 0;
        window.kept = [...document.querySelectorAll("[data-testid=stVegaLiteChart] canvas")];
        const look = () => {
            const now = document.querySelectorAll("[data-testid=stVegaLiteChart] canvas");
            window.same = kept.length === now.length && kept.every((each, n) => each === now[n]);
            const pixels = kept[0].getContext("2d").getImageData(60, kept[0].height - 60,
                kept[0].width - 120, 1).data;
            if (!pixels.some((value, at) => at % 4 === 3 && value)) empty += 1;
            requestAnimationFrame(look);
        };
        look();
    }""")
    for tick in range(TICKS):
        system.create(1_000 + tick, tick * 7 % 90)
        expect(total(page)).to_have_text(str(61 + tick))
    assert page.evaluate("[window.same, window.empty]") == [True, 0]


ROWS = """() => {
    const rows = {};
    for (const card of document.querySelectorAll(".cards li, .headline li")) {
        const box = card.getBoundingClientRect();
        const key = [card.parentElement.parentElement.className, Math.round(box.top)];
        (rows[key] ||= []).push(Math.round(box.width));
    }
    return Object.values(rows);
}"""


@pytest.mark.parametrize("size", [DESKTOP, LAPTOP, TABLET, ZOOMED, PHONE])
def test_no_card_stands_alone(system: System, page: Page, size: dict[str, int]) -> None:
    """In each row the cards fill it: none is alone beside an empty place; nothing is cut."""
    live(system, page)
    page.set_viewport_size(size)  # type: ignore[arg-type]
    for name, title in (("Live", "Ages of the users"), ("System", "The system")):
        page.evaluate(f"""() => [...document.querySelectorAll("a")].find(
            (each) => each.innerText.trim() === "{name}")?.click()""")
        if size["width"] > 640:
            expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        page.wait_for_timeout(1_000)
        picture(page, f"{name.lower()}-at-{size['width']}")
        expect(page.locator("#sentence")).to_have_count(0)
        for row in page.evaluate(ROWS):
            whole = size["width"] - 100
            assert len(row) > 1 or row[0] > whole, (name, row)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= size["width"]


def test_the_outline_is_there_at_once(system: System, page: Page) -> None:
    """Before Streamlit's scripts have loaded, the page looks like the page."""
    system.start_api()
    system.create(1, 30)
    url = system.start_dashboard(system.api_url)

    def slowly(route: Route) -> None:
        time.sleep(2)
        route.continue_()

    page.route(re.compile("static/js/index"), slowly)
    page.goto(url, wait_until="commit")
    expect(page.locator("#outline")).to_be_visible(timeout=1_000)
    page.screenshot(path=PICTURES / "outline.png")
    expect(total(page)).to_be_visible()
    expect(page.locator("#outline")).to_be_hidden()


def test_presentation(system: System, page: Page) -> None:
    """With ?view=tv the page is large and has no controls."""
    url = live(system, page)
    open_page(page, f"{url}/?view=tv")
    expect(total(page)).to_have_css("font-size", "96px")
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("link", name="Users")).to_have_count(0)
    picture(page, "tv")
