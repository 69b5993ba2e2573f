"""What was found out, for readers: a table on the terminal, RESULTS.md, JSON, and pictures."""

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.load import CORES, PINNED
from benchmarks.ratios import Chart, Result, Row, Table
from tools.processes import ROOT, run_quietly

COLORS = ("#0b6e4f", "#c44536", "#7a7a7a", "#1d3557", "#e09f3e", "#6a4c93", "#2a9d8f", "#bc6c25",
          "#3a86ff", "#8d99ae")  # fmt: skip
VERSIONS = ("fastapi", "uvicorn", "pydantic", "litestar", "blacksheep", "sanic", "flask")
PREFACE = (
    "Written by `python3 lab.py bench`; `benchmarks/README.md` tells how to run it, and what is",
    "unfair to whom. A ratio is of two things, measured in turn in one run. A figure alone",
    "says what this machine did that day, and proves nothing about another.",
)
VERDICTS = {"met": "met", "near": "within the slack", "missed": "**missed**", "": ""}


def write(folder: Path, part: str, result: Result, quick: bool) -> None:
    """Keep what a part found out, and renew RESULTS.md from what all parts have found out."""
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) | {"score": row.score, "verdict": row.verdict} for row in result.rows]
    document = asdict(result) | {"part": part, "quick": quick, "machine": machine(), "rows": rows}
    document["pictures"] = []
    for number, chart in enumerate(result.charts, 1):
        name = f"{part}-{number}.svg"
        (results / name).write_text(picture(chart), encoding="utf-8")
        document["pictures"].append([chart.title, f"results/{name}"])
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    (results / f"{part}.json").write_text(text, encoding="utf-8")


def page(folder: Path, parts: Sequence[str]) -> None:
    """Write RESULTS.md from the parts' JSON in a folder."""
    files = [folder / "results" / f"{part}.json" for part in parts]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    lines = ["# Results", "", *PREFACE, ""]
    for told in {json.dumps(each["machine"]): each["machine"] for each in found}.values():
        of = [each["part"] for each in found if each["machine"] == told]
        lines += [f"- {told['hardware']}; {told['software']} ({', '.join(of)})"]
    for each in found:
        lines += ["", *section(each)]
    (folder / "RESULTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def section(found: Mapping[str, Any]) -> list[str]:
    """Return a part's section of RESULTS.md."""
    quick = " --quick" if found["quick"] else ""
    lines = [
        f"## {found['part'].capitalize()}",
        "",
        f"`python3 lab.py bench {found['part']}{quick}`: {found['how']}.",
    ]
    if quick:
        lines.append("A quick run: fewer and shorter rounds, so the figures move more.")
    if found["rows"]:
        lines += ["", "| What | Measured | Bar | |", "|---|---|---|---|"]
        lines += [
            f"| {told['what']} | {figure(row)} | {bar(row)} | {VERDICTS[row.verdict]} |"
            for told in found["rows"]
            for row in [Row(*(told[key] for key in ("what", "value", "bar", "sense", "unit")))]
        ]
    for each in found["tables"]:
        lines += ["", f"{each['title']}:", "", *markdown(Table(**each))]
    for title, path in found["pictures"]:
        lines += ["", f"![{title}]({path})"]
    for note in found["notes"]:
        lines += ["", note]
    return lines


def markdown(table: Table) -> list[str]:
    """Return a table's lines in Markdown."""
    rule = ["---"] * len(table.head)
    return [f"| {' | '.join(cells)} |" for cells in (table.head, rule, *table.lines)]


def plain(result: Result) -> str:
    """Return the tables as they come out on a terminal."""
    blocks = [[["what", "measured", "bar", ""]]]
    blocks[0] += [[r.what, figure(r), bar(r), r.verdict] for r in result.rows]
    blocks += [[[t.title], list(t.head), *map(list, t.lines)] for t in result.tables]
    return "\n\n".join(columns(block) for block in blocks if len(block) > 1)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, one under the other; a line of one cell is a title."""
    width = [0] * max(map(len, lines))
    for line in lines:
        if len(line) > 1:
            width[: len(line)] = [max(w, len(c)) for w, c in zip(width, line, strict=False)]
    return "\n".join(
        "  ".join(
            c.rjust(w) if n and len(line) > 1 else c.ljust(w)
            for n, (c, w) in enumerate(zip(line, width, strict=False))
        ).rstrip()
        for line in lines
    )


def figure(row: Row) -> str:
    """Return a row's figure with its unit."""
    number = f"{row.value:,.0f}" if abs(row.value) >= 100 else f"{row.value:.3g}"
    return f"{number} {row.unit}" if row.unit != "x" else number


def bar(row: Row) -> str:
    """Return a row's bar in words."""
    return "" if row.bar is None else f"{row.sense} {row.bar:g}"


def machine() -> dict[str, str]:
    """Return what the figures were measured on, without the name of the machine."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    lock = (ROOT / "benchmarks" / "api" / "requirements.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([a-z-]+)==([\w.]+)", lock, re.M))
    wrk = (run_quietly("wrk", "-v").split() or ["", "unknown"])[1]
    libraries = [f"{name} {versions[name]}" for name in VERSIONS if name in versions]
    release = ".".join(platform.release().split(".")[:2])
    software = [system, f"Linux {release}", f"Python {platform.python_version()}", *libraries]
    return {
        "hardware": f"{len(CORES)} cores ({model[1] if model else platform.machine()}),"
        f" {memory:.0f} GiB, {'server and load on a core each' if PINNED else 'nothing pinned'}",
        "software": ", ".join([*software, f"wrk {wrk}"]),
    }


# ------------------------------------------------------------------------------------- pictures


def picture(chart: Chart) -> str:
    """Return a chart as SVG that needs nothing but itself."""
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
    """Return lines over places at equal distances; both axes are logarithmic in effect."""
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
    for y, name in ends:  # the names at the lines' ends must not cover each other
        places[name] = max(y, max(places.values(), default=0) + 14)
    for color, (name, line) in zip(COLORS * 2, chart.series.items(), strict=False):
        points = " ".join(f"{x:.1f},{height(v):.1f}" for x, v in zip(xs, line, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(text(450, places[name] + 4, f"{name}: {short(line[-1])}", color=color))
    return svg(chart, max(340, max(places.values()) + 20), parts)


def short(value: float) -> str:
    """Return a figure with three digits, or as many as its whole part has."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(x: float, y: float, words: str, how: str = "start", color: str = "#222") -> str:
    """Return words at a place; `how` is where they are held, or `bold`."""
    style = 'font-weight="bold"' if how == "bold" else f'text-anchor="{how}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} fill="{color}">{escape(words)}</text>'


def svg(chart: Chart, height: float, parts: Sequence[str]) -> str:
    """Return a whole picture, on white so that it can be read on any page."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {height:.0f}" width="660"'
        ' font-family="sans-serif" font-size="12">'
    )
    title = text(10, 22, f"{chart.title} ({chart.unit})", "bold")
    return "\n".join(
        [head, '<rect width="100%" height="100%" fill="#fff"/>', title, *parts, "</svg>\n"]
    )
