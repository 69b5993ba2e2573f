"""Point operations: what a request costs the server, beside everybody else."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.contenders import BARE, FIRST, OURS, check, everybody
from benchmarks.load import KNOWN_USERS, Run, Server, serving, wrk
from benchmarks.ratios import Chart, Result, Row, Table, in_turn, medians, times
from tools.processes import say

CALLS = ("health", "get", "create", "update", "delete")
QUICK_CALLS = ("get", "create")
BARS = {FIRST: 5.0, "Litestar": 1.0, "BlackSheep": 1.0, "Sanic": 1.0}
SHARE_OF_BARE = 0.5


def measure(quick: bool) -> Result:
    """Run all contenders side by side and compare them, call by call."""
    rounds, calls = (2, QUICK_CALLS) if quick else (5, CALLS)
    with serving(everybody()) as servers:
        with ThreadPoolExecutor() as pool:
            list(pool.map(check_and_fill, servers.values()))
        runs = {}
        for call in calls:
            say(f"{call}: {len(servers)} contenders, {rounds} rounds")
            turns = {name: partial(wrk, server, call) for name, server in servers.items()}
            runs[call] = in_turn(rounds, turns)
    return compared(runs, rounds)


def check_and_fill(server: Server) -> None:
    """Make a contender ready, once it has shown that it answers as the others do."""
    check(server)
    server.fill(KNOWN_USERS)


def compared(runs: Mapping[str, Mapping[str, list[Run]]], rounds: int) -> Result:
    """Return the ratios and tables of runs by call and contender."""
    cost = {c: medians({n: [r.cpu_us for r in rs] for n, rs in runs[c].items()}) for c in runs}
    rate = {c: medians({n: [r.per_second for r in rs] for n, rs in runs[c].items()}) for c in runs}
    names = list(next(iter(cost.values())))
    rows = []
    for call, us in cost.items():
        for name in names:
            if name == BARE:
                rows.append(Row(f"{call}: share of {BARE}", us[BARE] / us[OURS], SHARE_OF_BARE))
            elif name != OURS:
                rows.append(Row(f"{call}: {name}", times(us[name], us[OURS]), BARS.get(name)))
    return Result(
        how=f"{rounds} rounds of 1 s for each call and contender, 64 connections",
        rows=rows,
        tables=[
            table("Server CPU, microseconds per request", cost, ".0f"),
            table("Answers per second and core", rate, ",.0f"),
        ],
        charts=[
            Chart(
                "What a request costs the server",
                "microseconds of CPU",
                "bars",
                list(cost),
                {name: [us[name] for us in cost.values()] for name in names},
            )
        ],
        figures={"cpu_us": cost, "per_second": rate},
    )


def table(title: str, figures: Mapping[str, Mapping[str, float]], form: str) -> Table:
    """Return a table with a line for each contender and a column for each call."""
    names = list(next(iter(figures.values())))
    lines = [
        [name, *(format(by_name[name], form) for by_name in figures.values())] for name in names
    ]
    return Table(title, ["", *figures], lines)
