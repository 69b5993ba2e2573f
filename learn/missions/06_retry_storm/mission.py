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
SHORT_SECONDS, SHORT_RECOVERY_SECONDS = 2.0, 8.0
PERIOD_SECONDS, END_SECONDS = 0.5, 80.0  # as in clock.py
MOST_TRIES, MOST_TIMES_USUAL, MOST_TIMES_PEAK, RECOVERY_SECONDS = 30, 1.5, 3, 30.0
WINDOW_SECONDS = 0.02
COUNT_PEAKS_AFTER_SECONDS = 5.0  # the first retries follow one moment: the outage's begin

MISSION = Mission(
    minutes=15,
    aim="repeat requests without harm: backoff, jitter and a budget",
    prediction="Thirty clients make 60 calls a second. In the outage a request is refused after "
    "0.02 s, and the starter sends the next one at once, for each waiting call. How many requests "
    "a second arrive five seconds later?",
    why="Five seconds after the beginning, 300 calls wait, and each of them sends 50 requests a "
    "second: together about 15,000, which is 250 times the usual number.",
    result="With the starter about 15,000 requests a second arrive after five seconds, and the "
    "check stops it; the solution stays below 1.5 times the usual 60.",
    board="Each client alone behaves well. Why is the sum of thirty good clients not good?",
    hints=(
        "Wait before each retry: a short time first, then twice as long each time, up to a limit.",
        "Multiply each wait by random.uniform(0.5, 1), else all clients try again at the same "
        "moment. New customers still arrive in the outage: waiting calls become more and more.",
        "Budget: let only one of the waiting calls of a client try again at a time. "
        "`self.turn = asyncio.Lock()` in __init__, `async with self.turn:` around the retries. "
        "Begin with 0.2 s and wait at most 4 s, else calls still wait long after the outage.",
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
    outages = (0.0, OUTAGE_SECONDS, SHORT_SECONDS) if world.faults else (0.0, 0.0, 0.0)
    control, found, short = [await run(world, seconds) for seconds in outages]
    usual = sum(BEGINS <= each < ENDS for each in control["sent"])
    during = sum(BEGINS <= each < ENDS for each in found["sent"])
    later = sum(BEGINS + 4.5 <= each < BEGINS + 5.5 for each in found["sent"])
    world.measured = f"{later:,} requests in the second around five seconds after the beginning"
    look = f"{world.file.name}, Client.create"
    if found["errors"]:
        seen = f"a call ended with {found['errors'][0].partition('(')[0]}"
        raise Fail("every call succeeds at last", seen, found["errors"][0], look)
    if not world.faults:
        raise Void("there was no outage")
    example = f"{during} requests during the outage, {usual} without one"
    refuse_a_storm(max(found["tries"].values(), default=0), during / max(usual, 1), example, look)
    refuse_a_herd(control["sent"], found["sent"], look)
    refuse_a_slow_recovery(found, OUTAGE_SECONDS, RECOVERY_SECONDS, look)
    refuse_a_slow_recovery(short, SHORT_SECONDS, SHORT_RECOVERY_SECONDS, look)


async def run(world: World, outage_seconds: float) -> dict[str, Any]:
    """Run the clients with an outage; return what the API has seen. Raises Fail."""
    result = world.folder / f"result-{len(world.programs)}"
    arguments = (str(world.seed), str(outage_seconds), str(result))
    program = await world.run(15, *arguments, runner=CLOCK)
    if not result.exists():
        raise program.crash("it ended before the end of the simulated time")
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


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


def refuse_a_slow_recovery(found: dict[str, Any], outage: float, most: float, look: str) -> None:
    """Raise Fail if a call still waited long after an outage of so many seconds."""
    ends = BEGINS + outage
    late = {call: end - max(began, ends) for call, (began, end) in found["done"].items()}
    slowest = max(late.values(), default=0.0)
    # The name of a call says when it began, such as "7.31": client 7, call 31.
    begun = {call: int(call.split(".")[1]) * PERIOD_SECONDS for call in found["tries"]}
    never = [call for call, at in begun.items() if call not in late and at + most < END_SECONDS]
    if slowest <= most and not never:
        return
    example = f"the slowest call succeeded {slowest:.1f} s after the outage"
    if never:
        example = f"{len(never)} calls had no success until the end of the simulation"
    raise Fail(
        f"recovery: every call succeeds within {most:g} s after an outage of {outage:g} s",
        f"after an outage of {outage:g} s, a call waited more than {most:g} s",
        example,
        f"{look}: the longest wait between two tries; no long wait when the API responds again",
    )
