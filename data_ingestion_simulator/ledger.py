"""The accounts of a run (users, latency, errors), and the retry budget, which limits requests."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import groupby

from client import Exchange, Response, now

OUTCOMES = ("created", "already there", "rejected", "given up")
# Latencies are counted in 1,272 buckets, each two per cent above the last. So a percentile is wrong
# by at most one per cent, in fixed memory (DDSketch: Masson, Rim and Lee, VLDB 2019).
GROWTH, SHORTEST_SECONDS, LONGEST_SECONDS = 1.02, 1e-6, 86_400.0
PERCENTILES = {"min": 0, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
MOST_RANGES, BURST_REQUESTS = 10, 5


class Ledger:
    """attempted = created + already there + rejected + given up.

    At a rate users may be `dropped` (too many were being sent) or `late` (this program was slow).
    """

    def __init__(self, period_seconds: float = 0.0) -> None:
        self.attempted = self.dropped = self.late = self.sent_bytes = self.received_bytes = 0
        self.settled = Counter(dict.fromkeys(OUTCOMES, 0))
        self.unknown_ids: list[int] = []
        self.errors, self.statuses = Counter[str](), Counter[int]()
        self._latencies, self._period_seconds = Counter[int](), period_seconds
        self._began_at, self._ended_at = math.inf, 0.0
        self.being_sent: set[int] = set()
        self.name, self._unfinished, self._described = "simulator", 0, (0, -math.inf)

    def attempt(self, user_ids: Collection[int]) -> None:
        """Count users that are about to be sent, each one once."""
        self.attempted += len(set(user_ids) - self.being_sent)
        self.being_sent.update(user_ids)

    def renumber(self, old_id: int, new_id: int) -> None:
        """Note that a user has a new id."""
        self.being_sent.remove(old_id)
        self.being_sent.add(new_id)

    def settle(self, user_ids: Collection[int], outcome: str, status: int = 0) -> None:
        """Note the outcome of users, and the status of the response that decided it."""
        self.being_sent.difference_update(user_ids)
        self.settled[outcome] += len(user_ids)
        if outcome == "rejected":
            self.errors[f"rejected a user with {status}"] += len(user_ids)
        elif outcome == "given up":
            self.unknown_ids += user_ids

    def time(self, due_at: float, ended_at: float) -> None:
        """Note the latency of a user, or of a batch: from when it was due until its end."""
        seconds = min(max(ended_at - due_at, SHORTEST_SECONDS), LONGEST_SECONDS)
        self._latencies[round(math.log(seconds, GROWTH))] += 1
        self._began_at = min(self._began_at, due_at)
        self._ended_at = max(self._ended_at, ended_at, due_at + self._period_seconds)

    def describe(self, at: float) -> str:
        """What the API is told: users until now, and users a second since the last time."""
        created, (before, last) = self.settled["created"], self._described
        self._described, per_second = (created, at), (created - before) / (at - last)
        counts = f"created={created}; given-up={self.settled['given up']}"
        return f"{self.name}; {counts}; per-second={per_second:.1f}"

    def close(self) -> None:
        """Give up the users that are still being sent: they may be stored or not."""
        self._unfinished = len(self.being_sent)
        self.settle(sorted(self.being_sent), "given up")
        self.unknown_ids.sort()

    def balances(self) -> bool:
        """Does the equation hold? If not, this program has a bug."""
        return self.attempted == self.settled.total()

    def done(self) -> int:
        """How many users were settled, dropped or late."""
        return self.settled.total() + self.dropped + self.late

    def stored(self) -> int:
        """How many users the API is known to have."""
        return self.settled["created"] + self.settled["already there"]

    def users_per_second(self) -> float | None:
        """How many users were stored in a second; None if unknown."""
        return self.stored() / self.seconds() if self.seconds() else None

    def seconds(self) -> float:
        """From the first due user to the end of the last one's period."""
        return max(0.0, self._ended_at - self._began_at)

    def percentile_milliseconds(self, percent: float) -> float | None:
        """The latency that so many per cent of all latencies do not exceed; None without any."""
        rank = math.ceil(self._latencies.total() * percent / 100)
        for bucket in sorted(self._latencies):
            rank -= self._latencies[bucket]
            if rank <= 0:
                return float(1000 * GROWTH**bucket)
        return None

    def latency_milliseconds(self) -> dict[str, float | None]:
        """Percentiles (`min` and `max` are two of them) and the mean; None without any."""
        figures = {name: self.percentile_milliseconds(p) for name, p in PERCENTILES.items()}
        seconds = sum(count * GROWTH**bucket for bucket, count in self._latencies.items())
        mean = 1000 * seconds / self._latencies.total() if figures["min"] else None
        return {"mean": mean, **figures}

    def failed_share(self) -> float:
        """The share of all due users that were rejected, given up, dropped or late."""
        return (self.done() - self.stored()) / (self.done() or 1)

    def failures(self, fail_over: float, fail_p95_seconds: float | None) -> list[str]:
        """Sentences: which limits the run broke. A run that stored no user failed, too."""
        share, p95 = self.failed_share(), self.percentile_milliseconds(95) or 0.0
        failures, most = [], f"more than {fail_over * 100:g} %"
        if share == 1 and self.done() > self._unfinished:  # not only because a stop interrupted it
            failures.append("No user was stored")
        elif share > fail_over:
            failures.append(f"{share * 100:.4g} % of the users were not stored, {most}")
        if fail_p95_seconds and p95 > 1000 * fail_p95_seconds:
            limit = f"more than {1000 * fail_p95_seconds:g} ms"
            failures.append(f"The 95th percentile of the latency is {p95:.4g} ms, {limit}")
        return failures

    def __str__(self) -> str:
        sides = " + ".join(f"{count:,} {outcome}" for outcome, count in self.settled.items())
        ids = f" (outcome unknown: user {in_words(self.unknown_ids)})" if self.unknown_ids else ""
        return f"{self.attempted:,} attempted {'=' if self.balances() else '!='} {sides}{ids}"

    def summary(self, seconds: float) -> dict[str, object]:
        """The accounts as a dict for JSON; `seconds`: the duration of the run."""
        counted = ("attempted", "dropped", "late", "sent_bytes", "received_bytes", "statuses")
        return {
            "seconds": seconds,
            **{outcome.replace(" ", "_"): count for outcome, count in self.settled.items()},
            **{name: getattr(self, name) for name in counted},
            "failed_share": self.failed_share(),
            "users_per_second": self.users_per_second(),
            "latency_milliseconds": self.latency_milliseconds(),
            "errors": dict(self.errors.most_common()),
            "outcome_unknown": ranges(self.unknown_ids),
        }


