"""How the cost of each call grows with the number of users."""

from collections.abc import Sequence
from functools import partial

from benchmarks.calls import table
from benchmarks.contenders import ours
from benchmarks.listing import once
from benchmarks.load import serving, wrk
from benchmarks.ratios import Chart, Result, Row, calls_in_turn, in_turn, medians
from benchmarks.stores import STATS_BY_HEALTH, STATS_BYTES
from tools.processes import say

SIZES = {"1 k": 1_000, "10 k": 10_000, "100 k": 100_000, "1 M": 1_000_000}
# A create has its delete in "delete", which therefore leaves the number of users as it is.
CALLS: Sequence[str] = ("health", "get", "update", "delete", "stats", "page")
QUICK_CALLS: Sequence[str] = ("health", "get", "stats")


def measure(quick: bool) -> Result:
    """Measure every call on APIs that hold more and more users."""
    rounds, sizes, calls = 3, SIZES, CALLS
    if quick:
        rounds, sizes, calls = 2, {"1 k": 1_000, "100 k": 100_000}, QUICK_CALLS
    with serving([ours(name) for name in sizes]) as servers:
        for name, server in servers.items():
            server.fill_in_batches(sizes[name])
        largest = max(len(each.ask("GET", "/stats/ages")[1]) for each in servers.values())
        say(f"{', '.join(calls)} at {', '.join(sizes)}: {rounds} rounds")
        turns = {
            call: {n: partial(wrk, s, call, known_users=sizes[n]) for n, s in servers.items()}
            for call in calls
        }
        us = {
            call: medians({name: [run.cpu_us for run in some] for name, some in runs.items()})
            for call, runs in calls_in_turn(rounds, turns).items()
        }
        listings = in_turn(rounds, {n: partial(once, s) for n, s in servers.items()})
    ms = medians({n: [each.ms for each in some] for n, some in listings.items()})
    us["listing, a user"] = {name: ms[name] * 1e3 / sizes[name] for name in sizes}
    rows = [
        Row(f"statistics against health: {n}", us["stats"][n] / us["health"][n], STATS_BY_HEALTH,
            "at most")
        for n in sizes
    ]  # fmt: skip
    smallest, *_, most = sizes
    rows += [
        Row(f"{call}: {most} users against {smallest}", by_size[most] / by_size[smallest])
        for call, by_size in us.items()
    ]
    rows.append(Row("size of the statistics", largest, STATS_BYTES, "at most", "bytes"))
    return Result(
        how=f"{rounds} rounds of 1 s, 64 connections, the store in memory",
        rows=rows,
        tables=[table("Server CPU, microseconds per request (of a listing: time)", us, ".2f")],
        charts=[
            Chart(
                "Cost by the number of users",
                "microseconds of CPU",
                "lines",
                list(sizes),
                {call: list(by_size.values()) for call, by_size in us.items()},
            )
        ],
        figures={"cpu_us": us},
        notes=[
            "A request of `delete` is by turns a create and its delete; a `page` has 100 users."
            " Who is read or updated is drawn from all of them."
        ],
    )
