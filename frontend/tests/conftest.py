"""An API on a free loopback port that answers as a test tells it to, well or badly."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from settings import Settings

DEADLINE_SECONDS = 15

Answer = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request: the answer that the test has put at its path is written to it."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.api.paths.append(self.path)
        answer = self.server.api.answers.get(self.path, data({"detail": "Not Found"}, status=404))
        # The client hangs up, as it should, when an answer is too long or too slow.
        with contextlib.suppress(OSError):
            answer(self)

    def write(self, raw: bytes) -> None:
        self.wfile.write(raw)
        self.wfile.flush()

    def stopped_within(self, seconds: float) -> bool:
        return self.server.api.stopping.wait(seconds)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: "Api", port: int) -> None:
        self.api = api
        super().__init__(("127.0.0.1", port), Exchange)


class Api:
    """The API that a test talks to: `answers` by path, and the `paths` asked for so far."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.paths: list[str] = []
        self.port = 0
        self.start()

    @property
    def settings(self) -> Settings:
        return Settings(api_url=f"http://127.0.0.1:{self.port}/users/")

    def start(self) -> None:
        """Listen; after a stop() on the same port as before."""
        self.stopping = threading.Event()
        self._server = Server(self, self.port)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Let go of every client, and refuse new ones."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def counts(self, users_by_age: dict[int, int]) -> None:
        total = sum(users_by_age.values())
        self.answers["/stats/ages"] = data({"total": total, "ages": users_by_age})

    def lists(self, *rows: object) -> None:
        self.answers["/users/"] = data(dict(enumerate(rows)))


def data(content: Any, status: int = 200) -> Answer:
    """Answer with `content` as JSON."""
    return text(json.dumps(content), "application/json", status)


def text(content: str, media_type: str = "application/json", status: int = 200) -> Answer:
    """Answer with `content` as it is."""
    return headed(content.encode(), status, {"Content-Type": media_type})


def headed(body: bytes, status: int, headers: dict[str, str]) -> Answer:
    """Answer with the headers given and a right Content-Length."""

    def answer(exchange: Exchange) -> None:
        exchange.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            exchange.send_header(name, value)
        exchange.end_headers()
        exchange.write(body)

    return answer


def raw(*parts: bytes) -> Answer:
    """Write these bytes, which may be no HTTP at all, and hang up."""

    def answer(exchange: Exchange) -> None:
        for part in parts:
            exchange.write(part)

    return answer


def silence(exchange: Exchange) -> None:
    """Take the request and never answer."""
    exchange.stopped_within(DEADLINE_SECONDS)


def trickle(start: bytes, drop: bytes) -> Answer:
    """Write `start`, and then `drop` every 0.1 s without end."""

    def answer(exchange: Exchange) -> None:
        exchange.write(start)
        while not exchange.stopped_within(0.1):
            exchange.write(drop)

    return answer


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds; fail when it does not within DEADLINE_SECONDS."""
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        threading.Event().wait(0.02)


@pytest.fixture
def api() -> Iterator[Api]:
    """An API that knows no path yet, stopped after the test."""
    api = Api()
    yield api
    if not api.stopping.is_set():
        api.stop()
