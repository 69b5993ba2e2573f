"""An API and dashboards for tests in a browser, and how a page is photographed and checked."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx2
from conftest import Terminal, free_port, service_python, wait_until
from playwright.sync_api import Locator, Page, ViewportSize, expect

from tools.processes import ROOT

PICTURES = ROOT / ".lab" / "pictures"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
LAPTOP: ViewportSize = {"width": 1024, "height": 768}
TABLET: ViewportSize = {"width": 820, "height": 1180}
PHONE: ViewportSize = {"width": 390, "height": 844}
ZOOMED: ViewportSize = {"width": 720, "height": 450}  # a window of 1440 x 900 at 200 %


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
    """An API that responds to every GET as `mode` says, and takes its time for a write."""

    mode = "live"
    released = threading.Event()
    written = threading.Event()
    writes: ClassVar[list[str]] = []

    @classmethod
    @contextlib.contextmanager
    def serve(cls) -> Iterator[str]:
        """Yield the address of such an API; its mode is "live" at first."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), cls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.mode = "live"
        cls.released.clear()
        cls.written.clear()
        cls.writes.clear()
        yield f"http://localhost:{server.server_port}"
        cls.released.set()
        server.shutdown()
        server.server_close()

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
            self.written.wait(4)
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class System:
    """A real API and dashboards, each in a terminal."""

    def __init__(self) -> None:
        self.http = httpx2.Client(timeout=10, trust_env=False)
        self.opened: list[Terminal] = []
        self.api_port = free_port()
        self.dashboard_port: int | None = None  # None: another one for each dashboard
        self.api_url = f"http://localhost:{self.api_port}"

    def run(self, service: str, *command: str, **variables: str) -> Terminal:
        return self.open(service_python(service), "-m", *command, folder=service, **variables)

    def open(self, *command: str, folder: str | Path = ROOT, **variables: str) -> Terminal:
        self.opened.append(Terminal(list(command), folder, **variables))
        return self.opened[-1]

    def run_python(self, service: str, program: str, *arguments: str, **variables: str) -> Terminal:
        """Run a program in the folder and with the libraries of a service."""
        command = [service_python(service), "-c", program, *arguments]
        return self.open(*command, folder=service, **variables)

    def start_api(self, **variables: str) -> Terminal:
        port = str(self.api_port)
        api = self.run("api", "uvicorn", "main:app", "--port", port, **variables)
        wait_until("the API", lambda: self.responds(f"{self.api_url}/health"))
        return api

    def start_dashboard(self, api_url: str, **variables: str) -> str:
        url = f"http://localhost:{self.dashboard_port or free_port()}"
        words = ("streamlit", "run", "app.py", "--server.port", url.rpartition(":")[2])
        self.run("frontend", *words, API_URL=f"{api_url}/users/", **variables)
        wait_until("the dashboard", lambda: self.responds(f"{url}/_stcore/health"))
        return url

    def responds(self, url: str) -> bool:
        try:
            return self.http.get(url).status_code == 200
        except httpx2.TransportError:
            return False

    def create(self, user_id: int, age: int, name: str = "Alice", token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        params: dict[str, str | int] = {"user_id": user_id, "name": name, "age": age}
        response = self.http.post(f"{self.api_url}/users/", params=params, headers=headers)
        assert response.status_code == 201

    def asked_for_ages(self) -> int:
        """Return how often the API was asked for the age counts, as it counts it itself."""
        metrics = self.http.get(f"{self.api_url}/metrics").text
        pattern = r'^api_requests_total\{[^}]*route="/stats/ages"[^}]*\} (\d+)'
        return sum(map(int, re.findall(pattern, metrics, re.M)))

    def close(self) -> None:
        for each in self.opened:
            each.kill()
        self.http.close()


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


def check_accessibility(page: Page) -> None:
    """Fail when axe finds anything, by any of its rules, that does not go away.

    While a page is drawn again, Streamlit shows what is old in a pale colour.
    """
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    deadline = time.monotonic() + 20
    while problems := violations(page):
        assert time.monotonic() < deadline, "\n".join(problems)
        page.wait_for_timeout(500)


def violations(page: Page) -> list[str]:
    """Return what axe finds now."""
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{violation['id']}: {node['target']} {node['html'][:300]}"
        for violation in found
        for node in violation["nodes"]
    ]


def check_both(page: Page, name: str) -> None:
    """Photograph and check a state in the dark and in the light."""
    page.emulate_media(color_scheme="dark")
    picture(page, f"{name}-dark")
    check_accessibility(page)
    page.emulate_media(color_scheme="light")
    picture(page, name)
    check_accessibility(page)


def total(page: Page) -> Locator:
    """Return the number of users in the headline of the live page."""
    return page.locator(".headline .users b")


def check_tooltips(page: Page, system: System) -> None:
    """Fail when the tooltip of a bar is closed while a new user arrives."""
    tooltip = page.locator("#vg-tooltip-element")
    charts = page.get_by_test_id("stVegaLiteChart")
    for number, chart in enumerate((charts.first, charts.last)):
        page.mouse.move(0, 0)
        expect(tooltip).to_be_hidden()  # that of the chart before
        box = chart.bounding_box()
        assert box
        for step in range(200):  # the bars of the second chart are at its right end
            part = step / 200 if chart == charts.first else 1 - step / 200
            page.mouse.move(box["x"] + box["width"] * part, box["y"] + box["height"] * 0.7)
            page.wait_for_timeout(30)
            if tooltip.is_visible():
                break
        users = int(total(page).inner_text().replace(",", ""))
        system.create(1_000 + number, 33)
        expect(total(page)).to_have_text(str(users + 1))
        expect(tooltip).to_be_visible(timeout=1)
    page.mouse.move(0, 0)


def check_tables(page: Page) -> None:
    """Fail unless each chart has its numbers as a table and a file, which the keyboard opens."""
    for number, column in enumerate(("Share", "Per minute")):
        button = page.get_by_role("button", name="Numbers").nth(number)
        button.press("Enter")
        expect(page.get_by_test_id("stTable").get_by_text(column)).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        assert column in download.value.path().read_text("utf-8")
        picture(page, f"numbers-{number}")
        check_accessibility(page)
        page.keyboard.press("Escape")


def check_fits(page: Page) -> None:
    """Fail when the live page scrolls, in either direction."""
    script = "() => { const main = document.querySelector('[data-testid=stMain]');"
    script += " return [main.scrollHeight - main.clientHeight,"
    script += " document.documentElement.scrollWidth - innerWidth]; }"
    assert page.evaluate(script) == [0, 0], page.viewport_size
