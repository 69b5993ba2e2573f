"""What the pollers ask about the system, and the state of the API that follows from it."""

import math
import re
import time
from collections import Counter, defaultdict
from contextlib import suppress
from itertools import pairwise
from typing import Annotated, NamedTuple

import msgspec

from ages import MAX_AGE_YEARS, AgeCounts
from api_client import ApiClient, ApiError, Latest, now
from users import AgeRow, rows_of
from widgets import State, state_of

LOOK_SECONDS, HOUR_SECONDS = 4, 3_600
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


class Readiness(msgspec.Struct):
    """The body of `GET /ready`; an older API may omit fields."""

    store: str = "unknown"
    durable: bool | None = None


class Fault(msgspec.Struct):
    """A fault that is injected on purpose into the requests of a service."""

    service: str
    kind: str
    share: float = 1.0
    strikes: int = 0


class Metrics(NamedTuple):
    """Figures of `GET /metrics`; what the API does not show is missing.

    `numbers` are by name; `buckets` are requests by the upper bound of their seconds; `simulators`
    are the figures of each simulator by its name.
    """

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
    readiness: Readiness
    metrics: Metrics
    faults: tuple[Fault, ...] = ()

    @property
    def started_at(self) -> float | None:
        """When the process of the API started, in seconds since 1970, or None."""
        return self.metrics.numbers.get("process_start_time_seconds")

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
        return count_users(api)
    counts = AgeCounts({age: users for age, users in statistics.ages.items() if users})
    if counts.total != statistics.total:
        raise ApiError("Not understood", url, "The total is not the sum of the ages.")
    return counts


def count_users(api: ApiClient) -> AgeCounts:
    """Return the age counts of all users that the API lists. Raises ApiError."""
    listing = api.request(api.users_url, max_bytes=MAX_LISTING_BYTES)
    ages = Counter(row.age if row else None for _, row in rows_of(listing, AgeRow))
    unreadable_rows = ages.pop(None, 0)
    users_by_age = {age: users for age, users in ages.items() if age is not None}
    return AgeCounts(users_by_age, from_listing=True, unreadable_rows=unreadable_rows)


def fetch_look(api: ApiClient, faults_url: str | None = None) -> Look:
    """Ask the API whether it is alive and ready, and for its metrics. Raises ApiError if dead."""
    began = time.monotonic()
    alive = api.request(api.beside("health"))
    latency_seconds = time.monotonic() - began
    not_ready, readiness, text, faults = None, Readiness(), "", list[Fault]()
    try:
        readiness = api.request(api.beside("ready")).decode(Readiness)
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
    return Look(time.time(), replica, latency_seconds, not_ready, readiness, metrics, tuple(faults))


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


class Reading(NamedTuple):
    """The figures of one process of the API at two times, in seconds, one after the other."""

    start: float
    end: float
    before: Metrics
    after: Metrics

    def more(self, name: str) -> float:
        """Return by how much a number grew."""
        return self.after.numbers.get(name, 0.0) - self.before.numbers.get(name, 0.0)

    @property
    def failed_share(self) -> float:
        """The share of the requests that failed with a status of 5xx."""
        return self.more("failed") / max(1.0, self.more("requests"))


def readings(looks: Latest[Look], seconds: float, step_seconds: float) -> list[Reading]:
    """Return the readings of the last `seconds`, about one for each step and process."""
    chosen: dict[tuple[str, float | None], dict[float, tuple[float, Metrics]]] = defaultdict(dict)
    for at, look in looks.history:
        if at >= now() - seconds:
            process = chosen[look.replica, look.started_at]
            process.setdefault(-1, (at, look.metrics))  # the first one, and the last of each step
            process[at // step_seconds] = at, look.metrics
    pairs = (pair for process in chosen.values() for pair in pairwise(process.values()))
    found = (Reading(start, end, before, after) for (start, before), (end, after) in pairs)
    # With fewer requests than before it is another process, which does not tell its start.
    return [each for each in found if each.end > each.start and each.more("requests") >= 0]


def failed_share(looks: Latest[Look], ages: Latest[AgeCounts]) -> float:
    """Return the share of calls that failed in the last minute, from 0 to 1.

    It is that of all clients by the API's metrics, or that of the dashboard itself, if larger.
    """
    since = now() - RECENT_SECONDS
    failures = sum(at >= since for at, _ in (*ages.failures, *looks.failures))
    good = sum(at >= since for at, _ in ages.history) + sum(at >= since for at, _ in looks.history)
    recent = readings(looks, RECENT_SECONDS, 1)
    requests, failed = (sum(e.more(name) for e in recent) for name in ("requests", "failed"))
    return max(failures / max(1, failures + good), failed / max(1.0, requests))


def state_of_api(looks: Latest[Look], ages: Latest[AgeCounts]) -> State:
    """Return the state of the API: up, sick, not ready or down."""
    good_at = ages.history[-1][0] if ages.history else -math.inf
    if ages.error and (not ages.history or sum(at > good_at for at, _ in ages.failures) > 1):
        return state_of(ages)
    state = state_of(looks, LOOK_SECONDS)
    if state.colour == "green" and looks.value and looks.value.not_ready:
        return State("Alive, not ready", "orange")
    if state.colour != "orange" and (share := failed_share(looks, ages)) >= SICK_SHARE:
        return State(f"Sick: {share:.0%} of calls fail", "orange")
    return State("Alive and ready", "green") if state.colour == "green" else state
