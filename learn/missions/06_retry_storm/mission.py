"""The world and the check of mission 6: thirty clients and an outage, on a simulated clock."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

CLOCK = Path(__file__).parent / "clock.py"
BEGINS, OUTAGE_SECONDS = 5.2, 20.0  # as in clock.py
ENDS = BEGINS + OUTAGE_SECONDS
MOST_TRIES, MOST_TIMES_USUAL, MOST_TIMES_PEAK, RECOVERY_SECONDS = 30, 1.5, 3, 30.0
WINDOW_SECONDS = 0.02
COUNT_PEAKS_AFTER_SECONDS = 5.0  # the first retries follow one moment: the outage's begin

MISSION = Mission(
    minutes=15,
    aim="repeat requests without harm: backoff, jitter and a budget",
    prediction="Thirty clients send about 60 requests a second. In an outage of 20 s the starter "
    "tries again at once. How many times the usual number of requests does it send?",
    result="The starter sends more than ten times the usual number and is stopped; the solution "
    "stays below 1.5 times.",
    board="Each client alone behaves well. Why is the sum of thirty good clients not good?",
    hints=(
        "Wait before each retry: a short time first, then twice as long each time, up to a limit.",
        "Multiply each wait by random.uniform(0.5, 1), else all clients try again at the same "
        "moment. New customers still arrive in the outage: waiting calls become more and more.",
        "Budget: let only one of the waiting calls of a client try again at a time. "
        "`self.turn = asyncio.Lock()` in __init__, `async with self.turn:` around the retries.",
    ),
    real=(
        Real(
            "data_ingestion_simulator/client.py",
            "backoff_seconds",
            "exponential backoff with jitter, and the server's Retry-After",
        ),
        Real(
            "data_ingestion_simulator/client.py",
            "Client.retry",
            "waits for the backoff and for the budget",
        ),
        Real("data_ingestion_simulator/ledger.py", "RetryBudget", "at most 1.2 times the usual"),
    ),
)


def peak(sent: list[float], begins: float) -> int:
    """Return the most requests in one window between `begins` and the end of the outage."""
    windows = Counter(int(each / WINDOW_SECONDS) for each in sent if begins < each < ENDS)
    return max(windows.values(), default=0)


async def check(world: World) -> None:
    """Run the clients with the outage and, as a control, without it; compare."""
    runs: list[dict[str, Any]] = []
    for seconds in (0.0, OUTAGE_SECONDS if world.faults else 0.0):
        result = world.folder / f"result-{len(runs)}"
        arguments = (str(world.seed), str(seconds), str(result))
        program = await world.run(15, *arguments, runner=CLOCK)
        if not result.exists():
            raise program.crash("it ended before the end of the simulated time")
        runs.append(json.loads(result.read_text(encoding="utf-8")))
    control, found = runs
    usual = sum(BEGINS <= each < ENDS for each in control["sent"])
    during = sum(BEGINS <= each < ENDS for each in found["sent"])
    world.measured = f"{during / max(usual, 1):.1f} times the usual number"
    look = f"{world.file.name}, Client.create"
    if found["errors"]:
        seen = f"a call ended with {found['errors'][0].partition('(')[0]}"
        raise Fail("every call succeeds at last", seen, found["errors"][0], look)
    if not world.faults:
        raise Void("there was no outage")
    example = f"{during} requests during the outage, {usual} without one"
    refuse_a_storm(max(found["tries"].values(), default=0), during / max(usual, 1), example, look)
    refuse_a_herd(control["sent"], found["sent"], look)
    refuse_a_slow_recovery(control, found, look)


def refuse_a_storm(most: int, times: float, example: str, look: str) -> None:
    """Raise Fail if one call was tried too often, or all calls together."""
    if most > MOST_TRIES:
        raise Fail(
            f"backoff: a call is tried at most {MOST_TRIES} times in the outage",
            f"one call was tried {most} times",
            example,
            f"{look}: the wait between two tries",
        )
    if times > MOST_TIMES_USUAL:
        raise Fail(
            f"budget: at most {MOST_TIMES_USUAL} times the usual number of requests",
            f"all calls together sent {times:.1f} times the usual number",
            example,
            f"{look}: how many waiting calls try again at the same time",
        )


def refuse_a_herd(usual: list[float], sent: list[float], look: str) -> None:
    """Raise Fail if many clients tried again at the same moment."""
    most_usual = peak(usual, BEGINS)
    highest = peak(sent, BEGINS + COUNT_PEAKS_AFTER_SECONDS)
    if highest > MOST_TIMES_PEAK * most_usual:
        raise Fail(
            f"jitter: at most {MOST_TIMES_PEAK} times the usual peak of {most_usual} requests",
            f"{highest} requests arrived at the same moment",
            f"in one of the windows of {WINDOW_SECONDS:g} s",
            f"{look}: is a part of each wait random?",
        )


def refuse_a_slow_recovery(control: dict[str, Any], found: dict[str, Any], look: str) -> None:
    """Raise Fail if calls still waited long after the outage."""
    done = found["done"].values()
    slowest = max((ended - ENDS for began, ended in done if began < ENDS < ended), default=0.0)
    waiting = [call for call in found["tries"] if call not in found["done"]]
    if slowest > RECOVERY_SECONDS or len(waiting) > len(control["tries"]) / 100:
        raise Fail(
            f"recovery: every call succeeds within {RECOVERY_SECONDS:g} s after the outage",
            f"calls still waited more than {RECOVERY_SECONDS:g} s after the outage",
            f"{len(waiting)} calls waited until the end of the simulation",
            f"{look}: the longest wait, and what comes after the first success",
        )
