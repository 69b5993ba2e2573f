"""What the pollers ask about the system, and the state of the API that follows from it."""

import re
import time
from collections import defaultdict
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec

from ages import AgeCounts
from api_client import ApiClient, ApiError, Latest, now
from users import Age
from widgets import State, state_of

LOOK_SECONDS = 4
RECENT_SECONDS = 60
SIMULATOR_AWAY_SECONDS = 15  # a simulator reports about every two seconds
SICK_SHARE = 0.01  # of the calls of the last minute
MAX_METRICS_BYTES = 1024 * 1024
MAX_SHOWN = 50  # simulators, faults
OBSERVING = ("/health", "/ready", "/metrics")  # routes that observe the API: not its work

CALLS = ("requests", "failed")  # what the API counts of its work
SAMPLE = re.compile(r"^api_(\w+)(?:\{(.*)\})? (\S+)$", re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Statistics(msgspec.Struct):
    """The body of `GET /stats/ages`."""

    ages: dict[Age, Count]


class Fault(msgspec.Struct):
    """A fault that is injected on purpose into the requests of a service."""

    service: str
    kind: str
    share: float = 1.0
    strikes: int = 0


class Look(msgspec.Struct):
    """What one replica of the API said, the faults, and figures of `GET /metrics` by name."""

    replica: str
    latency_seconds: float
    taken_at: float = msgspec.field(default_factory=time.time)  # in seconds since 1970
    not_ready: ApiError | None = None
    ready: dict[str, Any] = {}  # the body of `GET /ready`
    faults: list[Fault] = []
    version: str = "unknown"
    numbers: dict[str, float] = {}
    buckets: dict[float, float] = {}  # requests by the upper bound of their seconds
    queues: dict[str, float] = {}
    simulators: dict[str, dict[str, float]] = {}

    @property
    def started_at(self) -> float | None:
        """When the process of the API started, in seconds since 1970, or None."""
        return self.numbers.get("process_start_time_seconds")

    @property
    def retry_after_seconds(self) -> float:
        """How long the API asks to wait, because it is not ready."""
        return self.not_ready.retry_after_seconds if self.not_ready else 0.0

    def active_simulators(self) -> dict[str, dict[str, float]]:
        """Return the simulators that reported in the last seconds."""
        since = self.taken_at - SIMULATOR_AWAY_SECONDS
        return {name: e for name, e in self.simulators.items() if e.get("seen", 0.0) > since}

    def read_metrics(self, text: str) -> None:
        """Take figures from Prometheus' text format; a line that cannot be read is left out."""
        numbers, buckets = defaultdict[str, float](float), defaultdict[float, float](float)
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
                    self.queues[labels.get("queue", "")[:20]] = value
                elif name == "build_info":
                    self.version = labels.get("version", "unknown")[:30]
                elif name.startswith("simulator_"):  # "created", "given up"; "users" a second
                    if len(self.simulators) < MAX_SHOWN:
                        each = self.simulators.setdefault(labels.get("simulator", "")[:40], {})
                        each[labels.get("outcome") or name.split("_")[1]] = value
                elif not labels:
                    numbers[name] = value
        self.numbers, self.buckets = numbers, dict(sorted(buckets.items()))


def fetch_counts(api: ApiClient) -> AgeCounts:
    """Return the API's age counts. Raises ApiError."""
    statistics = api.request(api.beside("stats/ages")).decode(Statistics)
    return AgeCounts({age: users for age, users in statistics.ages.items() if users})


def fetch_look(api: ApiClient, faults_url: str | None = None) -> Look:
    """Ask the API whether it is alive and ready, and for its metrics. Raises ApiError if dead."""
    began = time.monotonic()
    alive = api.request(api.beside("health"))
    look = Look(alive.headers.get("x-replica", "unknown")[:100], time.monotonic() - began)
    try:
        look.ready = api.request(api.beside("ready")).decode(dict[str, Any])
    except ApiError as error:
        look.not_ready = error.with_traceback(None)
    with suppress(ApiError):
        response = api.request(api.beside("metrics"), max_bytes=MAX_METRICS_BYTES)
        look.read_metrics(response.body.decode(errors="replace"))
    with suppress(ApiError):
        if faults_url:
            look.faults = api.request(faults_url).decode(list[Fault])[:MAX_SHOWN]
    return look


class Work(NamedTuple):
    """What a process of the API did in some seconds until `end`; the `buckets` are as above."""

    end: float
    seconds: float
    requests: float
    failed: float
    buckets: dict[float, float]


def work(looks: Latest[Look], seconds: float, step_seconds: float) -> list[Work]:
    """Return the work of the last `seconds`, in steps, of each process that was seen."""
    found, last = list[Work](), dict[tuple[str, float | None], tuple[float, Look]]()
    for at, look in looks.history:
        if at < now() - seconds:
            continue
        process = look.replica, look.started_at
        start, old = last.setdefault(process, (at, look))
        if at - start >= step_seconds:
            last[process] = at, look
            requests, failed = (look.numbers.get(n, 0.0) - old.numbers.get(n, 0.0) for n in CALLS)
            taken = {top: count - old.buckets.get(top, 0.0) for top, count in look.buckets.items()}
            if requests >= 0:  # else the process is another one, which does not tell its start
                found.append(Work(at, at - start, requests, failed, taken))
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
    if ages.error:
        refused = type(ages.error.cause).__name__ == "ConnectError"  # nobody listens
        in_a_row = [at for at, _ in ages.failures if now() - at < ages.seconds_old]
        if refused or len(in_a_row) > 1 or not ages.history:
            return state_of(ages)
    state = state_of(looks, LOOK_SECONDS)
    if state.colour == "green" and looks.value and looks.value.not_ready:
        return State("Alive, not ready", "orange")
    if state.colour != "orange" and (share := failed_share(looks, ages)) >= SICK_SHARE:
        return State(f"Sick: {share:.0%} of calls failed", "orange")
    return State("Alive and ready", "green") if state.colour == "green" else state
