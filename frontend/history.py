"""The last five minutes: the cards with their trends, and the net change per minute.

A net change is new users minus deleted users, from all clients. A store in memory that restarts is
empty and deletes no users: no change is computed over a restart.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import streamlit as st

from ages import AgeCounts
from api_client import HISTORY_SECONDS, Latest
from live_page import bar_chart

STEP_SECONDS = 10
MINUTE_SECONDS = 60
RESTART_SHARE = 0.5  # when a smaller share of the users is left, the store restarted

Totals = Sequence[tuple[float, int]]  # a time in seconds and the number of users then, in order


class Interval(NamedTuple):
    """A time between two responses in seconds, and the net change in it."""

    start: float
    end: float
    change: int

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
    if recent[-1][0] - recent[0][0] < 1:
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
        found += [
            Interval(start, end, after - before)
            for (start, before), (end, after) in pairwise(ends)
            if end > start
        ]
    return found


def show_cards(latest: Latest[AgeCounts]) -> None:
    """Show a card with its trend for each number; the first takes two columns.

    A net change is no good news while the numbers are old.
    """
    sampled = {at // STEP_SECONDS: counts for at, counts in latest.history if counts.total}
    past, counts = list(sampled.values()), latest.history[-1][1]
    change = recent_change(totals_of(latest), MINUTE_SECONDS)
    calm = bool(latest.error) or not change or not change[0]
    cards = st.grid(6, min_column_width=150)
    for label, value, trend in (
        ("Users", f"{counts.total:,}", [each.total for each in past]),
        ("Mean age", f"{counts.mean:.1f}", [each.mean for each in past]),
        ("Median age", f"{counts.median:g}", [each.median for each in past]),
        ("Youngest", f"{min(counts.users_by_age)}", [min(each.users_by_age) for each in past]),
        ("Oldest", f"{max(counts.users_by_age)}", [max(each.users_by_age) for each in past]),
    ):
        users = label == "Users"
        delta = f"{change[0]:+,} in {change[1]:.0f} s" if change and users else None
        cell = cards.cell(column_span=2 if users else 1)
        with cell.container(border=True, height="stretch", vertical_alignment="distribute"):
            st.metric(label, value, delta, delta_color="off" if calm else "normal")
            st.html(trend_area(trend))


def trend_area(values: Sequence[float]) -> str:
    """Return the area under the values as HTML: decoration, which is not read aloud."""
    low, high = min(values), max(values)
    tops = [90 - 80 * (value - low) / ((high - low) or 1) for value in [*values, values[-1]]]
    shape = ",".join(f"{100 * n / len(values):.1f}% {top:.1f}%" for n, top in enumerate(tops))
    style = f"height:2.5rem;opacity:.3;clip-path:polygon({shape},100% 100%,0 100%)"
    return f'<div aria-hidden="true" style="background:currentColor;{style}"></div>'


def show_net_change(latest: Latest[AgeCounts]) -> None:
    """Show the net change per minute as bars, and their sum."""
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
            f"New users minus deleted users, from all clients: {change:+,}. When more than half of"
            " the users are gone at once, the API restarted: that is no change."
        )


def net_change_chart(steps: Sequence[Interval], end: float) -> dict[str, Any]:
    """Return the net change per minute up to `end`; the area of a bar is the number of users."""
    minutes = HISTORY_SECONDS // 60
    rows = {
        "from": [(each.start - end) / 60 for each in steps],
        "to": [(each.end - end) / 60 for each in steps],
        "when": [f"{end - each.start:.0f} to {end - each.end:.0f} s before" for each in steps],
        "per minute": [each.per_minute for each in steps],
        "net change": [each.change for each in steps],
        "opacity": [1.0] * len(steps),
    }
    x = {
        "title": "Minutes before the last response",
        "scale": {"domain": [-minutes, 0], "nice": False},
        "axis": {"values": list(range(-minutes, 1)), "labelExpr": "-datum.value", "grid": False},
    }
    y = {"field": "per minute", "axis": {"format": "~s", "tickCount": 5}}
    return bar_chart(rows, x, y, {"when": "", "net change": "+,d", "per minute": "+,.1f"})
