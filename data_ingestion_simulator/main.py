"""The Data Ingestion Simulator: waits for the API, then sends it plausible users."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import random
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING

from settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from generator import Users
    from ledger import Ledger
    from output import Output

GRACE_SECONDS = 0.5
# Users come and go by the thousand, and none is part of a cycle: to look for cycles after every
# 700 objects, as Python does, would take a tenth of the time that a user takes.
OBJECTS_BEFORE_COLLECTION = 100_000


def main() -> int:
    """Run until all is sent or a signal comes, and return the exit code.

    0: done, or stopped by a signal; 1: a library is missing, the output cannot be written, or the
    accounts do not balance; 2: a setting cannot be used; 3: more users failed than allowed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A pipe shows each line at once, and a narrow code page no UnicodeEncodeError.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        return run(read_settings(arguments=sys.argv[1:]))
    except SettingsError as error:
        complain(str(error))
        return 2
    except ModuleNotFoundError as error:
        complain(f"{error.name} is missing: run pip install -r requirements.txt")
        return 1
    except OSError as error:
        # What happens on the network ends in a fault and is retried: this was a line of ours.
        complain(f"The output cannot be written: {error.strerror}")
        return 1


def complain(sentence: str) -> None:
    """Say it on stderr, or on stdout where that is closed or cannot be written."""
    for stream in (sys.stderr, sys.stdout):  # a closed one is None, which print takes for stdout
        with suppress(OSError):
            print(sentence, file=stream)
            return


def run(settings: Settings) -> int:
    """Simulate until all is sent or a signal comes, account for every user; the exit code."""
    started = time.monotonic()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION)
    runner = asyncio.Runner()
    stop = stop_on_signals(runner.get_loop())
    # Libraries take most of the start. Before them, a wrong setting is told and Ctrl-C understood.
    from generator import UnknownLocale, Users
    from ledger import Ledger
    from output import Output

    try:
        users = Users(random.Random(settings.seed), settings.locale, settings.ages)  # noqa: S311 (not a secret)
    except UnknownLocale:
        must_be = "SIMULATION_LOCALE (--locale) must be a locale of Faker such as de_DE"
        raise SettingsError(f"{must_be}, not {settings.locale!r}") from None
    ledger = Ledger(settings.period_seconds or 0.0)
    in_bulk = not settings.period_seconds and not settings.dry_run
    output = Output(settings.output, settings.count if in_bulk else None)
    try:
        output.say(purpose(settings))
        runner.run(until_stopped(simulate(settings, users, ledger, output, stop), stop))
        ledger.close()
        seconds, stopped = time.monotonic() - started, stop.is_set()
        output.summary(ledger, seconds, stopped=stopped, fail_over=settings.fail_over)
    except Exception:  # whoever cannot read the summary gets the accounts at least
        ledger.close()
        complain(str(ledger))
        raise
    if not ledger.balances():
        return 1
    return 3 if ledger.failed(settings.fail_over) else 0


def purpose(settings: Settings) -> str:
    """The first line: what is going to happen."""
    users = "users" if settings.count is None else f"{settings.count:,} users"
    if settings.interval_seconds:
        what = f"a new user every {settings.interval_seconds:g} s"
        what += f", {settings.count:,} in all," if settings.count else ""
    elif settings.rate_per_second:
        rate = f"{settings.rate_per_second:,g}"
        what = f"{users}, {rate} a second, at most {settings.concurrency} on their way,"
    else:
        what = f"{users}, {settings.concurrency} requests at once,"
    return f"Simulator: {what} to {settings.api_base_url}" + (
        " (a dry run: nothing is sent)" if settings.dry_run else ""
    )


async def simulate(
    settings: Settings, users: Users, ledger: Ledger, output: Output, stop: asyncio.Event
) -> None:
    """Wait for the API, then send it users at their pace, or in bulk."""
    from client import Client, DryRun
    from connection import Connection
    from sending import Sender

    period_seconds = settings.period_seconds
    api: Client | DryRun = DryRun(output.preview)
    if not settings.dry_run:
        api = Client(
            Connection(settings.api_base_url, token=settings.api_token),
            output.say,
            ledger.errors,
            normal_per_second=1 / period_seconds if period_seconds else None,
            concurrency=settings.concurrency,
        )
    await api.wait_until_healthy()
    output.begin()
    sender = Sender(api, users, settings.count, ledger, output)
    try:
        if settings.interval_seconds:
            await sender.one_by_one(settings.interval_seconds, stop)
        elif period_seconds:
            await sender.at_rate(period_seconds, settings.concurrency, stop)
        else:
            await sender.in_bulk(settings.batch_size, settings.concurrency, stop)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


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


if __name__ == "__main__":
    # Not sys.exit: a host name that is still being looked up, in a thread, would hold back the end,
    # and a second signal could meet a closed event loop. Every line has been written by now.
    os._exit(main())
