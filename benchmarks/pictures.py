"""Draws charts as SVG, with the standard library alone."""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.ratios import Chart

COLORS = ("#0b6e4f", "#c44536", "#7a7a7a", "#1d3557", "#e09f3e", "#6a4c93", "#2a9d8f", "#bc6c25",
          "#3a86ff", "#8d99ae")  # fmt: skip


def picture(chart: Chart) -> str:
    """Return a chart as a complete SVG file."""
    return bars(chart) if chart.kind == "bars" else curves(chart)


def bars(chart: Chart) -> str:
    """Return horizontal bars in groups, each with its figure."""
    most = max(value for values in chart.series.values() for value in values) or 1
    parts, y = [], 40
    for number, group in enumerate(chart.groups):
        parts.append(text(10, y + 12, group, "bold"))
        y += 20
        for color, (name, values) in zip(COLORS * 2, chart.series.items(), strict=False):
            width = 420 * values[number] / most
            parts.append(text(150, y + 11, name, "end"))
            parts.append(f'<rect x="158" y="{y}" width="{width:.1f}" height="13" fill="{color}"/>')
            parts.append(text(164 + width, y + 11, short(values[number])))
            y += 16
        y += 8
    return svg(chart, y + 6, parts)


def curves(chart: Chart) -> str:
    """Return lines over groups at equal distances; the vertical axis is logarithmic."""
    values = [value for line in chart.series.values() for value in line if value > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    xs = [80 + 360 * n / max(1, len(chart.groups) - 1) for n in range(len(chart.groups))]

    def height(value: float) -> float:
        return 300 - 240 * (math.log10(max(value, 10**low)) - low) / (high - low)

    parts = [text(x, 322, group, "middle") for x, group in zip(xs, chart.groups, strict=True)]
    for power in range(low, high + 1):
        y = height(10**power)
        parts.append(f'<path d="M80 {y:.1f}H440" stroke="#ddd"/>')
        parts.append(text(72, y + 4, short(10**power), "end"))
    ends = sorted((height(line[-1]), name) for name, line in chart.series.items())
    places: dict[str, float] = {}
    for y, name in ends:  # so that the names at the lines' ends do not overlap
        places[name] = max(y, max(places.values(), default=0) + 14)
    for color, (name, line) in zip(COLORS * 2, chart.series.items(), strict=False):
        points = " ".join(f"{x:.1f},{height(v):.1f}" for x, v in zip(xs, line, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(text(450, places[name] + 4, f"{name}: {short(line[-1])}", color=color))
    return svg(chart, max(340, max(places.values()) + 20), parts)


def short(value: float) -> str:
    """Return a figure with three digits, or as many as its whole part has."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(x: float, y: float, label: str, how: str = "start", color: str = "#222") -> str:
    """Return text at a position; `how` is its anchor, or `bold`."""
    style = 'font-weight="bold"' if how == "bold" else f'text-anchor="{how}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} fill="{color}">{escape(label)}</text>'


def svg(chart: Chart, height: float, parts: Sequence[str]) -> str:
    """Return a complete picture, on white so that it is readable on any page."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {height:.0f}" width="660"'
        ' font-family="sans-serif" font-size="12">'
    )
    title = text(10, 22, f"{chart.title} ({chart.unit})", "bold")
    return "\n".join(
        [head, '<rect width="100%" height="100%" fill="#fff"/>', title, *parts, "</svg>\n"]
    )
