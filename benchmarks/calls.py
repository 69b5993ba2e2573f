"""Point operations: the server's CPU for one request, beside other servers."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.contenders import BARE, FIRST, OURS, check, contenders
from benchmarks.load import KNOWN_USERS, Run, wrk
from benchmarks.ratios import Result, Row, Table, in_turn, medians, times
from benchmarks.servers import Server, serving
from tools.processes import say

CALLS = ("health", "get", "create", "update", "delete")
QUICK_CALLS = ("get", "create")
BARS = {FIRST: 4.0, "Litestar": 1.1}
SHARE_OF_BARE = 0.5
SHARE_OF_BARE_BY_CALL = {"create": 0.45}
MODERATE_CALLS = ("get", "create")
MODERATE_CONNECTIONS = 8
MODERATE_SHARE = 1 / 3  # of the requests per second that the server answered when saturated

Runs = Mapping[str, Mapping[str, list[Run]]]  # by call and contender
Figures = Mapping[str, Mapping[str, float]]


def measure(quick: bool) -> Result:
    """Run all contenders side by side and compare them, call by call."""
    rounds, calls = (1, QUICK_CALLS) if quick else (5, CALLS)
    with serving(contenders()) as servers:
        with ThreadPoolExecutor() as pool:
            list(pool.map(check_and_fill, servers.values()))
        runs = {}
        for call in calls:
            say(f"{call}: {len(servers)} contenders, {rounds} rounds")
            turns = {name: partial(wrk, server, call) for name, server in servers.items()}
            runs[call] = in_turn(rounds, turns)
        moderate = {}
        for call in MODERATE_CALLS:
            say(f"{call} at moderate load")
            rate = medians_of(runs, "per_second")[call]
            seconds = 1 if quick else 2
            paced = {n: partial(moderately, servers[n], call, rate[n], seconds) for n in rate}
            moderate[call] = in_turn(1 if quick else 3, paced)
    return compared(runs, moderate, rounds)


def check_and_fill(server: Server) -> None:
    """Check that a contender gives the same responses as the others, and create users in it."""
    check(server)
    server.fill(KNOWN_USERS)


def moderately(server: Server, call: str, saturated_per_second: float, seconds: int) -> Run:
    """Measure a call at a third of a server's capacity: each connection waits between requests."""
    pause_ms = 1000 * MODERATE_CONNECTIONS / (saturated_per_second * MODERATE_SHARE)
    return wrk(server, call, seconds, MODERATE_CONNECTIONS, pause_ms=pause_ms)


def medians_of(runs: Runs, figure: str) -> dict[str, dict[str, float]]:
    """Return the median of a figure of runs, by call and contender."""
    return {
        call: medians({n: [getattr(run, figure) for run in some] for n, some in by_name.items()})
        for call, by_name in runs.items()
    }


def compared(runs: Runs, moderate: Runs, rounds: int) -> Result:
    """Return the ratios and tables of saturated and of moderate runs."""
    cost, rate = medians_of(runs, "cpu_us"), medians_of(runs, "per_second")
    paced, paced_rate = medians_of(moderate, "cpu_us"), medians_of(moderate, "per_second")
    both = {call: cost[call] for call in paced}
    both |= {f"{call}, moderate load": by_name for call, by_name in paced.items()}
    busy = {
        call: {name: paced_rate[call][name] * us / 1e4 for name, us in by_name.items()}
        for call, by_name in paced.items()
    }
    return Result(
        how=f"{rounds} rounds of 1 s for each call and contender, 64 connections; at moderate load"
        f" {MODERATE_CONNECTIONS} connections, paced to a third of the server's capacity",
        rows=[row for call, us in cost.items() for row in rows(call, us)]
        + [row for call, us in paced.items() for row in rows(call, us, moderate_load=True)],
        tables=[
            table("Server CPU, microseconds per request", cost, ".0f"),
            table("Responses per second and core", rate, ",.0f"),
            table("Server CPU, microseconds per request, saturated and moderate", both, ".0f"),
            table("Percent of a core in use at moderate load", busy, ".0f"),
        ],
        figures={"cpu_us": cost, "per_second": rate, "moderate_cpu_us": paced},
    )


def rows(call: str, us: Mapping[str, float], moderate_load: bool = False) -> list[Row]:
    """Return the ratios of one call; at moderate load they have no bar."""
    label = f"{call}, moderate load" if moderate_load else call
    found = []
    for name in us:
        if name == BARE:
            bar = SHARE_OF_BARE_BY_CALL.get(call, SHARE_OF_BARE)
            value = us[BARE] / us[OURS]
            found.append(Row(f"{label}: share of {BARE}", value, None if moderate_load else bar))
        elif name != OURS:
            limit = None if moderate_load else BARS.get(name)
            found.append(Row(f"{label}: {name}", times(us[name], us[OURS]), limit))
    return found


def table(title: str, figures: Figures, form: str) -> Table:
    """Return a table with a line for each contender and a column for each call."""
    names = list(next(iter(figures.values())))
    lines = [
        [name, *(format(by_name[name], form) for by_name in figures.values())] for name in names
    ]
    return Table(title, ["", *figures], lines)
