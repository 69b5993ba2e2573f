"""The live page: the refresh control, the histogram, and how many users have the selected ages."""

import math
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import streamlit as st

from ages import MAX_AGE_YEARS, AgeCounts
from api_client import TICK_SECONDS, Latest, Poller

REFRESH_SECONDS = {"Pause": math.inf, "2 s": 2.0, "5 s": 5.0, "30 s": 30.0}
BIN_WIDTHS_YEARS = (1, 2, 5, 10)
USUAL_LAST_AGE = 99  # where the axis ends, unless a user is older
WAIT_SECONDS = 0.5  # how long a redraw waits for a response before it shows what is known
PALE = 0.3
# A canvas is one picture with a text alternative; SVG would be read aloud mark by mark.
CANVAS = {"embedOptions": {"renderer": "canvas"}}


def choose_refresh_seconds() -> float:
    """Return how often the viewer wants new numbers, in seconds; infinite for a pause."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        label = st.segmented_control(
            "Refresh",
            list(REFRESH_SECONDS),
            default="2 s",
            required=True,
            key="refresh",
            bind="query-params",  # a link to the page carries the choice
            label_visibility="collapsed",
        )
        if label == "Pause" and st.button("Refresh now", icon=":material/refresh:"):
            st.session_state.pop("seen", None)
    return REFRESH_SECONDS[label or "2 s"]


def newest(poller: Poller[AgeCounts], refresh_seconds: float) -> Latest[AgeCounts]:
    """Return what this viewer sees: the same numbers until their refresh time has passed."""
    seen: Latest[AgeCounts] | None = st.session_state.get("seen")
    if seen is None or seen.seconds_old + TICK_SECONDS / 2 > refresh_seconds:
        seen = poller.latest(WAIT_SECONDS)
    st.session_state.seen = seen
    return seen


def show_histogram(counts: AgeCounts) -> None:
    """Show the bars, the bin width, and how many users have the selected ages."""
    last_age = USUAL_LAST_AGE if max(counts.users_by_age) <= USUAL_LAST_AGE else MAX_AGE_YEARS
    with st.container(border=True):
        width_years = st.segmented_control(
            "Bin width in years",
            BIN_WIDTHS_YEARS,
            default=5,
            required=True,
            key="bin",
            bind="query-params",
        )
        chart = st.container()  # drawn last: the slider tells which bars are pale
        if st.session_state.get("ages", (0, 0))[1] > last_age:  # a user of that age was deleted
            st.session_state.ages = (0, last_age)
        ages = st.slider("Ages", 0, last_age, (0, last_age), key="ages", bind="query-params")
        first, last = sorted(ages)  # an address may have them in the wrong order
        part = counts.between(first, last)
        mean = f", mean age {part.mean:.1f}" if part.total else ""
        share = f"{part.total / counts.total:.1%} of all"
        st.text(f"From {first} to {last}: {part.total:,} users, {share}{mean}.")
    chart.vega_lite_chart(
        histogram_chart(counts, width_years or 5, (first, last), last_age),
        key="histogram",
        height=360,
        # No numbers: for another text the browser would build the chart again.
        alt=f"Histogram of the users by age; bin width in years: {width_years}.",
    )


def histogram_chart(
    counts: AgeCounts, width_years: int, ages: tuple[int, int], last_age: int
) -> dict[str, Any]:
    """Return bars and the median as a Vega-Lite specification; bars outside `ages` are pale.

    The numbers are in a dataset beside it: with an equal specification the browser moves the bars.
    """
    bins = counts.histogram(width_years)
    rows = pyarrow.table(
        {
            "from": list(bins),
            "to": [first + width_years for first in bins],
            "age": [bin_label(first, width_years) for first in bins],
            "users": list(bins.values()),
            "share": [users / counts.total for users in bins.values()],
            "opacity": [
                1.0 if ages[0] < first + width_years and first <= ages[1] else PALE
                for first in bins
            ],
            "median": [counts.median + 0.5] * len(bins),  # on the axis 30 is from 30 to 31
        }
    )
    x = {"type": "quantitative", "title": "Age in years"}
    scale = {"domain": [0, last_age + 1], "nice": False}
    bars = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3, "binSpacing": 2, "clip": True},
        "encoding": {
            "x": {**x, "field": "from", "bin": "binned", "scale": scale},
            "x2": {"field": "to"},
            "y": {"field": "users", "type": "quantitative", "title": "Users", "stack": None},
            "opacity": {"field": "opacity", "type": "quantitative", "scale": None, "legend": None},
            "tooltip": [
                {"field": "age", "title": "Age"},
                {"field": "users", "type": "quantitative", "title": "Users", "format": ","},
                {"field": "share", "type": "quantitative", "title": "Share", "format": ".1%"},
            ],
        },
    }
    median = {
        "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [6, 4], "color": "#d9480f"},
        "encoding": {"x": {**x, "field": "median", "aggregate": "max"}},
    }
    data = {"data": {"name": "bins"}, "datasets": {"bins": rows}, "usermeta": CANVAS}
    return {**data, "layer": [bars, median]}


def bin_label(first: int, width_years: int) -> str:
    """Return the ages of a bin as text: `20`, or `20-24` with an en dash."""
    return str(first) if width_years == 1 else f"{first}\N{EN DASH}{first + width_years - 1}"
