"""The charts, as Vega-Lite specifications that the browser draws.

Data under a name travel beside a chart: new numbers move its bars, and nothing blinks. The
specifications are plain dictionaries, because a library that checks them costs more at every redraw
than all else on the page.
"""

from collections.abc import Sequence
from typing import Any

from ages import Bin
from history import Interval

BRUSH = "brush"
PALE = 0.3
MEDIAN_COLOUR = "#c2410c"  # told from the bars in the light and in the dark

Spec = dict[str, Any]


def histogram_chart(
    bins: Sequence[Bin], median: float | None, percent: bool, chosen: tuple[int, int]
) -> Spec:
    """Return the bars, pale where they are outside the chosen ages, and the median as a line."""
    users = {"field": "users", "title": "Users", "axis": {"tickMinStep": 1, "format": ",d"}}
    share = {"field": "share", "title": "Share of users", "axis": {"format": ".0%"}}
    from_age = {
        "field": "from",
        "type": "quantitative",
        "bin": "binned",
        "title": "Age in years",
        "axis": {"tickCount": 12, "tickMinStep": 1},
    }
    bars = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3, "binSpacing": 2},
        "params": [{"name": BRUSH, "select": {"type": "interval", "encodings": ["x"]}}],
        "encoding": {
            "x": from_age,
            "x2": {"field": "to"},
            "y": {"type": "quantitative", "stack": None, **(share if percent else users)},
            "opacity": _as_it_is("opacity"),
            "tooltip": [
                {"field": "age", "type": "nominal", "title": "Age"},
                _number("users", "Users", ","),
                _number("share", "Share", ".1%"),
            ],
        },
    }
    line = {
        "mark": {"type": "rule", "strokeDash": [6, 4], "strokeWidth": 2, "color": MEDIAN_COLOUR},
        "encoding": {
            "x": {"field": "median at", "type": "quantitative", "aggregate": "max"},
        },
    }
    return {
        "data": {"name": "bins"},
        "layer": [bars] if median is None else [bars, line],
        "datasets": {
            "bins": {
                "from": [bar.first for bar in bins],
                "to": [bar.last + 1 for bar in bins],
                "age": [bar.label for bar in bins],
                "users": [bar.count for bar in bins],
                "share": [bar.share for bar in bins],
                "opacity": [
                    1.0 if chosen[0] <= bar.last and bar.first <= chosen[1] else PALE
                    for bar in bins
                ],
                # On the axis a user of 30 is somewhere from 30 to 31: the line is in the middle.
                "median at": [(median or 0) + 0.5] * len(bins),
            }
        },
    }


def rate_chart(intervals: Sequence[Interval], clock_offset_seconds: float) -> Spec:
    """Return the net change per minute over time: each bar's area is the users it stands for.

    `clock_offset_seconds` leads from the intervals' clock to the time of day.
    """
    rates = [each.per_minute for each in intervals]
    return {
        "data": {"name": "rates"},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {
                "field": "start",
                "type": "temporal",
                "title": None,
                "axis": {"format": "%H:%M:%S", "tickCount": 5},
            },
            "x2": {"field": "end"},
            "y": {
                "field": "rate",
                "type": "quantitative",
                "stack": None,
                "title": "Users per minute",
                "scale": {"domain": [min(0.0, *rates), max(1.0, *rates)], "nice": True},
                "axis": {"format": "~s", "tickCount": 5},
            },
            "opacity": _as_it_is("opacity"),
            "tooltip": [
                {"field": "start", "type": "temporal", "title": "From", "format": "%H:%M:%S"},
                {"field": "end", "type": "temporal", "title": "To", "format": "%H:%M:%S"},
                _number("change", "Net change", "+,d"),
                _number("rate", "Users per minute", "+,.1f"),
            ],
        },
        "datasets": {
            "rates": {
                "start": [round((each.start + clock_offset_seconds) * 1000) for each in intervals],
                "end": [round((each.end + clock_offset_seconds) * 1000) for each in intervals],
                "rate": rates,
                "change": [each.change for each in intervals],
                "opacity": [1.0 if each.seen else PALE for each in intervals],
            }
        },
    }


def _number(field: str, title: str, how: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "format": how}


def _as_it_is(field: str) -> Spec:
    return {"field": field, "type": "quantitative", "scale": None, "legend": None}
