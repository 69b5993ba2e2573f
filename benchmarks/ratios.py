"""What is compared, and how it is judged: medians, ratios, bars. No clock and no process here."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Name = TypeVar("Name", str, tuple[str, str])

SLACK = 0.8  # medians of short runs move by 10 to 20 %: only what is below that fails


@dataclass(frozen=True)
class Row:
    """A ratio (or a plain figure) that was measured, and what it shall be, if anything."""

    what: str
    value: float
    bar: float | None = None
    sense: Literal["at least", "at most"] = "at least"
    unit: str = "x"

    @property
    def score(self) -> float | None:
        """Return how far the bar is met: 1 is just met, 2 is twice as good, None has no bar."""
        if self.bar is None:
            return None
        if self.sense == "at least":
            return self.value / self.bar
        return self.bar / self.value if self.value > 0 else float("inf")

    @property
    def verdict(self) -> str:
        """Return `met`, `near` (within the slack), `missed`, or nothing where there is no bar."""
        if self.score is None:
            return ""
        return "met" if self.score >= 1 else "near" if self.score >= SLACK else "missed"


@dataclass(frozen=True)
class Table:
    """What was measured, in the words of a table."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """What was measured, as a picture: bars in groups, or lines over a number."""

    title: str
    unit: str
    kind: Literal["bars", "lines"]
    groups: Sequence[str]  # of the bars, or the places on the horizontal axis
    series: Mapping[str, Sequence[float]]  # a figure for each group


@dataclass(frozen=True)
class Result:
    """What a part of the benchmark found out."""

    how: str
    rows: Sequence[Row] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def exit_code(rows: Iterable[Row]) -> int:
    """Return 1 if a row misses its bar by more than the slack, else 0."""
    return int(any(row.verdict == "missed" for row in rows))


def in_turn(rounds: int, contenders: Mapping[Name, Callable[[], Any]]) -> dict[Name, list[Any]]:
    """Let them run one after the other, every other round in reverse; all that each measured."""
    measured: dict[Name, list[Any]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            measured[name].append(contenders[name]())
    return measured


def calls_in_turn(
    rounds: int, calls: Mapping[str, Mapping[str, Callable[[], Any]]]
) -> dict[str, dict[str, list[Any]]]:
    """Let several calls of each take turns, as calls are compared with each other as well.

    So a machine that slows down slows all of them; what each measured, by call and name.
    """
    turns = {(call, name): turn for call, each in calls.items() for name, turn in each.items()}
    measured = in_turn(rounds, turns)
    return {call: {name: measured[call, name] for name in each} for call, each in calls.items()}


def medians(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each contender's figures."""
    return {name: statistics.median(figures) for name, figures in measured.items()}


def times(better: float, other: float) -> float:
    """Return how many times one cost is of another, which must not be nothing."""
    if other <= 0:
        raise ValueError("a cost of nothing was measured: the runs are too short")
    return better / other
