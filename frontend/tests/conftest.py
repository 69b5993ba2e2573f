"""An API on a free loopback port that responds as a test tells it to, well or badly."""

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import streamlit
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import api_client
import history
import monitor
import system_page
import users_page
import widgets
from api_client import ApiClient
from settings import Settings

APP = Path(__file__).parent.parent / "app.py"
DEADLINE_SECONDS = 40

Responder = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request: the response that the test has put at its path is written to it."""

    server: "Server"

    responded = 0  # times on this connection

    def setup(self) -> None:
        super().setup()
        self.server.api.connections += 1

    def do_GET(self) -> None:
        self.server.api.paths.append(self.path)
        self._respond(self.path)

    def do_write(self) -> None:
        """Send what is at the method with the path, whatever the query is."""
        token = self.headers.get("Authorization")
        self.server.api.writes.append((self.command, self.path, token))
        if self.command != "POST":
            self.server.api.if_match.append(self.headers.get("If-Match"))
        self._respond(f"{self.command} {self.path.partition('?')[0]}")

    do_POST = do_PUT = do_DELETE = do_write  # noqa: N815 - the names that http.server looks for

    def _respond(self, key: str) -> None:
        responder = self.server.api.responders.get(key, data({"detail": "Not Found"}, status=404))
        # The client hangs up, as it should, when a response is too long or too slow.
        with contextlib.suppress(OSError):
            responder(self)
        self.responded += 1

    def write(self, raw: bytes) -> None:
        self.wfile.write(raw)
        self.wfile.flush()

    def stopped_within(self, seconds: float) -> bool:
        return self.server.api.stopping.wait(seconds)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Keeping(Exchange):
    """One connection that is kept for more requests, as a real API keeps it."""

    protocol_version = "HTTP/1.1"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: "Api", port: int) -> None:
        self.api = api
        super().__init__(("127.0.0.1", port), api.exchange)


class Api:
    """The API of a test. `responders` by path; `paths` of the GETs so far.

    `writes` are method, path and credentials of the other requests, `if_match` their condition.
    """

    def __init__(self, exchange: type[Exchange] = Exchange) -> None:
        self.exchange = exchange
        self.connections = 0
        self.responders: dict[str, Responder] = {}
        self.paths: list[str] = []
        self.writes: list[tuple[str, str, str | None]] = []
        self.if_match: list[str | None] = []
        self.port = 0
        self._clients: list[ApiClient] = []
        self.start()

    @property
    def settings(self) -> Settings:
        return Settings(api_url=f"http://127.0.0.1:{self.port}/users/")

    @property
    def statistics_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stats/ages"

    @property
    def client(self) -> ApiClient:
        """Return a new client, whose connections are closed when this stops."""
        self._clients.append(ApiClient(self.settings.api_url))
        return self._clients[-1]

    def start(self) -> None:
        """Listen; after a stop() on the same port as before."""
        self.stopping = threading.Event()
        self._server = Server(self, self.port)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Close every connection, and refuse new ones."""
        if self._thread.is_alive():
            self.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def close(self) -> None:
        """Stop, and close the connections of all clients."""
        self.stop()
        for client in self._clients:
            client._http.close()

    def counts(self, users_by_age: dict[int, int]) -> None:
        total = sum(users_by_age.values())
        self.responders["/stats/ages"] = data({"total": total, "ages": users_by_age})

    def pages(self, *pages: dict[int, object]) -> None:
        """List users page by page, each with a link to the one after it."""
        query = "?limit=100"
        for page, following in itertools.zip_longest(pages, pages[1:]):
            headers = {"Content-Type": "application/json"}
            next_query = f"?limit=100&after={max(page, default=0)}"
            if following is not None:
                headers["Link"] = f'</users/{next_query}>; rel="next"'
            self.responders[f"/users/{query}"] = headed(json.dumps(page).encode(), 200, headers)
            query = next_query

    def lists(self, *rows: object) -> None:
        self.responders["/users/"] = data(dict(enumerate(rows)))


def data(content: Any, status: int = 200) -> Responder:
    """Respond with `content` as JSON."""
    return text(json.dumps(content), "application/json", status)


def text(content: str, media_type: str = "application/json", status: int = 200) -> Responder:
    """Respond with `content` as it is."""
    return headed(content.encode(), status, {"Content-Type": media_type})