class RetryBudget:
    """Limits requests to a failing API to 1.2 times the normal load, after a burst of five.

    The normal load is one request in `period_seconds`. Each request uses up 1/1.2 of a period, and
    a retry waits for room (a leaky bucket). One request in 30 s is always allowed. In bulk there is
    no period and no limit: there a request waits for the response to the one before.
    """

    def __init__(self, exchange: Exchange, period_seconds: float | None) -> None:
        self._exchange, self._used_until = exchange, 0.0
        self._seconds_per_request = min((period_seconds or 0.0) / 1.2, 30.0)

    async def exchange(self, method: str, target: str, request_id: str, body: bytes) -> Response:
        """Send a request at once, and count it."""
        used_seconds = max(self._used_until - now(), 0.0) + self._seconds_per_request
        self._used_until = now() + min(used_seconds, 2 * BURST_REQUESTS * self._seconds_per_request)
        return await self._exchange(method, target, request_id, body)

    def wait_seconds(self) -> float:
        """Seconds until a retry may be sent."""
        free_at = self._used_until - (BURST_REQUESTS - 1) * self._seconds_per_request
        return max(0.0, round(free_at - now(), 9))


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as pairs of a first and a last: [1, 3], [7, 7]."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    lists = [[number for _, number in run] for _, run in runs]
    return [[run[0], run[-1]] for run in lists]


def in_words(numbers: Iterable[int]) -> str:
    """Ascending numbers as text: 1-3, 7."""
    words = [f"{first}-{last}" if first < last else f"{first}" for first, last in ranges(numbers)]
    more = f", and {len(words) - MOST_RANGES} more" if len(words) > MOST_RANGES else ""
    return ", ".join(words[:MOST_RANGES]) + more
