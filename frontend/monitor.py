"""What the pollers ask about the system, and the state of the API that follows from it."""

import math
import re
import time
from collections import Counter, defaultdict
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec

from ages import MAX_AGE_YEARS, AgeCounts
from api_client import ApiClient, ApiError, Latest, now
from users import rows_of
from widgets import State, state_of

LOOK_SECONDS = 4
RECENT_SECONDS = 60
SIMULATOR_AWAY_SECONDS = 15  # a simulator reports about every two seconds
SICK_SHARE = 0.01  # of the calls of the last minute
MAX_LISTING_BYTES, MAX_METRICS_BYTES = 256 * 1024 * 1024, 1024 * 1024
MAX_SHOWN = 50  # simulators, faults
OBSERVING = ("/health", "/ready", "/metrics")  # routes that observe the API: not its work

SAMPLE = re.compile(r"^api_(\w+)(?:\{(.*)\})? (\S+)$", re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Age = Annotated[int, msgspec.Meta(ge=0, le=MAX_AGE_YEARS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Statistics(msgspec.Struct):
    """The body of `GET /stats/ages`."""

    total: Count
    ages: dict[Age, Count]


class Fault(msgspec.Struct):
    """A fault that is injected on purpose into the requests of a service."""

    service: str
    kind: str
    share: float = 1.0
    strikes: int = 0


class Metrics(NamedTuple):
    """Figures of `GET /metrics`, by name. `buckets` are requests by the upper bound in seconds."""

    numbers: dict[str, float]
    buckets: dict[float, float]
    queues: dict[str, float]
    simulators: dict[str, dict[str, float]]
    version: str = "unknown"


class Look(NamedTuple):
    """What one replica of the API said at `taken_at` (seconds since 1970), and the faults."""

    taken_at: float
    replica: str
    latency_seconds: float
    not_ready: ApiError | None
    ready: dict[str, Any]  # the body of `GET /ready`
    metrics: Metrics
    faults: tuple[Fault, ...] = ()

    @property
    def started_at(self) -> float | None:
        """When the process of the API started, in seconds since 1970, or None."""
        return self.metrics.numbers.get("process_start_time_seconds")

    @property
    def retry_after_seconds(self) -> float:
        """How long the API asks to wait, because it is not ready."""
        return self.not_ready.retry_after_seconds if self.not_ready else 0.0

    def active_simulators(self) -> dict[str, dict[str, float]]:
        """Return the simulators that reported in the last seconds."""
        since, known = self.taken_at - SIMULATOR_AWAY_SECONDS, self.metrics.simulators
        return {name: each for name, each in known.items() if each.get("seen", 0.0) > since}


def fetch_counts(api: ApiClient) -> AgeCounts:
    """Return the API's age counts. If it has none, count its users. Raises ApiError."""
    url = api.beside("stats/ages")
    try:
        statistics = api.request(url).decode(Statistics)
    except ApiError as error:
        if error.status not in (404, 405):
            raise
        listing = api.request(api.users_url, max_bytes=MAX_LISTING_BYTES)
        found = Counter(row.age if row else -1 for _, row in rows_of(listing))
        return AgeCounts({age: n for age, n in found.items() if age >= 0}, True, found[-1])
    counts = AgeCounts({age: users for age, users in statistics.ages.items() if users})
    if counts.total != statistics.total:
        raise ApiError("Not understood", url, "The total is not the sum of the ages.")
    return counts


def fetch_look(api: ApiClient, faults_url: str | None = None) -> Look:
    """Ask the API whether it is alive and ready, and for its metrics. Raises ApiError if dead."""
    began = time.monotonic()
    alive = api.request(api.beside("health"))
    latency_seconds = time.monotonic() - began
    not_ready, ready, text, faults = None, dict[str, Any](), "", list[Fault]()
    try:
        ready = api.request(api.beside("ready")).decode(dict[str, Any])
    except ApiError as error:
        if error.status not in (404, 405):  # an API of the first version has no such call
            not_ready = error.with_traceback(None)
    with suppress(ApiError):
        response = api.request(api.beside("metrics"), max_bytes=MAX_METRICS_BYTES)
        text = response.body.decode(errors="replace")
    with suppress(ApiError):
        if faults_url:
            faults = api.request(faults_url).decode(list[Fault])[:MAX_SHOWN]
    replica, metrics = alive.headers.get("x-replica", "unknown")[:100], read_metrics(text)
    return Look(time.time(), replica, latency_seconds, not_ready, ready, metrics, tuple(faults))


def read_metrics(text: str) -> Metrics:
    """Return the figures in Prometheus' text format; a line that cannot be read is left out."""
    found = Metrics(defaultdict(float), defaultdict(float), {}, defaultdict(dict))
    numbers, buckets, queues, simulators, version = found
    for name, pairs, number in SAMPLE.findall(text):
        labels = dict(LABEL.findall(pairs))
        if labels.get("route") in OBSERVING:
            continue
        with suppress(ValueError):
            value = float(number)
            if name == "requests_total":
                numbers["requests"] += value
                numbers["failed"] += value if labels.get("status", "").startswith("5") else 0
            elif name == "request_duration_seconds_bucket":
                buckets[float(labels.get("le", ""))] += value
            elif name == "store_queue_ratio":
                queues[labels.get("queue", "")[:20]] = value
            elif name == "build_info":
                version = labels.get("version", version)[:30]
            elif name.startswith("simulator_"):  # "created", "given up"; "users" a second; "seen"
                figure = labels.get("outcome") or name.split("_")[1]
                simulators[labels.get("simulator", "")[:40]][figure] = value
            elif not labels:
                numbers[name] = value
    shown = dict(sorted(simulators.items())[:MAX_SHOWN])
    return Metrics(numbers, dict(sorted(buckets.items())), queues, shown, version)


class Work(NamedTuple):
    """What a process of the API did in some seconds until `end`; the `buckets` are as above."""

    end: float
    seconds: float
    requests: float
    failed: float
    buckets: dict[float, float]


def work(looks: Latest[Look], seconds: float, step_seconds: float) -> list[Work]:
    """Return the work of the last `seconds`, in steps, of each process that was seen."""
    found, last = list[Work](), dict[tuple[str, float | None], tuple[float, Metrics]]()
    for at, look in looks.history:
        if at < now() - seconds:
            continue
        process = look.replica, look.started_at
        start, old = last.setdefault(process, (at, look.metrics))
        if at - start >= step_seconds:
            new, before = last[process] = at, look.metrics
            numbers, buckets = before.numbers, before.buckets
            requests, failed = (numbers[n] - old.numbers[n] for n in ("requests", "failed"))
            taken = {top: count - old.buckets.get(top, 0.0) for top, count in buckets.items()}
            if requests >= 0:  # else the process is another one, which does not tell its start
                found.append(Work(new, new - start, requests, failed, taken))
    return found


def failed_share(looks: Latest[Look], ages: Latest[AgeCounts]) -> float:
    """Return the share of calls that failed in the last minute: of all, or of ours if larger."""
    since = now() - RECENT_SECONDS
    failures = sum(at >= since for at, _ in (*ages.failures, *looks.failures))
    good = sum(at >= since for at, _ in ages.history) + sum(at >= since for at, _ in looks.history)
    recent = work(looks, RECENT_SECONDS, 1)
    requests, failed = sum(each.requests for each in recent), sum(each.failed for each in recent)
    return max(failures / max(1, failures + good), failed / max(1.0, requests))


def state_of_api(looks: Latest[Look], ages: Latest[AgeCounts]) -> State:
    """Return the state of the API: up, sick, not ready or down."""
    good_at = ages.history[-1][0] if ages.history else -math.inf
    refused = ages.error and type(ages.error.cause).__name__ == "ConnectError"  # nobody listens
    in_a_row = sum(at > good_at for at, _ in ages.failures)
    if ages.error and (refused or in_a_row > 1 or not ages.history):
        return state_of(ages)
    state = state_of(looks, LOOK_SECONDS)
    if state.colour == "green" and looks.value and looks.value.not_ready:
        return State("Alive, not ready", "orange")
    if state.colour != "orange" and (share := failed_share(looks, ages)) >= SICK_SHARE:
        return State(f"Sick: {share:.0%} of calls failed", "orange")
    return State("Alive and ready", "green") if state.colour == "green" else state
