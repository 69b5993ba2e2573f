"""The last five minutes: the cards with their trends, and the net change per minute.

A net change is new users minus deleted users, from all clients. A restart empties a store in
memory, but no client deletes users then. So a restart does not count as a change.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import streamlit as st

from ages import AgeCounts
from api_client import HISTORY_SECONDS, Latest
from live_page import draw_bars

STEP_SECONDS = 10
MINUTE_SECONDS = 60
RESTART_SHARE = 0.5  # when a smaller share of the users is left, the store restarted


class Change(NamedTuple):
    """The net change in a number of users, with its start and end in seconds."""

    start: float
    end: float
    users: int

    @property
    def per_minute(self) -> float:
        """The mean change, in users per minute."""
        return self.users / (self.end - self.start) * MINUTE_SECONDS


def changes(latest: Latest[AgeCounts]) -> list[Change]:
    """Return the change from each response to the next, oldest first, without the restarts."""
    return [
        Change(start, end, after.total - before.total)
        for (start, before), (end, after) in pairwise(latest.history)
        if end > start and after.total >= before.total * RESTART_SHARE
    ]


def joined(parts: Sequence[Change]) -> Change:
    """Join one or more successive changes into one."""
    return Change(parts[0].start, parts[-1].end, sum(part.users for part in parts))


def recent_change(latest: Latest[AgeCounts]) -> Change | None:
    """Return the change in the last minute, or None if less than a second of it is known."""
    since = latest.history[-1][0] - MINUTE_SECONDS
    recent = [each for each in changes(latest) if each.start >= since]
    return joined(recent) if recent and recent[-1].end - recent[0].start >= 1 else None


def steps(latest: Latest[AgeCounts]) -> list[Change]:
    """Return one change for each step of STEP_SECONDS: the sum of all changes that end in it.

    Steps begin at multiples of STEP_SECONDS, so a finished step stays the same. Oldest first.
    """
    by_step = groupby(changes(latest), lambda each: each.end // STEP_SECONDS)
    return [joined(list(parts)) for _, parts in by_step]


def show_cards(latest: Latest[AgeCounts]) -> None:
    """Show a card with its trend for each number; the first takes two columns."""
    sampled = {at // STEP_SECONDS: counts for at, counts in latest.history if counts.total}
    past, counts = list(sampled.values()), latest.history[-1][1]
    change = recent_change(latest)
    delta = f"{change.users:+,} in {change.end - change.start:.0f} s" if change else None
    calm = bool(latest.error) or not change or not change.users  # then no green
    cards = st.grid(6, min_column_width=150)
    for label, value, trend in (
        ("Users", f"{counts.total:,}", [each.total for each in past]),
        ("Mean age", f"{counts.mean:.1f}", [each.mean for each in past]),
        ("Median age", f"{counts.median:g}", [each.median for each in past]),
        ("Youngest", f"{min(counts.users_by_age)}", [min(each.users_by_age) for each in past]),
        ("Oldest", f"{max(counts.users_by_age)}", [max(each.users_by_age) for each in past]),
    ):
        users = label == "Users"
        cell = cards.cell(column_span=2) if users else cards
        with cell.container(border=True, height="stretch", vertical_alignment="distribute"):
            shown = delta if users else None
            st.metric(label, value, shown, delta_color="off" if calm else "normal")
            st.html(trend_area(trend))


def trend_area(values: Sequence[float]) -> str:
    """Return the area under the values as HTML. Screen readers skip it: it is decoration."""
    low, high = min(values), max(values)
    tops = [90 - 80 * (value - low) / ((high - low) or 1) for value in [*values, values[-1]]]
    shape = ",".join(f"{100 * n / len(values):.1f}% {top:.1f}%" for n, top in enumerate(tops))
    style = f"height:2.5rem;opacity:.3;clip-path:polygon({shape},100% 100%,0 100%)"
    return f'<div aria-hidden="true" style="background:currentColor;{style}"></div>'


def show_net_change(latest: Latest[AgeCounts]) -> None:
    """Show the net change per minute as bars, and their sum."""
    parts, now = steps(latest), latest.history[-1][0]
    with st.container(border=True):
        st.header("Net change per minute", anchor=False)
        if not parts:
            st.text("A bar appears here after two responses.")
            return
        bars = {
            "from": [(each.start - now) / MINUTE_SECONDS for each in parts],
            "to": [(each.end - now) / MINUTE_SECONDS for each in parts],
            "height": [each.per_minute for each in parts],
            "opacity": [1.0] * len(parts),
        }
        texts = {
            "When": [f"{now - each.start:.0f} to {now - each.end:.0f} s before" for each in parts],
            "Net change": [f"{each.users:+,}" for each in parts],
            "Per minute": [f"{each.per_minute:+,.1f}" for each in parts],
        }
        minutes = HISTORY_SECONDS // MINUTE_SECONDS
        x = {
            "title": "Minutes before the last response",
            "scale": {"domain": [-minutes, 0], "nice": False},
            "axis": {"values": [*range(-minutes, 1)], "labelExpr": "-datum.value", "grid": False},
        }
        y = {"title": "Per minute", "axis": {"format": "~s", "tickCount": 5}}
        alt = f"Net change in users per minute over the last {minutes} minutes."
        draw_bars(bars, texts, x, y, alt, 180)
        st.text(
            f"New users minus deleted users, from all clients: {joined(parts).users:+,}. When more"
            " than half of the users are gone at once, the API restarted: that is no change."
        )
