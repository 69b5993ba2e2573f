"""The simulator and an API that is killed again and again: it loses and invents no user."""

import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from conftest import Terminal, free_port, service_python, wait_until

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)
CREATED = re.compile(r"^\S+ created +user (\d+)", re.M)
OUTAGES = 200 if "LAB_LONG" in os.environ else 20


class Witness:
    """A proxy in front of the API that records which users the API acknowledged.

    While the API is down it closes the connection without a response, as a killed API does.
    """

    def __init__(self, api_url: str) -> None:
        witness = self
        self.acknowledged: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                try:
                    response = httpx2.request(
                        self.command, api_url + self.path, timeout=10, trust_env=False
                    )
                except httpx2.TransportError:
                    self.close_connection = True
                    return
                if self.command == "POST" and response.status_code == 201:
                    witness.acknowledged.append(
                        int(parse_qs(urlsplit(self.path).query)["user_id"][0])
                    )
                self.send_response(response.status_code)
                self.send_header("Content-Type", response.headers.get("content-type", ""))
                self.send_header("Content-Length", str(len(response.content)))
                self.end_headers()
                self.wfile.write(response.content)

            do_GET = do_POST = forward  # noqa: N815 - names that http.server calls

            def log_message(self, *_: object) -> None:
                """Write no access log."""

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
    """The API is killed and restarted twenty times: simulator and API report the same users.

    The API acknowledged every user that the simulator reports as created. Every attempted user is
    created in the end, except the one that is in flight when the simulator is stopped.
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
        time.sleep(dice.uniform(0, 0.05))  # it is killed at any point of a request
        api.process.send_signal(signal.SIGKILL)
        api.process.wait()
    code = simulator.stop(signal.SIGINT)
    reported = [int(user_id) for user_id in CREATED.findall("\n".join(simulator.lines))]
    counts = {
        what: int(number.replace(",", ""))
        for number, what in re.findall(
            r"([\d,]+) (attempted|created|given up)", simulator.lines[-1]
        )
    }

    assert code == 0
    assert len(reported) == len(set(reported)) == counts["created"] >= 20 * OUTAGES
    assert set(reported) <= set(witness.acknowledged)
    assert counts["attempted"] == counts["created"] + counts["given up"]
    assert counts["given up"] <= 1


def test_the_system_starts_in_any_order(
    terminal: Callable[..., Terminal], http: httpx2.Client, api_port: int
) -> None:
    """A simulator that starts first says that it waits, and starts to send when the API is up."""
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
