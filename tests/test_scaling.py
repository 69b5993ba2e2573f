"""The figures in docs/scaling.md come from the measured costs."""

import json
import re
import subprocess
import sys

from benchmarks.capacity import RESULTS, Assumptions, costs, plan, table
from tools.processes import ROOT

MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))


def marked(name: str) -> str:
    """Return the text between two marks of the document."""
    text = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    return str(re.findall(rf"<!-- {name} -->\n\n(.*?)\n\n<!-- end -->", text, re.S)[0])


def test_the_tables_are_the_commands() -> None:
    """The document has both tables as `python3 -m benchmarks.capacity` prints them."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.capacity"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )

    assert done.stdout == f"{marked('costs')}\n\n{marked('plan')}\n"
    assert marked("costs") == costs(MEASURED)
    assert marked("plan") == table(MEASURED, Assumptions())


def test_the_model_is_in_proportion() -> None:
    """Twice the users need twice the requests and bytes; twice the requests need no more bytes."""
    given = Assumptions()
    one, two = (plan(users, MEASURED, given) for users in (1e8, 2e8))
    busier = plan(1e8, MEASURED, given._replace(requests_a_day=20.0))

    assert two.gigabytes == 2 * one.gigabytes == 2 * busier.gigabytes
    assert two.writes_per_second == busier.writes_per_second == 2 * one.writes_per_second
    assert one.api_cores < two.api_cores == busier.api_cores <= 2 * one.api_cores
    assert one.writes_per_second * 9 == one.reads_per_second


def test_a_larger_load_never_needs_a_lower_rung() -> None:
    """With more users the recommended architecture only moves up the ladder."""
    ladder = ["SQLite, or PostgreSQL", "replicas", "distributed SQL"]
    rungs = [plan(10.0**power, MEASURED, Assumptions()).rung for power in range(3, 12)]

    assert [ladder.index(rung) for rung in rungs] == sorted(ladder.index(rung) for rung in rungs)
    assert {rungs[0], rungs[-1]} == {ladder[0], ladder[-1]}
