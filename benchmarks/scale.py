"""One, two and four API processes over one PostgreSQL, beside what the capacity model predicts.

The model gets the costs of one and of two processes only, and predicts those of four.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.capacity import predict
from benchmarks.contenders import ours
from benchmarks.costs import Cost, cheapest, cost
from benchmarks.load import CONNECTIONS, KNOWN_USERS
from benchmarks.ratios import Result, Row, Table, calls_in_turn
from benchmarks.servers import CORES, serving
from benchmarks.stores import database
from tools.processes import say

PROCESSES = {"1 process": 1, "2 processes": 2, "4 processes": 4}
CALLS = ("create", "get")


def measure(quick: bool) -> Result:
    """Measure creates and gets over different numbers of processes; nothing is pinned."""
    rounds, seconds = (2, 1) if quick else (15, 1)
    with database(pinned=False) as postgresql:
        contenders = [
            ours(name, "--workers", str(number), DATABASE_URL=postgresql.url)
            for name, number in PROCESSES.items()
        ]
        with serving(contenders, pinned=False) as servers:
            servers["1 process"].fill_in_batches(KNOWN_USERS)
            say(f"{', '.join(CALLS)}: {rounds} rounds")
            turns = {
                call: {
                    name: partial(cost, server, postgresql.pid, call, seconds, CONNECTIONS)
                    for name, server in servers.items()
                }
                for call in CALLS
            }
            runs = calls_in_turn(rounds, turns)
    costs = {
        call: [cheapest(each) for each in by_number.values()] for call, by_number in runs.items()
    }
    how = f"the cheapest of {rounds} rounds of {seconds} s, {CONNECTIONS} connections"
    return compared(costs, how)


def compared(costs: Mapping[str, Sequence[Cost]], how: str) -> Result:
    """Return the measured costs, and those that the model predicts for four processes."""
    rows, lines = [], []
    for call, (one, two, four) in costs.items():
        expected = predict(one, two, 4)
        named = {**PROCESSES, "4, predicted": 4}.items()
        for (name, processes), each in zip(named, (one, two, four, expected), strict=True):
            figures = (*each, each.rate(processes, len(CORES)))
            lines.append([f"{call}, {name}", *(f"{figure:,.0f}" for figure in figures)])
        ratios = {
            "responses per second": expected.rate(4, len(CORES)) / four.rate(4, len(CORES)),
            "CPU of the API": expected.api_us / four.api_us,
            "CPU of PostgreSQL": expected.database_us / four.database_us,
        }
        for what, ratio in ratios.items():
            rows.append(Row(f"{call}, 4 processes: {what}, predicted against measured", ratio))
    head = ["", "API, µs", "PostgreSQL, µs", "wrk, µs", "responses per second"]
    return Result(
        how=f"{how}; API, PostgreSQL and wrk share {len(CORES)} cores",
        rows=rows,
        tables=[Table("Processor time of a request", head, lines)],
        figures={call: [each._asdict() for each in some] for call, some in costs.items()},
        notes=[
            "Responses per second: on cores that do nothing else, calculated from the processor"
            " time. The prediction is `predict` in `benchmarks/capacity.py`; it knows the first two"
            " lines of a call only."
        ],
    )
