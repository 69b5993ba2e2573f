"""The histogram of the live page, and how many users have the selected ages."""

from typing import Any

import pyarrow  # type: ignore[import-untyped]
import streamlit as st

from ages import MAX_AGE_YEARS, AgeCounts

USUAL_LAST_AGE = 99  # where the axis ends, unless a user is older
PALE = 0.3


def show_histogram(counts: AgeCounts) -> None:
    """Show the bars, the bin width, and how many users have the selected ages."""
    last_age = USUAL_LAST_AGE if max(counts.users_by_age) <= USUAL_LAST_AGE else MAX_AGE_YEARS
    with st.container(border=True):
        label, widths = "Bin width in years", (1, 2, 5, 10)
        width_years = st.segmented_control(
            label, widths, default=5, required=True, key="bin", bind="query-params"
        )
        chart = st.container()  # drawn last: the slider tells which bars are pale
        if st.session_state.get("ages", (0, 0))[1] > last_age:  # a user of that age was deleted
            st.session_state.ages = (0, last_age)
        ages = st.slider("Ages", 0, last_age, (0, last_age), key="ages", bind="query-params")
        first, last = sorted(ages)  # an address may have them in the wrong order
        part = counts.between(first, last)
        told = f"{part.total:,} users, {part.total / counts.total:.1%} of all"
        mean = f", mean age {part.mean:.1f}" if part.total else ""
        st.text(f"From {first} to {last}: {told}{mean}.")
    chart.vega_lite_chart(
        histogram_chart(counts, width_years or 5, (first, last), last_age),
        key="histogram",
        height=360,
        # No numbers: for another text the browser would build the chart again.
        alt=f"Histogram of the users by age; bin width in years: {width_years or 5}.",
    )


def histogram_chart(
    counts: AgeCounts, width_years: int, selected: tuple[int, int], last_age: int
) -> dict[str, Any]:
    """Return the bars and the median; bars outside the selected ages are pale."""
    bins = counts.histogram(width_years)
    first, last = selected
    rows = {
        "from": list(bins),
        "to": [age + width_years for age in bins],
        "age": [bin_label(age, width_years) for age in bins],
        "users": list(bins.values()),
        "share": [users / counts.total for users in bins.values()],
        "opacity": [1.0 if first < age + width_years and age <= last else PALE for age in bins],
        "median": [counts.median + 0.5] * len(bins),  # on the axis the age 30 is from 30 to 31
    }
    x = {"title": "Age in years", "scale": {"domain": [0, last_age + 1], "nice": False}}
    median = {
        "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [6, 4], "color": "#d9480f"},
        "encoding": {"x": {"field": "median", "type": "quantitative", "aggregate": "max"}},
    }
    y = {"field": "users", "axis": {"tickMinStep": 1}}
    chart = bar_chart(rows, x, y, {"age": "", "users": ",", "share": ".1%"})
    chart["layer"].append(median)
    return chart


def bar_chart(
    rows: dict[str, Any],
    x: dict[str, Any],
    y: dict[str, Any],
    tooltip: dict[str, str],
) -> dict[str, Any]:
    """Return bars `from` a number `to` another as a Vega-Lite specification.

    The numbers are in a dataset beside it: when only they change, the browser moves the bars and
    does not build the chart again. `tooltip` has the format of each column.
    """
    number = {"type": "quantitative"}
    bars = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3, "binSpacing": 2, "clip": True},
        "encoding": {
            "x": {"field": "from", "bin": "binned", **number, **x},
            "x2": {"field": "to"},
            "y": {"title": y["field"].capitalize(), "stack": None, **number, **y},
            "opacity": {"field": "opacity", "scale": None, "legend": None, **number},
            "tooltip": [
                {"field": name, "title": name.capitalize()}
                | ({"format": how, **number} if how else {"type": "nominal"})
                for name, how in tooltip.items()
            ],
        },
    }
    return {
        "data": {"name": "rows"},
        "datasets": {"rows": pyarrow.table(rows)},
        "layer": [bars],
        # A canvas is one picture with a text alternative; SVG would be read aloud mark by mark.
        "usermeta": {"embedOptions": {"renderer": "canvas"}},
    }


def bin_label(first: int, width_years: int) -> str:
    """Return the ages of a bin as text: `20`, or `20-24` with an en dash."""
    return str(first) if width_years == 1 else f"{first}\N{EN DASH}{first + width_years - 1}"
