"""Estimates the bytes, cores and machines for up to a billion users, from measured costs.

    python3 -m benchmarks.capacity              a table from docs/capacity.json
    python3 -m benchmarks.capacity --measure    measure again, on Linux, in about five minutes

The load of a user and the size of a machine are assumptions, which the flags change. The costs are
measured by benchmarks/costs.py.
"""

import argparse
import json
import math
from typing import Any, NamedTuple

from benchmarks.costs import Cost, measure
from tools.processes import ROOT

RESULTS = ROOT / "docs" / "capacity.json"
SECONDS_A_DAY = 86_400
VERBS = ("create", "create_alone", "create_in_batch", "read", "read_alone", "count")

Measured = dict[str, Any]


class Assumptions(NamedTuple):
    """What is not measured: the load of a user, and the size of a machine."""

    requests_a_day: float = 10.0  # of each user
    write_share: float = 0.1
    peak: float = 3.0  # requests in the busiest second, divided by the mean
    busy: float = 0.5  # share of a core in use at the peak; the rest replaces a failed machine
    machine_cores: int = 32
    machine_terabytes: float = 2.0
    copies: int = 2  # of the data
    # Measured outside this repository, with Citus 14.0.1 on PostgreSQL 18.4: a create's processor
    # time in the databases (52 µs), divided by that in plain PostgreSQL (12 µs) in the same run.
    distributed_write_cost: float = 4.3


class Plan(NamedTuple):
    """What a number of users needs."""

    users: float
    rung: str
    writes_per_second: float
    reads_per_second: float
    gigabytes: float
    api_cores: int
    database_cores: int
    database_machines: int


def predict(one: Cost, two: Cost, processes: int) -> Cost:
    """Return the cost of a request over more API processes, from those over one and two.

    The processes share the connections, so each has fewer requests at a time for a transaction. The
    share of a request in the cost of its transaction grows in proportion. Only the client does not
    know how many processes there are.
    """

    def grown(first_us: float, second_us: float) -> float:
        return first_us + (processes - 1) * (second_us - first_us)

    return Cost(
        grown(one.api_us, two.api_us),
        grown(one.database_us, two.database_us),
        (one.load_us + two.load_us) / 2,
    )


def plan(users: float, measured: Measured, given: Assumptions) -> Plan:
    """Return what `users` need over PostgreSQL, and the simplest architecture that is enough.

    A busy API puts several requests in one transaction. With many APIs each one is less busy, so
    the database's cost is that of one request in one transaction. If one machine is not enough for
    the database, each write costs more, because it is distributed.
    """
    cost = measured["postgresql"]
    requests = users * given.requests_a_day / SECONDS_A_DAY * given.peak
    writes, reads = requests * given.write_share, requests * (1 - given.write_share)

    def cores(part: str, variant: str = "", write_cost: float = 1.0) -> int:
        create, read = (cost[part][verb + variant] for verb in ("create", "read"))
        microseconds: float = writes * create * write_cost + reads * read
        return math.ceil(microseconds / 1e6 / given.busy)

    def machines(cores: int) -> int:
        by_size: float = size / 1e12 / given.machine_terabytes
        return math.ceil(max(cores / given.machine_cores, by_size))

    size = users * cost["bytes_per_user"]
    api_cores = cores("api_microseconds")
    database_cores = cores("store_microseconds", "_alone")
    rung = "replicas" if api_cores > 1 else "SQLite, or PostgreSQL"
    if machines(database_cores) > 1:
        rung = "Citus"
        database_cores = cores("store_microseconds", "_alone", given.distributed_write_cost)
    return Plan(
        users, rung, writes, reads, size / 1e9, api_cores,
        database_cores, machines(database_cores) * given.copies,
    )  # fmt: skip


def table(measured: Measured, given: Assumptions) -> str:
    """Return the plans for a thousand to a billion users as a table in Markdown.

    The last line has database machines with twice as many cores.
    """
    lines = [
        "| Users | Rung | Writes/s | Reads/s | On disk"
        " | API cores | Database cores | Database machines |",
        "|---|---|---|---|---|---|---|---|",
    ]
    larger = given._replace(machine_cores=2 * given.machine_cores)
    plans = [plan(users, measured, given) for users in (1e3, 1e6, 1e7, 1e8, 1e9)]
    for row in (*plans, plan(1e9, measured, larger)):
        cores = f", {larger.machine_cores} cores a machine" if row not in plans else ""
        lines.append(
            f"| {row.users:,.0f}{cores} | {row.rung} | {short(row.writes_per_second)} |"
            f" {short(row.reads_per_second)} | {short(row.gigabytes)} GB | {row.api_cores} |"
            f" {row.database_cores} | {row.database_machines} |"
        )
    return "\n".join(lines)


def short(number: float) -> str:
    """Return a number with two significant digits; from 10 on, rounded to a whole number."""
    if number >= 10:
        return f"{number:,.0f}"
    return f"{float(f'{number:.2g}'):.6f}".rstrip("0").rstrip(".")


def costs(measured: Measured) -> str:
    """Return the measured costs as a table in Markdown: microseconds of a core, API + database."""
    lines = [
        "| Store | Bytes a user | Create | … alone | … in a batch"
        " | Read one | … alone | Count ages |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in ("memory", "sqlite", "postgresql"):
        cost = measured[kind]
        cells = []
        for verb in VERBS:
            api, store = (cost[of][verb] for of in ("api_microseconds", "store_microseconds"))
            cells.append(f"{api:.3g}" + (f" + {store:.3g}" if store else ""))
        lines.append(f"| {kind} | {cost['bytes_per_user']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables; with --measure, measure first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="measure again, on Linux")
    for name, default in Assumptions._field_defaults.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, metavar=f"{default:g}")
    options = vars(parser.parse_args())
    if options.pop("measure"):
        RESULTS.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    print(f"{costs(measured)}\n\n{table(measured, Assumptions(**options))}")


if __name__ == "__main__":
    main()
