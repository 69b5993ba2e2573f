"""How the charts are drawn. `charts.json` has their layers in Vega-Lite's language.

The numbers are in datasets beside the specification: when only they change, the browser moves the
marks and does not build the chart again. So neither the specification nor the text alternative has
numbers in it, and a layer without data stays, with an empty dataset.
"""

import json
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import streamlit as st

from ages import OVERFLOW_AGE_YEARS, AgeCounts, ages_text, world_share
from widgets import as_csv

SPECS = Template((Path(__file__).parent / "charts.json").read_text(encoding="utf-8"))
# The tints of the age groups stay apart for colour-blind viewers; page.css has the same colours.
COLOURS = {
    "light": {"card": "#FFFFFF", "ink": "#171C3A", "muted": "#5B6178", "error": "#B42318"}
    | {"children": "#D97706", "youth": "#0F9B8E", "adults": "#3949C6", "seniors": "#5B1650"},
    "dark": {"card": "#161C36", "ink": "#E8ECFF", "muted": "#A9B1CF", "error": "#FFB4AB"}
    | {"children": "#FFB84D", "youth": "#2DBFAD", "adults": "#7A8BFF", "seniors": "#E9C9FF"},
}
AGE_AXIS_END = 105  # the bar of the users from 100 years on is five years wide
PALE = 0.3

Rows = list[dict[str, Any]]


@cache
def specification(theme: str, minutes: int, large: bool) -> Any:
    """Return the layers of all charts by name, in the colours of a theme."""
    size, width = (20, 72) if large else (12, 46)  # of the labels, in pixels; page.css has 46, too
    ticks = [-minutes * 12 * fifth for fifth in range(6)]  # in seconds
    values = {"size": size, "width": width, "start": -minutes * 60, "ticks": ticks}
    return json.loads(SPECS.substitute(COLOURS[theme], **values))


def draw(
    kind: str, tables: dict[str, Rows], alt: str, height: Any = "stretch", minutes: int = 15
) -> None:
    """Draw a chart of this kind; its numbers are the `tables` that its layers name."""
    large = st.query_params.get("view") == "tv"
    spec = specification(st.context.theme.type or "light", minutes, large)
    chart = {
        "datasets": {name: pyarrow.Table.from_pylist(rows) for name, rows in tables.items()},
        "layer": spec[kind],
        "config": spec["config"],
        "padding": {"left": 0, "top": 4, "right": 8, "bottom": 0},
        # A canvas is one picture with a text alternative; of SVG, screen readers read each mark.
        "usermeta": {"embedOptions": {"renderer": "canvas"}},
    }
    st.vega_lite_chart(chart, key=f"chart {alt.partition(';')[0]}", height=height, alt=alt)


def offer_numbers(name: str, *tables: Rows) -> None:
    """Offer the numbers of a chart as tables and as a CSV file, behind a small button."""
    numbers = st.popover("Numbers", key=f"numbers {name}", on_change="rerun")
    if numbers.open:
        download = f"{name.replace(' ', '-').lower()}.csv"
        numbers.download_button("CSV", as_csv(*tables), download, on_click="ignore")
        for rows in filter(None, tables):
            numbers.table(rows)


def draw_histogram(counts: AgeCounts, width_years: int, selected: tuple[int, int]) -> Rows:
    """Draw the bars, the median and the world's population, and return the bars' numbers.

    Bars that are not selected are pale.
    """
    (first, last), edges = selected, range(0, OVERFLOW_AGE_YEARS + 1, width_years)
    bars: Rows = [
        {
            "Age": ages_text(bar.first, bar.last),
            "Group": bar.group,
            "Users": bar.users,
            "Share": f"{bar.users / counts.total:.1%}",
            "from": bar.first,
            "to": min(bar.last + 1, AGE_AXIS_END),
            "opacity": 1.0 if first <= bar.last and bar.first <= last else PALE,
        }
        for bar in counts.histogram(width_years)
    ]
    outline = [
        {"age": age, "users": world_share(age, age + width_years - 1) * counts.total}
        for age in edges
    ]
    median = [{"age": counts.median + 0.5, "text": f"median {counts.median:g}"}]
    tables = {"bars": bars, "world": outline, "median": median}
    draw("Ages", tables, f"Histogram of the users by age; bin width in years: {width_years}.")
    return [{name: bar[name] for name in ("Age", "Group", "Users", "Share")} for bar in bars]
