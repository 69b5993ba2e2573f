"""Stores on disk: their cost beside the store in memory and beside pgbench."""

import contextlib
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.calls import Figures, Runs, medians_of, table
from benchmarks.contenders import OTHERS, others_python, ours
from benchmarks.load import Run, first_ids, output_of, wrk
from benchmarks.ratios import Result, Row, calls_in_turn
from benchmarks.servers import CORES, DATABASE_CORES, SERVER_CORE, on_core, serving
from tools.processes import LabError, say

MEMORY, SQLITE, POSTGRESQL, PGBENCH = "memory", "SQLite", "PostgreSQL", "pgbench"
BARS = {SQLITE: 0.7, POSTGRESQL: 0.5}  # creates per second, as a share of those in memory
STATS_BY_HEALTH = 1.6  # CPU of a request for the statistics, of one for /health
STATS_BYTES = 2_000
PGBENCH_CLIENTS = 10
STATEMENTS = {
    "create": "\\set n :n + 1\n\\set id :first + :client_id * 1000000 + :n\n"
    "\\set bucket :id % 16\n"
    "INSERT INTO users (user_id, bucket, name, age) VALUES (:id, :bucket, 'Alice Johnson', 30)"
    " ON CONFLICT DO NOTHING;\n",
    "get": "\\set id random(0, 999)\n"
    "SELECT user_id, name, age FROM users WHERE user_id IN (:id);\n",
}


class Database:
    """A running PostgreSQL server."""

    def __init__(self, url: str, pid: int, folder: str, programs: str) -> None:
        self.url, self.pid, self.folder = url, pid, Path(folder)
        self._pgbench = str(Path(programs) / "pgbench")

    def pgbench(self, call: str, seconds: int) -> Run:
        """Measure the statement of a call, prepared, without an API."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(STATEMENTS[call])
            script.flush()
            options = f"--no-vacuum --protocol=prepared --client={PGBENCH_CLIENTS} --time={seconds}"
            command = [*on_core(SERVER_CORE), self._pgbench, *options.split()]
            command += ["-D", "n=0", "-D", f"first={next(first_ids)}", "-f", script.name, self.url]
            output = output_of(command)
        found = re.search(r"^tps = ([0-9.]+)", output, re.M)
        if not found or "failed transactions: 0 " not in output:
            raise LabError(f"bench: the run of pgbench is invalid: {output}")
        return Run(answered=0, cpu_us=math.nan, per_second=float(found[1]), p99_ms=math.nan)


@contextlib.contextmanager
def database(pinned: bool = True) -> Iterator[Database]:
    """Yield a PostgreSQL server, pinned to the cores that the API does not use."""
    cores = DATABASE_CORES if pinned else CORES
    with subprocess.Popen(
        [*on_core(*cores), others_python(), "-W", "ignore", "database.py"],
        cwd=OTHERS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # keeps Ctrl-C from it: it ends when its input ends
    ) as process:
        report = process.stdout.readline() if process.stdout else b""
        if not report:
            raise LabError("bench: PostgreSQL does not start")
        yield Database(**json.loads(report))


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
            say(f"creating {users:,} users in each store")
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


def compared(runs: Runs, sizes: list[int], how: str) -> Result:
    """Return the ratios and tables of runs by call and store."""
    rate, cost = medians_of(runs, "per_second"), medians_of(runs, "cpu_us")
    return Result(
        how=f"{how}, 64 connections; pgbench has {PGBENCH_CLIENTS} clients and prepared statements",
        rows=[*rate_rows(rate), *statistics_rows(cost["stats"], cost["health"], max(sizes))],
        tables=[
            table("Responses per second", rate, ",.0f"),
            table("CPU of the API's process, microseconds per request", cost, ".0f"),
        ],
        figures={"per_second": rate, "cpu_us": cost},
        notes=["SQLite has `synchronous=FULL`, PostgreSQL its defaults: commits are on disk."],
    )


def rate_rows(rate: Figures) -> list[Row]:
    """Return the ratios of requests per second, of each store and of pgbench."""
    rows = [
        Row(
            f"{call}: {store} against memory",
            rate[call][store] / rate[call][MEMORY],
            bar if call == "create" else None,
        )
        for call in STATEMENTS
        for store, bar in BARS.items()
    ]
    return rows + [
        Row(f"{call}: {POSTGRESQL} against pgbench", rate[call][POSTGRESQL] / rate[call][PGBENCH])
        for call in STATEMENTS
    ]


def statistics_rows(
    stats_us: Mapping[str, float], health_us: Mapping[str, float], largest_bytes: int
) -> list[Row]:
    """Return the ratios of CPU of the age statistics to /health, and the largest response."""
    rows = [
        Row(f"statistics against health: {name}", us / health_us[name], STATS_BY_HEALTH, "at most")
        for name, us in stats_us.items()
    ]
    return [*rows, Row("size of the statistics", largest_bytes, STATS_BYTES, "at most", "bytes")]
