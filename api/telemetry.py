"""What an operator can see of the API: the log, and the metrics.

Neither ever holds a user's name or age. A line has the route's template instead of the address,
because the address of a write holds both; so uvicorn's own access log stays off.
"""

import json
import logging
import re
import secrets
import sys
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from guard import ASGIApp, Message, Receive, Scope, Send, send_error

METRICS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}

log = logging.getLogger("api")
_request_id_pattern = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class JsonLines(logging.Formatter):
    """One JSON object a line, for machines that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}))


def configure_logging(log_format: str) -> None:
    """Send the API's log to standard output as `text` or `json`, uvicorn's words included."""
    handler = logging.StreamHandler(sys.stdout)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
    if log_format == "json":
        logging.getLogger("uvicorn").handlers = [handler]


class Metrics:
    """The numbers behind GET /metrics, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        # Rate, errors and duration of each route: the three that tell a sick service.
        self.requests = Counter(
            "api_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self.duration_seconds = Histogram(
            "api_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ["method", "route"],
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self._registry,
        )
        self.users = Gauge("api_users", "Users in the store.", registry=self._registry)
        self.waiting = Gauge(
            "api_store_waiting",
            "Requests that wait for the store.",
            ["queue"],
            registry=self._registry,
        )
        self.commit_seconds = Histogram(
            "api_store_commit_seconds",
            "Time of a transaction that writes, from its beginning to the end of its commit.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self._registry,
        )
        build = Gauge("api_build_info", "The API's version.", ["version"], registry=self._registry)
        build.labels(version).set(1)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Telemetry:
    """ASGI middleware: gives a request its id, counts and times it, and writes its line.

    A fault that nobody foresaw is answered here, so that its answer carries the request id under
    which the log has its traceback.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s met a fault", request_id)
            if status:
                raise  # the answer has begun: only closing the connection can say that it failed
            await send_error(send_with_id, 500, "Internal Server Error")
        finally:
            self._record(scope, status, time.perf_counter() - started, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        method = scope["method"] if scope["method"] in KNOWN_METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.duration_seconds.labels(method, route).observe(seconds)
        milliseconds = round(seconds * 1000, 1)
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": milliseconds,
            "request_id": request_id,
        }
        line = f"{method} {route} {status} {milliseconds} ms {request_id}"
        log.info(line, extra={"fields": fields})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _request_id_pattern.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)
