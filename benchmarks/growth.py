"""How the cost of each call grows with the number of users."""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.calls import Figures, medians_of, table
from benchmarks.contenders import ours
from benchmarks.listing import once
from benchmarks.load import wrk
from benchmarks.ratios import Result, Row, calls_in_turn, in_turn, medians
from benchmarks.servers import Server, serving
from benchmarks.stores import statistics_rows
from tools.processes import say

SIZES = {"1 k": 1_000, "10 k": 10_000, "100 k": 100_000, "1 M": 1_000_000}
QUICK_SIZES = {"1 k": 1_000, "100 k": 100_000}
# "delete" deletes what it has created, so the number of users stays the same.
CALLS: Sequence[str] = ("health", "get", "update", "delete", "stats", "page")
QUICK_CALLS: Sequence[str] = ("health", "get", "stats")


def measure(quick: bool) -> Result:
    """Measure every call on APIs with different numbers of users."""
    rounds, sizes, calls = (2, QUICK_SIZES, QUICK_CALLS) if quick else (3, SIZES, CALLS)
    with serving([ours(name) for name in sizes]) as servers:
        for name, server in servers.items():
            server.fill_in_batches(sizes[name])
        largest_bytes = max(len(each.ask("GET", "/stats/ages")[1]) for each in servers.values())
        say(f"{', '.join(calls)} at {', '.join(sizes)}: {rounds} rounds")
        us = costs(servers, sizes, calls, rounds)
    rows = statistics_rows(us["stats"], us["health"], largest_bytes)
    smallest, *_, most = sizes
    rows += [
        Row(f"{call}: {most} users against {smallest}", by_size[most] / by_size[smallest])
        for call, by_size in us.items()
    ]
    return Result(
        how=f"{rounds} rounds of 1 s, 64 connections, the store in memory",
        rows=rows,
        tables=[table("Server CPU, microseconds per request (of a listing: time)", us, ".2f")],
        figures={"cpu_us": us},
        notes=[
            "The requests of `delete` are creates and deletes in turn; a `page` has 100 users."
            " The ids that are read or updated are random."
        ],
    )


def costs(
    servers: Mapping[str, Server], sizes: Mapping[str, int], calls: Sequence[str], rounds: int
) -> Figures:
    """Return the microseconds of each call, and of a listing per user, by size."""
    turns = {
        call: {n: partial(wrk, s, call, known_users=sizes[n]) for n, s in servers.items()}
        for call in calls
    }
    us = medians_of(calls_in_turn(rounds, turns), "cpu_us")
    listings = in_turn(rounds, {n: partial(once, s) for n, s in servers.items()})
    ms = medians({n: [each.ms for each in some] for n, some in listings.items()})
    us["listing, a user"] = {name: ms[name] * 1e3 / sizes[name] for name in sizes}
    return us
