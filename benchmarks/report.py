"""Writes the results: a table on the terminal, RESULTS.md, and JSON files."""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.ratios import Result, Row, Table
from benchmarks.servers import CORES, PINNED, system_value
from tools.machine import run_quietly
from tools.processes import ROOT

VERSIONS = ("fastapi", "uvicorn", "pydantic", "litestar", "blacksheep", "sanic", "flask")
PREFACE = (
    "Written by `python3 lab.py bench`; `benchmarks/README.md` says how to run it, and where a",
    "comparison is unfair. Both figures of a ratio are measured in turn, in one run. A figure",
    "without a ratio is true for this machine on that day only. `within the slack` means below",
    "the bar, but by no more than a fifth.",
)
VERDICTS = {"met": "met", "near": "within the slack", "missed": "**missed**", "": ""}


def write(folder: Path, part: str, result: Result, quick: bool) -> None:
    """Write the JSON file of a part."""
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) | {"score": row.score, "verdict": row.verdict} for row in result.rows]
    document = asdict(result) | {"part": part, "quick": quick, "machine": machine(), "rows": rows}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    (results / f"{part}.json").write_text(text, encoding="utf-8")


def page(folder: Path, parts: Sequence[str]) -> None:
    """Write RESULTS.md from the parts' JSON in a folder."""
    files = [folder / "results" / f"{part}.json" for part in parts]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    lines = ["# Results", "", *PREFACE, ""]
    for machine in {json.dumps(each["machine"]): each["machine"] for each in found}.values():
        measured = [each["part"] for each in found if each["machine"] == machine]
        lines += [f"- {machine['hardware']}; {machine['software']} ({', '.join(measured)})"]
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
            f"| {found_row['what']} | {figure(row)} | {bar(row)} | {VERDICTS[row.verdict]} |"
            for found_row in found["rows"]
            for row in [Row(*(found_row[key] for key in ("what", "value", "bar", "sense", "unit")))]
        ]
    for each in found["tables"]:
        lines += ["", f"{each['title']}:", "", *markdown(Table(**each))]
    for note in found["notes"]:
        lines += ["", note]
    return lines


def markdown(table: Table) -> list[str]:
    """Return a table's lines in Markdown."""
    rule = ["---"] * len(table.head)
    return [f"| {' | '.join(cells)} |" for cells in (table.head, rule, *table.lines)]


def plain(result: Result) -> str:
    """Return the tables as text for a terminal."""
    blocks = [[["what", "measured", "bar", ""]]]
    blocks[0] += [[r.what, figure(r), bar(r), r.verdict] for r in result.rows]
    blocks += [[[t.title], list(t.head), *map(list, t.lines)] for t in result.tables]
    return "\n\n".join(columns(block) for block in blocks if len(block) > 1)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in aligned columns; a line of one cell is a title."""
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
    """Return a row's bar as text."""
    return "" if row.bar is None else f"{row.sense} {row.bar:g}"


def machine() -> dict[str, str]:
    """Return the hardware and software of this machine, without its name."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = system_value("SC_PAGE_SIZE") * system_value("SC_PHYS_PAGES") / 2**30
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
