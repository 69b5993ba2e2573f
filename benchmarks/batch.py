"""Creating users in batches of a thousand, against creating them one by one."""

from functools import partial

from benchmarks.contenders import OURS, ours
from benchmarks.load import serving, wrk
from benchmarks.ratios import Result, Row, Table, in_turn, medians, times

BATCH = 1_000  # as calls.lua makes them
CHEAPER = 30
# A second each: in longer ones the dict of all users would come to grow beyond eleven million, and
# while it is copied, for two seconds perhaps, nobody is answered.
SECONDS = 1


def measure(quick: bool) -> Result:
    """Compare the API's processor time for a user in a batch and for one that comes alone."""
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
        rows=[Row("a user created alone", times(us["alone"], us["in a batch"]), CHEAPER)],
        tables=[Table("Server CPU", ["", "microseconds per user"], lines)],
        figures={"cpu_us_per_user": us},
    )
