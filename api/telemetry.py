"""What an operator sees of a request: its access log line, and what the metrics count of it.

Neither ever contains a name or an age. The address of a write contains them, so a line has the
route template instead. uvicorn's own access log stays off because it would log the address.
"""

import asyncio
import json
import logging
import math
import re
import sys
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from crud import StoreUnavailable

log = logging.getLogger("api")

MAX_SIMULATORS = 50
_number = rb"([0-9]{1,15}(?:\.[0-9]{1,6})?)"
_report_pattern = re.compile(
    rb"([A-Za-z0-9._-]{1,40}); created=%b; given-up=%b; per-second=%b" % ((_number,) * 3)
)
BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
COMMIT_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The numbers of GET /metrics: rate, errors and duration of each route, and the store."""

    MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, version: str) -> None:
        self._registry = registry = CollectorRegistry()
        requests = Counter(
            "api_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        durations = Histogram(
            "api_request_duration_seconds",
            "Time from a request's headers to the end of its response.",
            ["method", "route"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self._users = Gauge("api_users", "Users in the store.", registry=registry)
        text = "How full a queue for the store is: at 1, requests are rejected."
        self._queues = Gauge("api_store_queue_ratio", text, ["queue"], registry=registry)
        text = "Time of a transaction that writes, from its beginning to the end of its commit."
        self.commit_seconds = Histogram(
            "api_store_commit_seconds", text, buckets=COMMIT_BUCKETS_SECONDS, registry=registry
        )
        build = Gauge("api_build_info", "The API's version.", ["version"], registry=registry)
        build.labels(version).set(1)
        text = "When this process started, in seconds since 1970."
        Gauge("api_process_start_time_seconds", text, registry=registry).set(time.time())
        simulators = Simulators()
        registry.register(simulators)
        self.report = simulators.report
        # Cached: to find the child of a metric takes longer than to count.
        self._children = lru_cache(1000)(
            lambda *labels: (requests.labels(*labels).inc, durations.labels(*labels[:2]).observe)
        )

    def observe(self, method: str, route: str, status: int, seconds: float, _: str) -> None:
        """Count a request."""
        count, measure = self._children(method, route, status)
        count()
        measure(seconds)

    async def render(self, store: Any) -> bytes:
        """Return all metrics in Prometheus' text format, with those of the store as it is now."""
        users = math.nan  # if the store does not respond: an old number would be wrong
        with suppress(StoreUnavailable):
            users = sum((await store.age_counts()).values())
        self._users.set(users)
        for queue, ratio in store.queue_ratios().items():
            self._queues.labels(queue).set(ratio)
        return generate_latest(self._registry)


class Simulators(Collector):
    """What simulators say about themselves in the header X-Simulator: the last MAX_SIMULATORS."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, ...]] = {}

    def report(self, header: bytes) -> None:
        """Keep a report; ignore one that has another form."""
        if found := _report_pattern.fullmatch(header):
            name, *numbers = (value.decode() for value in found.groups())
            self._reports.pop(name, None)  # the one that reported last is the last in the dict
            self._reports[name] = (*map(float, numbers), time.time())
            if len(self._reports) > MAX_SIMULATORS:
                del self._reports[next(iter(self._reports))]

    def collect(self) -> list[Metric]:
        """Return the reports as metrics."""
        names, text = ["simulator"], "Users of a simulator, as it says, by outcome."
        users = GaugeMetricFamily("api_simulator_users", text, labels=[*names, "outcome"])
        text = "Users that a simulator creates in a second, as it says."
        rate = GaugeMetricFamily("api_simulator_users_per_second", text, labels=names)
        text = "When a simulator sent its last report, in seconds since 1970."
        seen = GaugeMetricFamily("api_simulator_seen_timestamp_seconds", text, labels=names)
        for name, (created, given_up, per_second, at) in self._reports.items():
            users.add_metric([name, "created"], created)
            users.add_metric([name, "given up"], given_up)
            rate.add_metric([name], per_second)
            seen.add_metric([name], at)
        return [users, rate, seen]


class AccessLog(logging.StreamHandler[TextIO]):
    """Writes the log as plain lines or JSON objects: one for each request, one for each event.

    Lines of requests are buffered until the end of the event-loop iteration: one write for each
    would take longer than most requests. SIGKILL loses the lines of one iteration. A line that
    cannot be written (full disk, closed pipe) is lost, because a request or a store's thread must
    not fail because of the log.
    """

    def __init__(self, stream: TextIO, as_json: bool) -> None:
        super().__init__(stream)
        self._as_json = as_json
        self._lines: list[str] = []

    def observe(
        self, method: str, route: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Log a request that has got its response. Called on the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        ms = round(seconds * 1000, 1)
        line = f"{method} {route} {status} {ms} ms {request_id}"
        if self._as_json:
            fields = {"method": method, "route": route, "status": status, "milliseconds": ms}
            self._lines.append(self._line("INFO", line, **fields, request_id=request_id) + "\n")
        else:
            self._lines.append(self._line("INFO", line) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        """Log an event after the buffered lines. Called in a store's thread, too."""
        self.flush()
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of an event; as text, a traceback follows it."""
        message = record.getMessage()
        if not record.exc_info:
            return self._line(record.levelname, message)
        traceback = logging.Formatter().formatException(record.exc_info)
        line = self._line(record.levelname, message, exception=traceback)
        return line if self._as_json else f"{line}\n{traceback}"

    def flush(self) -> None:
        """Write the buffered lines."""
        self.acquire()
        try:
            lines = self._lines[:]
            del self._lines[: len(lines)]  # the event loop may have added one meanwhile
            with suppress(OSError, ValueError):  # the latter: a closed file
                self.stream.write("".join(lines))
                super().flush()
        finally:
            self.release()

    def _line(self, level: str, message: str, **fields: object) -> str:
        """Return a line with the time of now. Only the JSON has the `fields`."""
        now = time.time()
        if self._as_json:
            at = _time_text(int(now), "%Y-%m-%dT%H:%M:%S%z")
            return json.dumps({"time": at, "level": level, "message": message, **fields})
        at = _time_text(int(now), "%Y-%m-%d %H:%M:%S")
        return f"{at},{int(now % 1 * 1000):03d} {level} {message}"


@lru_cache(maxsize=1)  # most lines have the same second as the one before
def _time_text(seconds: int, time_format: str) -> str:
    return time.strftime(time_format, time.localtime(seconds))


ACCESS_LOGS = ["uvicorn.access", "uvicorn.asgi", "gunicorn.access", "hypercorn.access"]
ACCESS_LOGS += ["granian.access", "_granian.access"]


def configure_log(log_format: str) -> AccessLog:
    """Send the log to standard output as `text` or `json`; as `json`, uvicorn's log, too.

    The access logs of the servers are off, because their lines contain addresses.
    """
    access_log = AccessLog(sys.stdout, log_format == "json")
    log.handlers = [access_log]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # no traceback on stderr for a line that cannot be written
    for name in ACCESS_LOGS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], False  # without a handler, uvicorn makes no line
        logger.addFilter(lambda _: False)  # some ways to start add one again
    # Its debug lines, and the one about a WebSocket, contain addresses.
    logging.getLogger("uvicorn.error").addFilter(
        lambda line: line.levelno > logging.DEBUG and "WebSocket" not in str(line.msg)
    )
    if log_format == "json":
        logging.getLogger("uvicorn").handlers = [access_log]
    return access_log
