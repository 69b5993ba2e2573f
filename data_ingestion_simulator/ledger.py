"""The accounts of a run: what became of every user, how long it took, and what went wrong."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

OUTCOMES = ("created", "already there", "rejected", "given up")
STORED = ("created", "already there")
MOST_RANGES = 10


class Latencies:
    """Durations in fixed memory, from which any percentile can be told to within one per cent.

    A histogram whose buckets grow by two per cent, from a microsecond to a day: at most 1,272 of
    them (DDSketch: Masson, Rim and Lee, VLDB 2019).
    """

    GROWTH = 1.02
    LOG_GROWTH = math.log(GROWTH)
    SHORTEST_SECONDS, LONGEST_SECONDS = 1e-6, 86_400.0

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Enter a duration; those out of bounds count as the bound."""
        bounded = min(max(seconds, self.SHORTEST_SECONDS), self.LONGEST_SECONDS)
        self._buckets[math.ceil(math.log(bounded) / self.LOG_GROWTH)] += 1

    def percentile_seconds(self, percent: float) -> float | None:
        """The smallest duration that so many per cent of all do not exceed; None without any."""
        rank = math.ceil(self._buckets.total() * percent / 100)
        ordered = sorted(self._buckets.items())
        totals = itertools.accumulate(count for _, count in ordered)
        for (bucket, _), total in zip(ordered, totals, strict=True):
            if total >= rank:
                # Of a bucket's bounds neither, but what is equally far from both in proportion.
                return 2 * self.GROWTH**bucket / (self.GROWTH + 1)
        return None


class Ledger:
    """The accounts: attempted = created + already there + rejected + given up (+ not sent).

    Users are due each `period_seconds`, 0 in bulk. Those never attempted are `dropped`: their tick
    found no place; or `late`: this program came to it too late.
    """

    def __init__(
        self, period_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.attempted = 0
        self.dropped = self.late = 0
        self.settled = Counter(dict.fromkeys(OUTCOMES, 0))
        self.given_up_ids: list[int] = []
        self.errors: Counter[str] = Counter()
        self.latencies = Latencies()
        self._period_seconds = period_seconds
        self._clock = clock
        self._open: set[int] = set()
        self._began_at: float | None = None
        self._ended_at = 0.0

    def attempt(self, user_ids: Iterable[int], due_at: float) -> None:
        """Open an account for each user that is about to be sent."""
        if self._began_at is None:
            self._began_at = due_at
        self._ended_at = max(self._ended_at, due_at + self._period_seconds)
        before = len(self._open)
        self._open.update(user_ids)
        self.attempted += len(self._open) - before

    def renumber(self, old_id: int, new_id: int) -> None:
        """The same user goes on under another id."""
        self._open.remove(old_id)
        self._open.add(new_id)

    def settle(self, user_ids: Collection[int], outcome: str) -> None:
        """Enter what became of users."""
        self._open.difference_update(user_ids)
        self.settled[outcome] += len(user_ids)
        self._ended_at = max(self._ended_at, self._clock())

    def close(self) -> None:
        """Give up whoever is still on the way; they are named, for they may have arrived."""
        self.given_up_ids += sorted(self._open)
        self.settled["given up"] += len(self._open)
        self._open.clear()

    def balances(self) -> bool:
        """Is every attempted user accounted for? False would be a mistake in this program."""
        return self.attempted == self.settled.total()

    def users_per_second(self) -> float | None:
        """How many users were stored a second; None if nobody was sent.

        Counts from when the first was sent until the last answer, and at a pace at least until the
        next would have been due: three users at an interval of 0.1 s are ten a second.
        """
        if self.settled["not sent"] or self._began_at is None or self._ended_at <= self._began_at:
            return None
        return self.stored() / (self._ended_at - self._began_at)

    def stored(self) -> int:
        """How many users the API has, as far as we know."""
        return sum(self.settled[outcome] for outcome in STORED)

    def failed_share(self) -> float:
        """The share of users due that were not stored: rejected, given up, dropped or late."""
        not_attempted = self.dropped + self.late
        due = self.attempted + not_attempted
        failed = self.settled["rejected"] + self.settled["given up"] + not_attempted
        return failed / due if due else 0.0

    def failed(self, fail_over: float) -> bool:
        """Were more users than this share not stored, or none at all, though not for a stop?"""
        refused = self.settled["rejected"] + self.dropped + self.late
        none_stored = refused > 0 and not self.stored() and not self.settled["not sent"]
        return none_stored or self.failed_share() > fail_over

    def __str__(self) -> str:
        sides = " + ".join(f"{count:,} {outcome}" for outcome, count in self.settled.items())
        unknown = f" (outcome unknown: user {in_words(self.given_up_ids)})"
        equation = f"{self.attempted:,} attempted {'=' if self.balances() else '!='} {sides}"
        return equation + (unknown if self.given_up_ids else "")

    def summary(self, seconds: float) -> dict[str, object]:
        """Everything above as JSON; `seconds` is how long the run took."""
        latencies = Latencies() if self.settled["not sent"] else self.latencies
        percentiles = {f"p{each}": latencies.percentile_seconds(each) for each in (50, 95, 99)}
        rate = self.users_per_second()
        return {
            "seconds": round(seconds, 3),
            "attempted": self.attempted,
            **{outcome.replace(" ", "_"): count for outcome, count in self.settled.items()},
            "dropped": self.dropped,
            "late": self.late,
            "balances": self.balances(),
            "failed_share": self.failed_share(),
            "users_per_second": None if rate is None else round(rate, 3),
            "latency_milliseconds": {
                name: None if seconds is None else round(seconds * 1000, 3)
                for name, seconds in percentiles.items()
            },
            "errors": dict(self.errors.most_common()),
            "outcome_unknown": ranges(self.given_up_ids),
        }


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as pairs of a first and a last: [1, 3], [7, 7]."""
    pairs: list[list[int]] = []
    for number in numbers:
        if pairs and number == pairs[-1][1] + 1:
            pairs[-1][1] = number
        else:
            pairs.append([number, number])
    return pairs


def in_words(numbers: Iterable[int]) -> str:
    """Ascending numbers in few words: 1-3, 7."""
    words = [f"{first}-{last}" if first < last else f"{first}" for first, last in ranges(numbers)]
    more = [f"and {len(words) - MOST_RANGES} more"] if len(words) > MOST_RANGES else []
    return ", ".join(words[:MOST_RANGES] + more)
