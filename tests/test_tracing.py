"""One request, followed from service to service."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Terminal, free_port, service_python, wait_until

PRINTED_ID = re.compile(r"created .* ([0-9a-f]{16})$")


@pytest.fixture
def collected() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a collector of traces, and the bodies that it received."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def users_sent(terminal: Callable[..., Terminal], **variables: str) -> tuple[Terminal, list[str]]:
    """Send users to an API with the simulator; return the API and the printed request ids."""
    port = free_port()
    serve = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(port)]
    api = terminal(*serve, folder="api", **variables)
    api.wait_for("Uvicorn running")
    simulator = terminal(
        service_python("data_ingestion_simulator"), "main.py", "--count", "5", "--interval", "0.1",
        folder="data_ingestion_simulator", API_BASE_URL=f"http://localhost:{port}",
    )  # fmt: skip
    assert simulator.process.wait(30) == 0
    return api, [match[1] for line in simulator.lines if (match := PRINTED_ID.search(line))]


def test_a_request_has_one_id_in_both_logs(terminal: Callable[..., Terminal]) -> None:
    """The request id that the simulator prints for a user is in the API's access log."""
    api, request_ids = users_sent(terminal)

    assert len(set(request_ids)) == 5
    for request_id in request_ids:
        api.wait_for(re.compile(rf"POST /users/ 201 .* {request_id}$"), deadline_seconds=5)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_request_is_one_trace_from_the_simulator_to_the_store(
    terminal: Callable[..., Terminal],
    collected: tuple[str, list[bytes]],
    tmp_path: Path,
    store: str,
) -> None:
    """The request id that the simulator prints is the trace id of the API's and store's spans."""
    endpoint, bodies = collected
    database = {"DATABASE_URL": f"sqlite:///{tmp_path / 'users.db'}"} if store == "sqlite" else {}
    api, request_ids = users_sent(terminal, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **database)
    api.stop()
    wait_until("the traces", lambda: bodies, 10)
    sent = b"".join(bodies)

    for request_id in request_ids:
        assert sent.count(bytes.fromhex(request_id.zfill(32))) == 2
    assert (sent.count(b"POST /users/"), sent.count(b"store.create")) == (5, 5)
