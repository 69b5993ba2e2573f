"""`python3 lab.py bench`: the parts one after the other, their tables, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import batch, calls, growth, listing, report, start, stores
from benchmarks.load import need_tools
from benchmarks.ratios import Result, exit_code
from tools.processes import LabError, say

PARTS: Mapping[str, Callable[[bool], Result]] = {
    "calls": calls.measure,
    "listing": listing.measure,
    "stores": stores.measure,
    "batch": batch.measure,
    "start": start.measure,
    "growth": growth.measure,
    "workers": stores.workers,
}


def bench(parts: Sequence[str], quick: bool, folder: Path) -> int:
    """Measure the parts, all if none is named; 1 if a ratio misses its bar by more than 20 %."""
    if unknown := set(parts) - PARTS.keys():
        raise LabError(f"bench: {', '.join(unknown)} is not one of its parts: {', '.join(PARTS)}")
    need_tools()
    codes = []
    for part in [part for part in PARTS if part in parts or not parts]:
        say(f"measuring {part}")
        result = PARTS[part](quick)
        report.write(folder, part, result, quick)
        report.page(folder, list(PARTS))
        print(f"\n{report.plain(result)}\n", flush=True)
        codes.append(exit_code(result.rows))
    say(f"written: {folder / 'RESULTS.md'} and {folder / 'results'}")
    return max(codes)