def headed(body: bytes, status: int, headers: dict[str, str]) -> Responder:
    """Respond with the headers given and a right Content-Length."""

    def respond(exchange: Exchange) -> None:
        exchange.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            exchange.send_header(name, value)
        exchange.end_headers()
        exchange.write(body)

    return respond


def raw(*parts: bytes) -> Responder:
    """Write these bytes, which may be no HTTP at all, and hang up."""

    def respond(exchange: Exchange) -> None:
        exchange.close_connection = True
        for part in parts:
            exchange.write(part)

    return respond


def silence(exchange: Exchange) -> None:
    """Take the request and never respond."""
    exchange.stopped_within(DEADLINE_SECONDS)


def stale(responder: Responder) -> Responder:
    """Respond to the first request on a connection, and hang up on the second."""

    def first_only(exchange: Exchange) -> None:
        if exchange.responded:
            exchange.close_connection = True
        else:
            responder(exchange)

    return first_only


def trickle(start: bytes, drop: bytes) -> Responder:
    """Write `start`, and then `drop` every 0.1 s without end."""

    def respond(exchange: Exchange) -> None:
        exchange.write(start)
        while not exchange.stopped_within(0.1):
            exchange.write(drop)

    return respond


class Clock:
    """The clock of the pages, which stands still until a test moves it."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time passes for the pages when a test says so: no test waits for a tick."""
    for module in (api_client, history, monitor, system_page, users_page, widgets):
        monkeypatch.setattr(module, "now", CLOCK)
    CLOCK.seconds = 0.0
    return CLOCK


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds; fail when it does not within DEADLINE_SECONDS.

    Between two looks half a second passes for the pages.
    """
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        threading.Event().wait(0.02)
        CLOCK.pass_by(0.5)


@pytest.fixture
def api() -> Iterator[Api]:
    """An API that knows no path yet, stopped after the test."""
    api = Api()
    yield api
    api.close()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is an error sooner; another test proves the real limit."""
    monkeypatch.setattr(api_client, "SILENCE_TIMEOUT_SECONDS", 0.8)


@pytest.fixture
def page(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """The page of a process that has just started, with API_URL set."""
    monkeypatch.setenv("API_URL", api.settings.api_url)
    streamlit.cache_resource.clear()
    yield AppTest.from_file(APP, default_timeout=DEADLINE_SECONDS)
    api.stop()
    streamlit.cache_resource.clear()


def turn_to(page: AppTest, name: str) -> AppTest:
    """Open another page of the dashboard, as its link does."""
    page._page_hash = calc_hash(name)
    return page.run()


def html_of(page: AppTest) -> str:
    """Return all HTML of our own on the page."""
    return "\n".join(str(each.proto.body) for each in page.get("html"))


def badges(page: AppTest) -> list[str]:
    """Return each badge outside the strip: its colour and its text."""
    outside = re.sub("<ol aria-label=.*?</ol>", "", html_of(page))
    found = re.findall(r'<span class="badge (\w+)"><i></i><span[^>]*>(.*?)</span>', outside)
    return [f"{colour}: {text}" for colour, text in found]


def badge(page: AppTest) -> str:
    """Return the badge of the page: its colour and its text."""
    return badges(page)[0]


def strip(page: AppTest) -> dict[str, str]:
    """Return the state of each service in the strip of the header, as `colour: text`."""
    pattern = r'<li><b>(\w+)</b><span class="badge (\w+)"><i></i><span[^>]*>(.*?)</span>'
    return {name: f"{colour}: {text}" for name, colour, text in re.findall(pattern, html_of(page))}


def errors(page: AppTest) -> list[str]:
    """Return the line of each error that is shown."""
    return [each.label for each in page.expander]


def texts(page: AppTest) -> list[str]:
    """Return each line of plain text, and each line of a card."""
    lines = [line for each in page.text for line in str(each.value).splitlines()]
    return lines + [unescape(line) for line in re.findall("<p>(.*?)</p>", html_of(page))]


def redraw_until(page: AppTest, words: str) -> None:
    """Redraw the page, as its timer does in a browser, until its state has these words."""
    until(lambda: words in badge(page.run()))
    assert not page.exception
