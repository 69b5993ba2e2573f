"""How results are judged: medians, ratios, bars. This file has no clock and no process."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Name = TypeVar("Name", str, tuple[str, str])

SLACK = 0.8  # medians of short runs vary by 10 to 20 %, so a row fails only below that


@dataclass(frozen=True)
class Row:
    """A measured ratio (or another figure), and its bar, if it has one."""

    what: str
    value: float
    bar: float | None = None
    sense: Literal["at least", "at most"] = "at least"
    unit: str = "x"

    @property
    def score(self) -> float | None:
        """Return 1 if the bar is just met, 2 if twice as good; None without a bar."""
        if self.bar is None:
            return None
        if self.sense == "at least":
            return self.value / self.bar
        return self.bar / self.value if self.value > 0 else float("inf")

    @property
    def verdict(self) -> str:
        """Return `met`, `near` (within the slack), `missed`, or an empty text without a bar."""
        if self.score is None:
            return ""
        return "met" if self.score >= 1 else "near" if self.score >= SLACK else "missed"


@dataclass(frozen=True)
class Table:
    """Results as a table."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Result:
    """The results of one part of the benchmark."""

    how: str
    rows: Sequence[Row] = ()
    tables: Sequence[Table] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def exit_code(rows: Iterable[Row]) -> int:
    """Return 1 if a row misses its bar by more than the slack, else 0."""
    return int(any(row.verdict == "missed" for row in rows))


def in_turn(rounds: int, contenders: Mapping[Name, Callable[[], Any]]) -> dict[Name, list[Any]]:
    """Run the contenders in turn, every second round in reverse; return all figures of each."""
    measured: dict[Name, list[Any]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            measured[name].append(contenders[name]())
    return measured


def calls_in_turn(
    rounds: int, calls: Mapping[str, Mapping[str, Callable[[], Any]]]
) -> dict[str, dict[str, list[Any]]]:
    """Run several calls of each contender in turn; return all figures by call and name.

    A machine that slows down then slows all calls, so that they can be compared with each other.
    """
    turns = {(call, name): turn for call, each in calls.items() for name, turn in each.items()}
    measured = in_turn(rounds, turns)
    return {call: {name: measured[call, name] for name in each} for call, each in calls.items()}


def medians(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each contender's figures."""
    return {name: statistics.median(figures) for name, figures in measured.items()}


def times(cost: float, other: float) -> float:
    """Return one cost divided by another. Raises ValueError if the other is zero."""
    if other <= 0:
        raise ValueError("a cost of zero was measured: the runs are too short")
    return cost / other
