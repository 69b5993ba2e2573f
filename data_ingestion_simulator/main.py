"""The Data Ingestion Simulator: waits for the API, then sends it a plausible user at every tick."""

from __future__ import annotations

import asyncio
import io
import math
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from client import Client
    from generator import Users

GRACE_SECONDS = 0.5
MOST_IDS_A_USER = 5
OUTCOMES = ("created", "already there", "rejected", "given up")


def main() -> int:
    """Run until a signal comes, and return the exit code.

    0: stopped by a signal; 1: a library is missing, the output cannot be written, or the accounts
    do not balance; 2: a setting cannot be used.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe shows each line at once, and a narrow code page no UnicodeEncodeError.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        return run(read_settings())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing: run pip install -r requirements.txt", file=sys.stderr)
        return 1
    except OSError as error:
        # What happens on the network ends in a fault and is retried: this was a line of ours.
        with suppress(OSError):
            print(f"The output cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def run(settings: Settings) -> int:
    """Simulate until a signal comes, then account for every user; returns the exit code."""
    started = time.monotonic()
    runner = asyncio.Runner()
    stop = stop_on_signals(runner.get_loop())
    ledger = Ledger()
    say(
        f"Simulator: a new user every {settings.simulation_interval_seconds:g} s "
        f"to {settings.api_base_url}"
    )
    runner.run(until_stopped(simulate(settings, ledger, stop), stop))
    say(f"Stopped after {time.monotonic() - started:.1f} s: {ledger}")
    return 0 if ledger.balances() else 1


async def simulate(settings: Settings, ledger: Ledger, stop: asyncio.Event) -> None:
    """Wait for the API, then send a user at every tick until told to stop."""
    # These take most of the start. Before them, a wrong setting is told and Ctrl-C is understood.
    from client import Client
    from generator import Users

    users = Users(random.Random())  # noqa: S311 (not a secret)
    clock = asyncio.get_running_loop().time
    async with Client(settings.api_base_url, say) as api:
        await api.wait_until_healthy()
        tick = clock()
        while not stop.is_set():
            await send_one(api, users, ledger)
            tick = next_tick(tick, settings.simulation_interval_seconds, clock())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(tick):
                    await stop.wait()


async def send_one(api: Client, users: Users, ledger: Ledger) -> None:
    """Send the next user and account for it, whatever happens meanwhile."""
    user = next(users)
    outcome = "given up"
    ledger.attempted += 1
    try:
        answer = await api.create(user)
        ids_drawn = 1
        while answer.outcome == "taken" and ids_drawn < MOST_IDS_A_USER:
            user = users.renumbered(user)
            answer = await api.create(user)
            ids_drawn += 1
        if answer.outcome == "taken":  # an API that says so of every id wants none of our users
            reason = f"{ids_drawn} ids in a row were taken"
            answer = replace(answer, outcome="rejected", reason=reason)
        outcome = answer.outcome
        milliseconds = answer.seconds * 1000
        line = f"{outcome:<13}  user {user.user_id}  {answer.status}  {milliseconds:.0f} ms"
        say(f"{line}  {answer.reason}".rstrip())
    finally:
        ledger.settle(user.user_id, outcome)


def next_tick(tick: float, interval_seconds: float, now: float) -> float:
    """The first tick after `tick` that is not before `now`, on the grid of the interval.

    So the pace does not drift, and ticks that passed during an outage are skipped, not caught up.
    """
    return tick + interval_seconds * max(1, math.ceil((now - tick) / interval_seconds))


class Ledger:
    """The accounts: attempted = created + already there + rejected + given up."""

    def __init__(self) -> None:
        self.attempted = 0
        self.settled = Counter(dict.fromkeys(OUTCOMES, 0))
        self.given_up_ids: list[int] = []

    def settle(self, user_id: int, outcome: str) -> None:
        """Enter what became of a user; a given up one is named, for it may have arrived."""
        self.settled[outcome] += 1
        if outcome == "given up":
            self.given_up_ids.append(user_id)

    def balances(self) -> bool:
        """Is every attempted user accounted for? False would be a mistake in this program."""
        return self.attempted == sum(self.settled.values())

    def __str__(self) -> str:
        sides = " + ".join(f"{count} {outcome}" for outcome, count in self.settled.items())
        ids = ", ".join(map(str, self.given_up_ids))
        unknown = f" (outcome unknown: user {ids})" if ids else ""
        return f"{self.attempted} attempted {'=' if self.balances() else '!='} {sides}{unknown}"


def stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that SIGINT, SIGTERM and, on Windows, Ctrl-Break set, as often as they come.

    Not loop.add_signal_handler, which Windows does not have.
    """
    stop = asyncio.Event()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


async def until_stopped(story: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Run the story until it ends or is told to stop; then it has a short grace for one answer."""
    telling = asyncio.create_task(story)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({telling, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({telling}, timeout=GRACE_SECONDS)
    telling.cancel()
    stopping.cancel()
    with suppress(asyncio.CancelledError):
        await telling


def say(sentence: str) -> None:
    """Print a line with the time of day; names and ages never come here."""
    print(time.strftime("%H:%M:%S"), sentence)


if __name__ == "__main__":
    # Not sys.exit: a host name that is still being looked up, in a thread, would hold back the end,
    # and a second signal could meet a closed event loop. Every line has been written by now.
    os._exit(main())
