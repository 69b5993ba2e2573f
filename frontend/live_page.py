"""The histogram of the live page, and how many users have the selected ages."""

from typing import Any

import pyarrow  # type: ignore[import-untyped]
import streamlit as st

from ages import MAX_AGE_YEARS, AgeCounts

USUAL_LAST_AGE = 99  # where the axis ends, unless a user is older
PALE = 0.3
DASH = "\N{EN DASH}"

Spec = dict[str, Any]  # a part of a Vega-Lite specification, or columns by name


def show_histogram(counts: AgeCounts) -> None:
    """Show the bars, the bin width, and how many users have the selected ages."""
    last_age = USUAL_LAST_AGE if max(counts.users_by_age) <= USUAL_LAST_AGE else MAX_AGE_YEARS
    with st.container(border=True):
        label, widths = "Bin width in years", (1, 2, 5, 10)
        width_years = st.segmented_control(
            label, widths, default=5, required=True, key="bin", bind="query-params"
        )
        chart = st.container()  # filled last: the slider below it selects the pale bars
        if st.session_state.get("ages", (0, 0))[1] > last_age:  # a user of that age was deleted
            st.session_state.ages = (0, last_age)
        ages = st.slider("Ages", 0, last_age, (0, last_age), key="ages", bind="query-params")
        first, last = sorted(ages)  # a URL may have them in the wrong order
        part = counts.between(first, last)
        text = (
            f"From {first} to {last}: {part.total:,} users, {part.total / counts.total:.1%} of all"
        )
        st.text(f"{text}, mean age {part.mean:.1f}." if part.total else f"{text}.")
    with chart:
        draw_histogram(counts, width_years or 5, (first, last), last_age)


def draw_histogram(
    counts: AgeCounts, width_years: int, selected: tuple[int, int], last_age: int
) -> None:
    """Draw the bars and the median; bars outside the selected ages are pale."""
    bins = counts.histogram(width_years)
    first, last = selected
    bars: Spec = {
        "from": list(bins),
        "to": [age + width_years for age in bins],
        "height": list(bins.values()),
        "opacity": [1.0 if first < age + width_years and age <= last else PALE for age in bins],
        "median": [counts.median + 0.5] * len(bins),  # on the axis the age 30 is from 30 to 31
    }
    texts = {
        "Age": [
            str(age) if width_years == 1 else f"{age}{DASH}{age + width_years - 1}" for age in bins
        ],
        "Users": [f"{users:,}" for users in bins.values()],
        "Share": [f"{users / counts.total:.1%}" for users in bins.values()],
    }
    x = {"title": "Age in years", "scale": {"domain": [0, last_age + 1], "nice": False}}
    median = {
        "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [6, 4], "color": "#d9480f"},
        "encoding": {"x": {"field": "median", "type": "quantitative", "aggregate": "max"}},
    }
    # No numbers in the text alternative: if it changes, the browser builds the whole chart again.
    alt = f"Histogram of the users by age; bin width in years: {width_years}."
    draw_bars(bars, texts, x, {"title": "Users", "axis": {"tickMinStep": 1}}, alt, 320, median)


def draw_bars(
    bars: Spec, texts: Spec, x: Spec, y: Spec, alt: str, height: int, *more: Spec
) -> None:
    """Draw bars `from` a number `to` another; `texts` are their tooltips, and a table below them.

    The numbers are in a dataset beside the Vega-Lite specification: when only they change, the
    browser moves the bars and does not build the chart again.
    """
    number = {"type": "quantitative"}
    layer = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3, "binSpacing": 2, "clip": True},
        "encoding": {
            "x": {"field": "from", "bin": "binned", **number, **x},
            "x2": {"field": "to"},
            "y": {"field": "height", "stack": None, **number, **y},
            "opacity": {"field": "opacity", "scale": None, "legend": None, **number},
            "tooltip": [{"field": name, "type": "nominal"} for name in texts],
        },
    }
    chart = {
        "data": {"name": "rows"},
        "datasets": {"rows": pyarrow.table({**bars, **texts})},
        "layer": [layer, *more],
        # A canvas is one picture with a text alternative; of SVG, screen readers read each mark.
        "usermeta": {"embedOptions": {"renderer": "canvas"}},
    }
    st.vega_lite_chart(chart, key=f"chart {y['title']}", height=height, alt=alt)
    table = st.expander("Numbers as a table", key=f"table {y['title']}", on_change="rerun")
    if table.open:
        table.table(texts)
