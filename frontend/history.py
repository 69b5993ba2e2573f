"""The last five minutes: the cards with their trends, and the net change per minute.

A net change is new users minus deleted users, from all clients. A store in memory that restarts is
empty and deletes no users: no change is computed over a restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import streamlit as st

from ages import AgeCounts
from api_client import HISTORY_SECONDS, Latest, now
from live_page import CANVAS, PALE
from widgets import show_table, time_ago

STEP_SECONDS = 10
MINUTE_SECONDS = 60
RESTART_SHARE = 0.5  # when a smaller share of the users is left, the store restarted

Totals = Sequence[tuple[float, int]]  # a time in seconds and the number of users then, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A time between two responses in seconds, and the net change in it.

    `seen` is false when it is so long that responses are missing: only the mean is known.
    """

    start: float
    end: float
    change: int
    seen: bool

    @property
    def per_minute(self) -> float:
        """The mean net change, in users per minute."""
        return self.change / (self.end - self.start) * MINUTE_SECONDS


def totals_of(latest: Latest[AgeCounts]) -> Totals:
    """Return the number of users in each response."""
    return [(at, counts.total) for at, counts in latest.history]


def split_at_restarts(totals: Totals) -> list[list[tuple[float, int]]]:
    """Return the totals in parts, each without a restart."""
    parts: list[list[tuple[float, int]]] = [[]]
    for at, total in totals:
        if parts[-1] and total < parts[-1][-1][1] * RESTART_SHARE:
            parts.append([])
        parts[-1].append((at, total))
    return parts


def recent_change(totals: Totals, seconds: float) -> tuple[int, float] | None:
    """Return the net change in the last `seconds`, and the seconds that it really took.

    None when there are no two responses in that time since the last restart.
    """
    recent = [each for each in split_at_restarts(totals)[-1] if each[0] >= totals[-1][0] - seconds]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    return recent[-1][1] - recent[0][1], recent[-1][0] - recent[0][0]


def intervals(totals: Totals) -> list[Interval]:
    """Return the changes between the last responses of each STEP_SECONDS, oldest first.

    Steps begin at multiples of STEP_SECONDS, so an interval stays the same as time goes on. A step
    without a response makes the interval longer. The changes add up to the whole change.
    """
    found = []
    for part in split_at_restarts(totals):
        ends = list({at // STEP_SECONDS: (at, total) for at, total in part}.values())
        if part and ends[0] != part[0]:
            ends.insert(0, part[0])
        for (start, before), (end, after) in pairwise(ends):
            if end > start:
                seen = end - start < 2 * STEP_SECONDS
                found.append(Interval(start=start, end=end, change=after - before, seen=seen))
    return found


def show_cards(latest: Latest[AgeCounts]) -> None:
    """Show a card with its trend for each number; the first takes two columns.

    A net change is no good news while the numbers are old.
    """
    sampled = {at // STEP_SECONDS: counts for at, counts in latest.history if counts.total}
    past, counts = list(sampled.values()), latest.history[-1][1]
    change = recent_change(totals_of(latest), MINUTE_SECONDS)
    first = "first response" if len(latest.history) == 1 else "restarted"
    delta = f"{change[0]:+,} in {change[1]:.0f} s" if change else first
    cards = st.grid(6, min_column_width=150)
    cards.cell(column_span=2).metric(
        "Users",
        f"{counts.total:,}",
        delta,
        delta_color="normal" if change and change[0] and not latest.error else "off",
        delta_arrow="auto" if change and change[0] else "off",
        border=True,
        height="stretch",
        chart_data=[each.total for each in past],
    )
    for label, value, trend in (
        ("Mean age", f"{counts.mean:.1f}", [each.mean for each in past]),
        ("Median age", f"{counts.median:g}", [each.median for each in past]),
        ("Youngest", f"{min(counts.users_by_age)}", [min(each.users_by_age) for each in past]),
        ("Oldest", f"{max(counts.users_by_age)}", [max(each.users_by_age) for each in past]),
    ):
        cards.metric(label, value, border=True, height="stretch", chart_data=trend)


def show_net_change(latest: Latest[AgeCounts]) -> None:
    """Show the net change per minute as bars, and as a table."""
    steps = intervals(totals_of(latest))
    with st.container(border=True):
        st.header("Net change per minute", anchor=False)
        if not steps:
            st.text("A bar appears here after two responses.")
            return
        st.vega_lite_chart(
            net_change_chart(steps, latest.history[-1][0]),
            key="net change",
            height=180,
            alt=f"Net change in users per minute over the last {HISTORY_SECONDS // 60} minutes.",
        )
        change = sum(each.change for each in steps)
        st.text(
            f"New users minus deleted users, from all clients: {change:+,}. A pale bar is the mean"
            " of 20 seconds or more without a response. When more than half of the users are gone"
            " at once, the API restarted: that is no change."
        )
    show_table(
        "The same changes as a table",
        lambda: {
            "Until": [time_ago(now() - each.end) for each in reversed(steps)],
            "Seconds": [f"{each.end - each.start:.0f}" for each in reversed(steps)],
            "Change": [f"{each.change:+,}" for each in reversed(steps)],
            "Per minute": [f"{each.per_minute:+,.1f}" for each in reversed(steps)],
        },
    )


def net_change_chart(steps: Sequence[Interval], end: float) -> dict[str, Any]:
    """Return the net change per minute up to `end` as a Vega-Lite specification.

    The area of a bar is the number of users.
    """
    minutes = HISTORY_SECONDS // 60
    rows = pyarrow.table(
        {
            "start": [(each.start - end) / 60 for each in steps],
            "end": [(each.end - end) / 60 for each in steps],
            "when": [f"{end - each.start:.0f} to {end - each.end:.0f} s before" for each in steps],
            "rate": [each.per_minute for each in steps],
            "change": [each.change for each in steps],
            "opacity": [1.0 if each.seen else PALE for each in steps],
        }
    )
    minutes_ago = {
        "field": "start",
        "type": "quantitative",
        "bin": "binned",
        "title": "Minutes before the last response",
        "scale": {"domain": [-minutes, 0], "nice": False},
        "axis": {"values": list(range(-minutes, 1)), "labelExpr": "-datum.value", "grid": False},
    }
    rate = {
        "field": "rate",
        "type": "quantitative",
        "title": "Net change",
        "stack": None,
        "scale": {"domain": {"unionWith": [0, 1]}, "nice": True},
        "axis": {"format": "~s", "tickCount": 5},
    }
    return {
        "data": {"name": "rates"},
        "datasets": {"rates": rows},
        "usermeta": CANVAS,
        "mark": {"type": "bar", "binSpacing": 1, "clip": True},
        "encoding": {
            "x": minutes_ago,
            "x2": {"field": "end"},
            "y": rate,
            "opacity": {"field": "opacity", "type": "quantitative", "scale": None, "legend": None},
            "tooltip": [
                {"field": "when", "type": "nominal", "title": "When"},
                {"field": "change", "type": "quantitative", "title": "Net change", "format": "+,d"},
                {"field": "rate", "type": "quantitative", "title": "Per minute", "format": "+,.1f"},
            ],
        },
    }
