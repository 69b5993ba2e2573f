"""Users on disk: what a durable store costs, beside the store in memory and beside pgbench."""

import contextlib
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.calls import table
from benchmarks.contenders import OTHERS, others_python, ours
from benchmarks.load import (
    CORES,
    DATABASE_CORES,
    KNOWN_USERS,
    SERVER_CORE,
    Run,
    first_ids,
    on_core,
    output_of,
    serving,
    wrk,
)
from benchmarks.ratios import Chart, Result, Row, calls_in_turn, in_turn, medians
from tools.processes import LabError, say

MEMORY, SQLITE, POSTGRESQL, PGBENCH = "memory", "SQLite", "PostgreSQL", "pgbench"
BARS = {SQLITE: 0.75, POSTGRESQL: 0.6}
BESIDE_PGBENCH = 0.5
STATS_BY_HEALTH = 1.5
STATS_BYTES = 2_000
PGBENCH_CLIENTS = 10
WORKERS = {"1 worker": 1, "2 workers": 2, "4 workers": 4}
STATEMENTS = {
    "create": "\\set n :n + 1\n\\set id :first + :client_id * 1000000 + :n\n"
    "INSERT INTO users (user_id, name, age) VALUES (:id, 'Alice Johnson', 30)"
    " ON CONFLICT (user_id) DO NOTHING;\n",
    "get": "\\set id random(0, 999)\n"
    "SELECT user_id, name, age FROM users WHERE user_id IN (:id);\n",
}


class Database:
    """A PostgreSQL server, as long as the block runs."""

    def __init__(self, url: str, programs: str) -> None:
        self.url = url
        self._pgbench = str(Path(programs) / "pgbench")

    def pgbench(self, call: str, seconds: int) -> Run:
        """Measure a call's statement, prepared, in the API's place."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(STATEMENTS[call])
            script.flush()
            options = f"--no-vacuum --protocol=prepared --client={PGBENCH_CLIENTS} --time={seconds}"
            command = [*on_core(SERVER_CORE), self._pgbench, *options.split()]
            command += ["-D", "n=0", "-D", f"first={next(first_ids)}", "-f", script.name, self.url]
            told = output_of(command)
        found = re.search(r"^tps = ([0-9.]+)", told, re.M)
        if not found or "failed transactions: 0 " not in told:
            raise LabError(f"bench: the run of pgbench is invalid: {told}")
        return Run(answered=0, cpu_us=math.nan, per_second=float(found[1]), p99_ms=math.nan)


@contextlib.contextmanager
def database(pinned: bool = True) -> Iterator[Database]:
    """Yield a PostgreSQL server, pinned to the cores that are not the API's."""
    cores = DATABASE_CORES if pinned else CORES
    with subprocess.Popen(
        [*on_core(*cores), others_python(), "-W", "ignore", "database.py"],
        cwd=OTHERS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for us; it ends when its input does
    ) as process:
        told = process.stdout.readline() if process.stdout else b""
        if not told:
            raise LabError("bench: PostgreSQL does not start")
        yield Database(**json.loads(told))


def measure(quick: bool) -> Result:
    """Compare the stores, call by call, and with pgbench."""
    rounds, seconds, users = (2, 1, 2_000) if quick else (3, 2, 1_000_000)
    with database() as postgresql, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        contenders = [
            ours(MEMORY),
            ours(SQLITE, DATABASE_URL=f"sqlite:///{folder}/users.db"),
            ours(POSTGRESQL, DATABASE_URL=postgresql.url),
        ]
        with serving(contenders) as servers:
            say(f"{users:,} users to each store")
            for server in servers.values():
                server.fill_in_batches(users)
            sizes = [len(server.ask("GET", "/stats/ages")[1]) for server in servers.values()]
            say(f"health, stats, get, create: {rounds} rounds")
            turns = {
                call: {n: partial(wrk, s, call, seconds) for n, s in servers.items()}
                for call in ("health", "stats", "get", "create")
            }
            for call in STATEMENTS:
                turns[call][PGBENCH] = partial(postgresql.pgbench, call, seconds)
            runs = calls_in_turn(rounds, turns)
    return compared(runs, sizes, f"{rounds} rounds of {seconds} s, {users:,} users to begin with")


def compared(runs: Mapping[str, Mapping[str, list[Run]]], sizes: list[int], how: str) -> Result:
    """Return the ratios and tables of runs by call and store."""
    rate = {c: medians({n: [r.per_second for r in rs] for n, rs in runs[c].items()}) for c in runs}
    cost = {c: medians({n: [r.cpu_us for r in rs] for n, rs in runs[c].items()}) for c in runs}
    rows = [
        Row(f"{call}: {store} against memory", rate[call][store] / rate[call][MEMORY], bar)
        for call in STATEMENTS
        for store, bar in BARS.items()
    ]
    rows += [
        Row(
            f"{call}: {POSTGRESQL} against pgbench",
            rate[call][POSTGRESQL] / rate[call][PGBENCH],
            BESIDE_PGBENCH if call == "create" else None,
        )
        for call in STATEMENTS
    ]
    rows += [
        Row(
            f"statistics against health: {store}",
            cost["stats"][store] / cost["health"][store],
            STATS_BY_HEALTH,
            "at most",
        )
        for store in cost["stats"]
    ]
    rows.append(Row("size of the statistics", max(sizes), STATS_BYTES, "at most", "bytes"))
    stores = list(rate["create"])
    return Result(
        how=how
        + f", 64 connections; pgbench has {PGBENCH_CLIENTS} clients and prepared statements",
        rows=rows,
        tables=[
            table("Answers per second", rate, ",.0f"),
            table("CPU of the API's process, microseconds per request", cost, ".0f"),
        ],
        charts=[
            Chart(
                "Creates and gets with every commit on disk",
                "answers per second",
                "bars",
                list(STATEMENTS),
                {store: [rate[call][store] for call in STATEMENTS] for store in stores},
            )
        ],
        figures={"per_second": rate, "cpu_us": cost},
        notes=[
            "SQLite has `synchronous=FULL`, PostgreSQL its defaults: what is answered is on disk."
        ],
    )


def workers(quick: bool) -> Result:
    """Compare one, two and four workers over one PostgreSQL; nothing is pinned."""
    rounds, seconds = (2, 1) if quick else (3, 2)
    with database(pinned=False) as postgresql:
        contenders = [
            ours(name, "--workers", str(count), DATABASE_URL=postgresql.url)
            for name, count in WORKERS.items()
        ]
        with serving(contenders, pinned=False) as servers:
            servers["1 worker"].fill_in_batches(KNOWN_USERS)
            rate = {}
            for call in STATEMENTS:
                say(f"{call}: {rounds} rounds")
                turns = {n: partial(wrk, s, call, seconds) for n, s in servers.items()}
                runs = in_turn(rounds, turns)
                rate[call] = medians({n: [r.per_second for r in rs] for n, rs in runs.items()})
    return Result(
        how=f"{rounds} rounds of {seconds} s, 64 connections; all share all cores",
        rows=[
            Row(f"{call}: {name} against 1 worker", by_name[name] / by_name["1 worker"])
            for call, by_name in rate.items()
            for name in list(WORKERS)[1:]
        ],
        tables=[table("Answers per second", rate, ",.0f")],
        charts=[
            Chart(
                "Workers over PostgreSQL",
                "answers per second",
                "bars",
                list(STATEMENTS),
                {name: [by_name[name] for by_name in rate.values()] for name in rate["get"]},
            )
        ],
        figures={"per_second": rate},
    )
