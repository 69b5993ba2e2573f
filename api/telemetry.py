"""What an operator can see of a request: its id, its line in the log, and its share of the metrics.

None ever holds a user's name or age. A line has the route's template instead of the address,
because the address of a write holds both; so uvicorn's own access log stays off.
"""

import random
import re
import time
from bisect import bisect_left
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from guard import ASGIApp, Message, Receive, Scope, Send, send_error
from lines import Kind, LineHandler, log

METRICS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}
BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)

_request_id_pattern = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Tally:
    """How many requests of a kind took how long."""

    kind: Kind
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    seconds: float = 0.0


class Metrics:
    """The numbers behind GET /metrics, in a registry of their own.

    Requests are counted here and turned into Prometheus' metrics when it asks, which costs a
    request a tenth of what the library's own counters would.
    """

    def __init__(self, version: str) -> None:
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.users = Gauge("api_users", "Users in the store.", registry=self._registry)
        self.queues = Gauge(
            "api_store_queue_ratio",
            "How full a queue for the store is: at 1, requests are refused.",
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

    def count(self, method: str, route: str, status: int, seconds: float) -> Kind:
        """Count a request that took `seconds`; return what its kind's lines begin with."""
        tally = self._tallies.get((method, route, status))
        if tally is None:
            tally = Tally(Kind.of(method, route, status))
            self._tallies[method, route, status] = tally
        tally.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        tally.seconds += seconds
        return tally.kind

    def collect(self) -> Iterable[Metric]:
        """Return rate, errors and duration of each route: the three that tell a sick service."""
        requests = CounterMetricFamily(
            "api_requests", "Requests answered.", labels=["method", "route", "status"]
        )
        duration_seconds = HistogramMetricFamily(
            "api_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            labels=["method", "route"],
        )
        of_route: dict[tuple[str, str], list[Tally]] = {}
        for (method, route, status), tally in self._tallies.items():
            requests.add_metric([method, route, str(status)], sum(tally.counts))
            of_route.setdefault((method, route), []).append(tally)
        for labels, tallies in of_route.items():
            counts = [sum(column) for column in zip(*(t.counts for t in tallies), strict=True)]
            bounds = [*map(str, map(float, BUCKETS_SECONDS)), "+Inf"]
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            duration_seconds.add_metric(labels, buckets, sum(t.seconds for t in tallies))
        return requests, duration_seconds

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Telemetry:
    """ASGI middleware: gives a request its id, counts and times it, and writes its line.

    A fault that nobody foresaw is answered here, so that its answer carries the request id under
    which the log has its traceback.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, lines: LineHandler) -> None:
        self._app = app
        self._metrics = metrics
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s met a fault", request_id.decode())
            if status:
                raise  # the answer has begun: only closing the connection can say that it failed
            await send_error(send_with_id, 500, "Internal Server Error")
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in KNOWN_METHODS else "OTHER"
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            kind = self._metrics.count(method, route, status, seconds)
            self._lines.access(kind, seconds * 1000, request_id.decode())


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _request_id_pattern.fullmatch(value):
            return bytes(value)
    # It tells requests apart and guards nothing, so it need not be hard to guess.
    return random.randbytes(8).hex().encode()  # noqa: S311
