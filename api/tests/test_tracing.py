"""Traces: off unless asked for; then a request's trace goes on, and holds no name and no age."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import API, Served
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "lab-1"}


class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def all(self) -> list[Span]:
        """Return the spans as they came."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def spans(self) -> dict[str, Span]:
        """Return the spans by name."""
        return {span.name: span for span in self.all()}

    def count(self, name: str) -> int:
        """Return how many spans have a name."""
        return sum(span.name == name for span in self.all())

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Yield a collector on a port of its own."""
    collector = Collector()
    yield collector
    collector.close()


def told(span: Span) -> dict[str, Any]:
    """Return a span's attributes."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def stop(served: Served) -> str:
    """Stop an API in order, and return its log."""
    served.process.terminate()
    served.process.wait(20)
    return served.log.read_text()


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_request_goes_on_with_its_senders_trace(
    serve: Callable[..., Served], collector: Collector, tmp_path: Path, store: str
) -> None:
    """The request's span is the sender's child, the store's is the request's, under one trace."""
    database = {"DATABASE_URL": f"sqlite:///{tmp_path / 'users.db'}"} if store == "sqlite" else {}
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **database)
    with served.client() as client:
        client.post("/users/?user_id=7&name=Zebedee&age=97", headers=SENT)
        client.get("/metrics")
    stop(served)
    spans = collector.spans()
    request, stored = spans["POST /users/"], spans["store.create"]

    assert spans.keys() == {"POST /users/", "store.create"}
    assert {request.trace_id.hex(), stored.trace_id.hex()} == {TRACE}
    assert (request.parent_span_id.hex(), stored.parent_span_id) == (PARENT, request.span_id)
    assert request.start_time_unix_nano <= stored.start_time_unix_nano
    assert stored.end_time_unix_nano <= request.end_time_unix_nano
    assert told(request)["http.route"] == "/users/"
    assert told(request)["http.response.status_code"] == 201
    assert told(stored)["db.system.name"] == store


def test_a_span_is_named_as_the_line_is(serve: Callable[..., Served], collector: Collector) -> None:
    """A HEAD has its route's name, and a page is one call of the store with all its users."""
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    with served.client() as client:
        client.post("/users/batch", json={str(i): {"name": "Al", "age": 30} for i in range(10)})
        client.get("/users/?limit=10")
        client.head("/users/7")
    log = stop(served)
    spans = collector.spans()

    assert "HEAD /users/{user_id} 200" in log
    assert told(spans["HEAD /users/{user_id}"])["http.route"] == "/users/{user_id}"
    assert collector.count("store.page") == 1
    assert collector.count("store.get") == 1  # by the HEAD


def test_no_name_and_no_age_in_a_trace(serve: Callable[..., Served], collector: Collector) -> None:
    """Whatever becomes of a request, nothing that is sent to the collector tells of a person."""
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    with served.client() as client:
        for _ in range(2):  # created, then taken
            client.post("/users/?user_id=7&name=Zebedee&age=97979797", headers=SENT)
            client.post("/users/?user_id=7&name=Zebedee&age=97", headers=SENT)
        client.put("/users/8?name=Zebedee&age=97", headers=SENT)
        client.post("/users/batch", json={"9": {"name": "Zebedee", "age": 97}}, headers=SENT)
        client.get("/nowhere/Zebedee?age=97", headers=SENT)
        client.get("/users/", headers={**SENT, "host": "zebedee.example"})
    stop(served)

    assert {"POST /users/", "PUT /users/{user_id}", "GET"} <= collector.spans().keys()
    assert b"Zebedee" not in b"".join(collector.bodies)
    for span in collector.spans().values():
        assert not {"97", 97, "97979797"} & set(told(span).values())


def test_a_collector_that_is_away_harms_nobody(
    serve: Callable[..., Served], collector: Collector
) -> None:
    """Requests are answered, and the end comes within its time, with nobody to send traces to."""
    collector.close()
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    with served.client() as client:
        assert client.post("/users/?user_id=7&name=Zebedee&age=97").status_code == 201
    log = stop(served)

    assert "Zebedee" not in log
    assert "Application shutdown complete" in log


def test_nothing_is_loaded_unless_it_is_asked_for() -> None:
    """Without the variable the API neither loads nor needs the SDK."""
    program = "import main, sys\nassert not [m for m in sys.modules if 'opentelemetry.sdk' in m]"
    subprocess.run([sys.executable, "-c", program], cwd=API, check=True)


WITHOUT = "import sys\nsys.modules['opentelemetry.exporter'] = None\nimport main"


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for traces without the extra, the start says in one sentence what to install."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    ended = subprocess.run([sys.executable, "-c", WITHOUT], cwd=API, capture_output=True, text=True)

    assert ended.returncode == 2
    assert ended.stderr == (
        "OTEL_EXPORTER_OTLP_ENDPOINT needs what is in requirements-tracing.txt installed\n"
    )
