"""The accounts of a run: what became of every user, how long it took, and what went wrong."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable

OUTCOMES = ("created", "already there", "rejected", "given up")
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

    def percentile_seconds(self, percent: float) -> float:
        """The smallest duration that so many per cent of all do not exceed; 0 if there are none."""
        rank = math.ceil(self._buckets.total() * percent / 100)
        ordered = sorted(self._buckets.items())
        totals = itertools.accumulate(count for _, count in ordered)
        for (bucket, _), total in zip(ordered, totals, strict=True):
            if total >= rank:
                # Of a bucket's bounds neither, but what is equally far from both in proportion.
                return 2 * self.GROWTH**bucket / (self.GROWTH + 1)
        return 0.0


class Ledger:
    """The accounts: attempted = created + already there + rejected + given up."""

    def __init__(self) -> None:
        self.attempted = 0
        self.missed = 0
        self.settled = Counter(dict.fromkeys(OUTCOMES, 0))
        self.given_up_ids: list[int] = []
        self.errors: Counter[str] = Counter()
        self.latencies = Latencies()
        self._open: set[int] = set()
        self._began: float | None = None

    def attempt(self, user_ids: Iterable[int]) -> None:
        """Open an account for each user that is about to be sent."""
        self._began = self._began or time.monotonic()
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

    def close(self) -> None:
        """Give up whoever is still on the way; they are named, for they may have arrived."""
        self.given_up_ids = sorted(self._open)
        self.settled["given up"] += len(self._open)
        self._open.clear()

    def balances(self) -> bool:
        """Is every attempted user accounted for? False would be a mistake in this program."""
        return self.attempted == self.settled.total()

    def users_per_second(self) -> float:
        """The rate from the first attempt until now."""
        seconds = time.monotonic() - self._began if self._began else 0.0
        return self.attempted / seconds if seconds else 0.0

    def failed_share(self) -> float:
        """The share of all users due that were not stored: rejected, given up or missed."""
        due = self.attempted + self.missed
        failed = self.settled["rejected"] + self.settled["given up"] + self.missed
        return failed / due if due else 0.0

    def __str__(self) -> str:
        sides = " + ".join(f"{count} {outcome}" for outcome, count in self.settled.items())
        unknown = f" (outcome unknown: user {ranges(self.given_up_ids)})"
        equation = f"{self.attempted} attempted {'=' if self.balances() else '!='} {sides}"
        return equation + (unknown if self.given_up_ids else "")

    def summary(self, seconds: float) -> dict[str, object]:
        """Everything above as JSON; `seconds` is how long the run took."""
        milliseconds = {
            f"p{percent}": round(self.latencies.percentile_seconds(percent) * 1000, 3)
            for percent in (50, 95, 99)
        }
        return {
            "seconds": round(seconds, 3),
            "attempted": self.attempted,
            **{outcome.replace(" ", "_"): count for outcome, count in self.settled.items()},
            "missed": self.missed,
            "balances": self.balances(),
            "failed_share": self.failed_share(),
            "users_per_second": round(self.users_per_second(), 3),
            "latency_milliseconds": milliseconds,
            "errors": dict(self.errors.most_common()),
            "outcome_unknown": ranges(self.given_up_ids),
        }


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in few words: 1-3, 7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [f"{first}-{last}" if first < last else f"{first}" for first, last in spans]
    more = [f"and {len(words) - MOST_RANGES} more"] if len(words) > MOST_RANGES else []
    return ", ".join(words[:MOST_RANGES] + more)
