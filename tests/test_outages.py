"""The simulator against an API that dies again and again: nobody is lost, nobody is made up."""

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from conftest import Terminal, free_port, service_python, wait_until

from tools.processes import WINDOWS

pytestmark = pytest.mark.skipif(WINDOWS, reason="these tests send POSIX signals")
CREATED = re.compile(r"^\S+ created +user (\d+)", re.M)
OUTAGES = 200 if "LAB_LONG" in os.environ else 20


class Witness:
    """A proxy before the API that writes down which users the API acknowledged.

    Where the API is gone it closes the connection without an answer, as the API's own end would.
    """

    def __init__(self, api_url: str) -> None:
        witness = self
        self.acknowledged: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                try:
                    answer = httpx2.request(
                        self.command, api_url + self.path, timeout=10, trust_env=False
                    )
                except httpx2.TransportError:
                    self.close_connection = True
                    return
                if self.command == "POST" and answer.status_code == 201:
                    witness.acknowledged.append(
                        int(parse_qs(urlsplit(self.path).query)["user_id"][0])
                    )
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("content-type", ""))
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = pass_on  # noqa: N815 - names that http.server calls

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def api_port() -> int:
    return free_port()


@pytest.fixture
def witness(api_port: int) -> Iterator[Witness]:
    witness = Witness(f"http://127.0.0.1:{api_port}")
    yield witness
    witness.close()


def test_every_reported_user_was_acknowledged_and_none_dropped(
    terminal: Callable[..., Terminal], api_port: int, witness: Witness
) -> None:
    """With the API killed and restarted twenty times, the simulator's account is the API's.

    Every user that it reports as created is one that the API acknowledged; every user that it
    attempted is created in the end, but for the one it is told to stop in the middle of.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    python = service_python("data_ingestion_simulator")
    folder = "data_ingestion_simulator"
    simulator = terminal(
        python, "main.py", folder=folder, API_BASE_URL=witness.url, SIMULATION_INTERVAL="0.01"
    )
    for outage in range(OUTAGES):
        command = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(api_port)]
        api = terminal(*command, folder="api")
        simulator.wait_for("created  ", times=20 * (outage + 1))
        time.sleep(dice.uniform(0, 0.05))  # so that it dies at any point of a request
        api.process.send_signal(signal.SIGKILL)
        api.process.wait()
    code = simulator.stop(signal.SIGINT)
    reported = [int(user_id) for user_id in CREATED.findall("\n".join(simulator.lines))]
    summary = simulator.lines[-1]
    attempted, created, given_up = (
        int(re.search(rf"([\d,]+) {word}", summary)[1].replace(",", ""))  # type: ignore[index]
        for word in ("attempted", "created", "given up")
    )

    assert code == 0
    assert len(reported) == len(set(reported)) == created >= 20 * OUTAGES
    assert set(reported) <= set(witness.acknowledged)
    assert attempted == created + given_up
    assert given_up <= 1


def test_the_system_starts_in_any_order(
    terminal: Callable[..., Terminal], http: httpx2.Client, api_port: int
) -> None:
    """A simulator that was there first says that it waits, and begins when the API is up."""
    url = f"http://127.0.0.1:{api_port}"
    simulator = terminal(
        service_python("data_ingestion_simulator"),
        "main.py",
        folder="data_ingestion_simulator",
        API_BASE_URL=url,
    )
    simulator.wait_for("refused the connection; next try in")
    terminal(
        service_python("api"), "-m", "uvicorn", "main:app", "--port", str(api_port), folder="api"
    )
    simulator.wait_for("created  ")

    wait_until("the user", lambda: http.get(f"{url}/stats/ages").json()["total"] == 1, 5)
