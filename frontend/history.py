"""The arithmetic of totals over time: how fast they change, and what nobody saw.

Every function takes `totals`, pairs of a time in seconds and the number of users then, in order.
What it gives is the net change: users created less users deleted. A store that began anew, as one
in memory does when the API starts, did not have its users deleted: time begins anew with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

STEP_SECONDS = 10
RESET_SHARE = 0.5  # fewer than this part of the users left from one answer to the next: begun anew

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stretch of time between two answers, in seconds, and the net change in users.

    `seen` is false when it is so long that answers are missing: then only the mean is known.
    """

    start: float
    end: float
    change: int
    seen: bool

    @property
    def per_minute(self) -> float:
        """The mean rate of the net change, in users per minute."""
        return self.change / (self.end - self.start) * 60


def sampled(samples: Sequence[tuple[float, T]]) -> list[tuple[float, T]]:
    """Return the first of the samples in each STEP_SECONDS, and the last of all."""
    first_of_step: dict[float, tuple[float, T]] = {}
    for each in samples:
        first_of_step.setdefault(each[0] // STEP_SECONDS, each)
    return list(dict([*first_of_step.values(), *samples[-1:]]).items())


def intervals(totals: Sequence[tuple[float, int]]) -> list[Interval]:
    """Return what happened between the last answers of each STEP_SECONDS, oldest first.

    Steps begin at multiples of STEP_SECONDS, so intervals stay what they are as time goes on. Their
    changes add up to the change of all the time. Without an answer in a step the interval grows
    over it: nothing is invented in between. None leads over a time when all began anew.
    """
    return [interval for run in _runs(totals) for interval in _intervals(run)]


def _runs(totals: Sequence[tuple[float, int]]) -> list[list[tuple[float, int]]]:
    runs: list[list[tuple[float, int]]] = [[]]
    for at, total in totals:
        if runs[-1] and total < runs[-1][-1][1] * RESET_SHARE:
            runs.append([])
        runs[-1].append((at, total))
    return runs


def _intervals(totals: Sequence[tuple[float, int]]) -> list[Interval]:
    last_of_step = {at // STEP_SECONDS: (at, total) for at, total in totals}
    ends = list(last_of_step.values())
    if totals and ends[0] != totals[0]:
        ends.insert(0, totals[0])
    return [
        Interval(start=start, end=end, change=after - before, seen=end - start < 2 * STEP_SECONDS)
        for (start, before), (end, after) in pairwise(ends)
        if end > start
    ]


def change(totals: Sequence[tuple[float, int]], seconds: float) -> tuple[int, float] | None:
    """Return the net change over the last `seconds`, and over how many seconds it really was.

    None when there are no two answers to compare in that time, since all began anew.
    """
    recent = [each for each in _runs(totals)[-1] if each[0] >= totals[-1][0] - seconds]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    return recent[-1][1] - recent[0][1], recent[-1][0] - recent[0][0]
