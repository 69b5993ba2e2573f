"""Creates in batches of a thousand, beside single creates."""

from functools import partial

from benchmarks.contenders import OURS, ours
from benchmarks.load import wrk
from benchmarks.ratios import Result, Row, Table, in_turn, medians, times
from benchmarks.servers import serving

BATCH = 1_000  # as calls.lua makes them
TIMES_CHEAPER = 30
# One second: in longer runs the dict grows beyond eleven million users, and while Python copies it
# to a larger table, for perhaps two seconds, the server sends no response.
SECONDS = 1


def measure(quick: bool) -> Result:
    """Compare the API's processor time for a user in a batch and for a single create."""
    rounds = 2 if quick else 5
    with serving([ours()]) as servers:
        turns = {
            "alone": partial(wrk, servers[OURS], "create", SECONDS),
            "in a batch": partial(wrk, servers[OURS], "batch", SECONDS, connections=4),
        }
        runs = in_turn(rounds, turns)
    us = medians({name: [run.cpu_us for run in each] for name, each in runs.items()})
    us["in a batch"] /= BATCH
    lines = [[name, f"{figure:.2f}"] for name, figure in us.items()]
    return Result(
        how=f"{rounds} rounds of {SECONDS} s; batches of {BATCH:,} from 4 connections",
        rows=[Row("a user created alone", times(us["alone"], us["in a batch"]), TIMES_CHEAPER)],
        tables=[Table("Server CPU", ["", "microseconds per user"], lines)],
        figures={"cpu_us_per_user": us},
    )
