"""The figures in docs/scaling.md come from the measured costs."""

import json
import re
import subprocess
import sys

from benchmarks.capacity import RESULTS, Assumptions, costs, plan, predict, table
from benchmarks.costs import Cost
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


def test_the_table_of_several_apis_is_the_last_measurement() -> None:
    """The document has the table of `python3 lab.py bench scale`."""
    results = (ROOT / "benchmarks/RESULTS.md").read_text(encoding="utf-8")

    assert marked("scale").count("predicted") == 2
    assert marked("scale") in results


def test_the_prediction_continues_what_one_and_two_processes_show() -> None:
    """The costs of API and database grow by the same step for each process; the client's do not."""
    one = Cost(api_us=100, database_us=20, load_us=30)
    two = Cost(api_us=110, database_us=25, load_us=40)
    four = predict(one, two, 4)

    assert four == (130, 35, 35)
    assert one.rate(processes=1, cores=2) == 1e6 / 100  # one process is busy, not both cores
    assert four.rate(processes=4, cores=2) == 2e6 / 200


def test_a_larger_machine_is_better_than_several() -> None:
    """Where one machine is enough, no write costs more because it is distributed."""
    several = plan(1e9, MEASURED, Assumptions())
    larger = plan(1e9, MEASURED, Assumptions(machine_cores=64))

    assert (several.rung, larger.rung) == ("Citus", "replicas")
    assert several.database_cores > larger.database_cores
    assert several.database_machines > larger.database_machines == Assumptions().copies


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
    ladder = ["SQLite, or PostgreSQL", "replicas", "Citus"]
    rungs = [plan(10.0**power, MEASURED, Assumptions()).rung for power in range(3, 12)]

    assert [ladder.index(rung) for rung in rungs] == sorted(ladder.index(rung) for rung in rungs)
    assert {rungs[0], rungs[-1]} == {ladder[0], ladder[-1]}
