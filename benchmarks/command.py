"""`python3 lab.py bench`: runs the parts in order, prints their tables, returns the verdict."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import batch, calls, growth, limits, listing, report, scale, start, stores
from benchmarks.load import need_tools
from benchmarks.ratios import Result, Row, exit_code
from benchmarks.servers import CORES, HERE, INHERITED, leave_the_servers_core, on_core
from benchmarks.simulator import bench as simulator
from tools.environments import environment
from tools.processes import LabError, Stopped, say, stop_requested


def dashboard(quick: bool) -> Result:
    """Run the dashboard's benchmark, which needs other libraries and judges itself."""
    folder = HERE / "dashboard"
    environment(HERE.parent / "api", "requirements.txt")  # it starts the API from there
    python = environment(folder, "requirements.txt")
    command = [*on_core(*CORES), python, "bench.py", *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=folder, env=INHERITED, capture_output=True, text=True)
    if stop_requested.wait(0):
        raise Stopped
    if done.returncode not in (0, 1):
        raise LabError(f"bench: the dashboard part failed: {done.stdout}{done.stderr}")
    return Result(
        how="a refresh, beside a page that fetches all users",
        rows=[Row("its bars are met within the slack (1) or missed (0)", 1 - done.returncode, 1)],
        notes=[done.stdout.strip()],
    )


PARTS: Mapping[str, Callable[[bool], Result]] = {
    "calls": calls.measure,
    "listing": listing.measure,
    "stores": stores.measure,
    "batch": batch.measure,
    "start": start.measure,
    "growth": growth.measure,
    "scale": scale.measure,
    "limits": limits.measure,
    "simulator": simulator.measure,
    "dashboard": dashboard,
}


def bench(parts: Sequence[str], quick: bool, folder: Path | None) -> int:
    """Measure the parts, all if none is named; 1 if a ratio misses its bar by more than 20 %."""
    if unknown := set(parts) - PARTS.keys():
        raise LabError(f"bench: {', '.join(unknown)} is not one of its parts: {', '.join(PARTS)}")
    folder = folder or HERE.parent / ".lab" / "bench"
    need_tools()
    leave_the_servers_core()
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
