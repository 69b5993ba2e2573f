"""What the browser draws: charts as Vega-Lite specifications, and small things as HTML.

Data under a name travel beside a chart: new numbers move its bars, and nothing blinks. For that the
specification must stay the same, to the letter, and so must the text alternative. Otherwise the
browser builds the chart anew, and what hung over it is gone. Specifications are plain dictionaries,
because a library that checks them costs more at every redraw than all else on the page.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow  # type: ignore[import-untyped]

from ages import Bin
from history import Interval

Spec = dict[str, Any]

BRUSH = "brush"
PALE = 0.3
MEDIAN_COLOUR = "#d9480f"  # told from the page in the light and in the dark, from bars by a halo
PAGE = {"expr": "background"}
TEXT = {"expr": "luminance(background) > 0.5 ? 'black' : 'white'"}
# A chart is one picture with a text alternative, and its numbers are in a table. SVG would be read
# aloud mark by mark, and some marks have no name. axe does not see into a canvas, so what is drawn
# on it needs a contrast that is looked after here.
ONE_PICTURE = {"embedOptions": {"renderer": "canvas"}}
SHARE_AXIS: Spec = {"format": ".1~%", "tickMinStep": 0.001}  # the least that it can tell apart


def histogram_chart(
    bins: Sequence[Bin],
    median: float | None,
    percent: bool,
    chosen: tuple[int, int],
    last_age: int,
) -> Spec:
    """Return the bars, pale where they are outside the chosen ages, and the median as a line.

    The axis is from 0 to the end of `last_age`.
    """
    bars = _bars(percent, last_age)
    return {
        "data": {"name": "bins"},
        "layer": [bars] if median is None else [bars, _median_line()],
        "usermeta": ONE_PICTURE,
        "datasets": {
            "bins": pyarrow.table(
                {
                    "from": [bar.first for bar in bins],
                    "to": [bar.last + 1 for bar in bins],
                    "age": [bar.label for bar in bins],
                    "users": [bar.count for bar in bins],
                    "share": [bar.share for bar in bins],
                    "opacity": [
                        1.0 if chosen[0] <= bar.last and bar.first <= chosen[1] else PALE
                        for bar in bins
                    ],
                    "median": [float(median or 0)] * len(bins),
                }
            )
        },
    }


def _bars(percent: bool, last_age: int) -> Spec:
    users = {"field": "users", "title": "Users", "axis": {"tickMinStep": 1, "format": ",d"}}
    share = {"field": "share", "title": "Share of users", "axis": SHARE_AXIS}
    from_age = {
        "field": "from",
        "type": "quantitative",
        "bin": "binned",
        "title": "Age in years",
        "scale": {"domain": [0, last_age + 1], "nice": False},
        "axis": {"tickCount": 12, "tickMinStep": 1},
    }
    return {
        "mark": {"type": "bar", "cornerRadiusEnd": 3, "binSpacing": 2, "clip": True},
        "params": [
            {
                "name": BRUSH,
                "select": {
                    "type": "interval",
                    "encodings": ["x"],
                    "mark": {"fill": "gray", "fillOpacity": 0.2, "stroke": None},
                },
            }
        ],
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


def _median_line() -> Spec:
    line = {"type": "rule", "tooltip": False}
    text = {"type": "text", "baseline": "bottom", "dy": -4, "fontSize": 13, "tooltip": False}
    return {
        "transform": [
            {"aggregate": [{"op": "max", "field": "median", "as": "median"}]},
            # On the axis a user of 30 is somewhere from 30 to 31: the line is in the middle.
            {"calculate": "datum.median + 0.5", "as": "at"},
            {"calculate": "'Median ' + format(datum.median, '~g')", "as": "label"},
        ],
        "encoding": {"x": {"field": "at", "type": "quantitative"}},
        "layer": [
            {"mark": {**line, "strokeWidth": 4, "color": PAGE}},
            {"mark": {**line, "strokeWidth": 2, "strokeDash": [6, 4], "color": MEDIAN_COLOUR}},
            {
                "mark": {**text, "color": TEXT},
                "encoding": {"y": {"value": 0}, "text": {"field": "label"}},
            },
        ],
    }


def rate_chart(intervals: Sequence[Interval], now: float, window_seconds: int) -> Spec:
    """Return the net change per minute over a window that ends `now`, by the intervals' clock.

    Each bar's area is the users it stands for.
    """
    rates = [each.per_minute for each in intervals]
    minutes = window_seconds // 60
    ago = {
        "field": "start",
        "type": "quantitative",
        "bin": "binned",
        "title": "Minutes before the last answer",
        "scale": {"domain": [-minutes, 0], "nice": False},
        "axis": {"values": list(range(-minutes, 1)), "labelExpr": "-datum.value", "grid": False},
    }
    return {
        "data": {"name": "rates"},
        "mark": {"type": "bar", "binSpacing": 1, "clip": True},
        "usermeta": ONE_PICTURE,
        "encoding": {
            "x": ago,
            "x2": {"field": "end"},
            "y": {
                "field": "rate",
                "type": "quantitative",
                "title": "Net change",
                "stack": None,
                "scale": {"domain": {"unionWith": [0, 1]}, "nice": True},
                "axis": {"format": "~s", "tickCount": 5},
            },
            "opacity": _as_it_is("opacity"),
            "tooltip": [
                {"field": "when", "type": "nominal", "title": "When"},
                _number("change", "Net change", "+,d"),
                _number("rate", "Per minute", "+,.1f"),
            ],
        },
        "datasets": {
            "rates": pyarrow.table(
                {
                    "start": [(each.start - now) / 60 for each in intervals],
                    "end": [(each.end - now) / 60 for each in intervals],
                    "when": [
                        f"{now - each.start:.0f} to {now - each.end:.0f} s before"
                        for each in intervals
                    ],
                    "rate": rates,
                    "change": [each.change for each in intervals],
                    "opacity": [1.0 if each.seen else PALE for each in intervals],
                }
            )
        },
    }


def trend_line(points: Sequence[tuple[float, float]]) -> str:
    """Return a line through pairs of a time and a value as HTML, from edge to edge, unscaled."""
    begin, end = points[0][0], points[-1][0]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    places = [
        (
            100 * (at - begin) / (end - begin) if end > begin else 0,
            90 - 80 * (value - low) / (high - low) if high > low else 50,
        )
        for at, value in points
    ]
    if end == begin:
        places.append((100, places[-1][1]))
    line = [f"{across:.1f}% {down:.1f}%" for across, down in places]
    under = [f"{across:.1f}% calc({down:.1f}% + 2px)" for across, down in reversed(places)]
    shape = "position:absolute;inset:0;background:currentColor;"
    return (
        '<div aria-hidden="true" style="position:relative;height:2.5rem">'
        f'<div style="{shape}opacity:0.1;clip-path:polygon({",".join(line)},100% 100%,0 100%)">'
        f'</div><div style="{shape}opacity:0.7;clip-path:polygon({",".join(line + under)})"></div>'
        "</div>"
    )


def call_arrow(call: str, told: str, backwards: bool, broken: bool) -> str:
    """Return a call over an arrow as HTML, and what is told of it; a broken one is red and dashed.

    Where the page is narrow, it points down or up.
    """
    colour, style = ("#d33", "dashed") if broken else ("currentColor", "solid")
    side, turned = ("left", -135) if backwards else ("right", 45)
    line = f"border:0 {style} {colour};border-width:2px 0 0"
    head = f"border:0 solid {colour};border-width:2px 2px 0 0;width:0.6rem;height:0.6rem"
    return (
        "<style>@media(max-width:640px){"
        ".call-arrow{transform:rotate(90deg);margin:2rem auto!important}}</style>"
        f'<div style="text-align:center;font-size:0.875rem">{call}'
        '<div class="call-arrow" aria-hidden="true"'
        ' style="position:relative;width:4rem;height:0.6rem;margin:0.75rem auto;opacity:0.7">'
        f'<div style="{line};position:absolute;left:0;right:0;top:50%;margin-top:-1px"></div>'
        f'<div style="{head};position:absolute;{side}:0;transform:rotate({turned}deg)"></div>'
        f"</div>{'broken' if broken else told}</div>"
    )


def _number(field: str, title: str, how: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "format": how}


def _as_it_is(field: str) -> Spec:
    return {"field": field, "type": "quantitative", "scale": None, "legend": None}
