"""What docs/scaling.md says in figures comes from what was measured."""

import json
import re
import subprocess
import sys

from benchmarks.capacity import RESULTS, Assumptions, costs, plan, table
from tools.processes import ROOT

MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))


def told(name: str) -> str:
    """Return what stands between two marks of the document."""
    text = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    return str(re.findall(rf"<!-- {name} -->\n\n(.*?)\n\n<!-- end -->", text, re.S)[0])


def test_the_tables_are_the_commands() -> None:
    """Both tables are what `python3 -m benchmarks.capacity` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.capacity"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )

    assert done.stdout == f"{told('costs')}\n\n{told('plan')}\n"
    assert told("costs") == costs(MEASURED)
    assert told("plan") == table(MEASURED, Assumptions())


def test_the_model_is_in_proportion() -> None:
    """Twice the users take twice the requests and bytes; twice the requests, no more bytes."""
    given = Assumptions()
    one, two = (plan(users, MEASURED, given) for users in (1e8, 2e8))
    busier = plan(1e8, MEASURED, given._replace(requests_a_day=20.0))

    assert two.gigabytes == 2 * one.gigabytes == 2 * busier.gigabytes
    assert two.writes_per_second == busier.writes_per_second == 2 * one.writes_per_second
    assert one.api_cores < two.api_cores == busier.api_cores <= 2 * one.api_cores
    assert one.writes_per_second * 9 == one.reads_per_second


def test_a_larger_load_never_needs_a_lower_rung() -> None:
    """Up the ladder goes who grows."""
    ladder = ["SQLite, or PostgreSQL", "replicas", "distributed SQL"]
    rungs = [plan(10.0**power, MEASURED, Assumptions()).rung for power in range(3, 12)]

    assert [ladder.index(rung) for rung in rungs] == sorted(ladder.index(rung) for rung in rungs)
    assert {rungs[0], rungs[-1]} == {ladder[0], ladder[-1]}
