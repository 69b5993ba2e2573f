"""The Data Ingestion Simulator: it waits for the API, then sends plausible users to it."""

import os

try:
    import signal

    # Ctrl-C while it starts; later see `simulate`.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
except KeyboardInterrupt:
    os._exit(0)

import asyncio
import gc
import itertools
import sys
from contextlib import suppress

from client import Client
from generator import Users
from ledger import Ledger, RetryBudget
from report import Report, complain, prepare_output, purpose
from scheduler import Scheduler, run_until_stopped
from settings import Settings, SettingsError, check_locale, read_settings


def main() -> int:
    """Run until all users are sent or a signal comes; for the exit codes see README.md."""
    prepare_output()
    try:
        return run(read_settings(arguments=sys.argv[1:]))
    except SettingsError as error:
        complain(str(error))
        return 2
    except ImportError as error:
        complain(f"{error.name or error} is missing or broken: run pip install -r requirements.txt")
    except OSError as error:  # not of the network: those are ApiErrors, and retried
        what = f"Cannot read {error.filename}" if error.filename else "The output cannot be written"
        complain(f"{what}: {error.strerror}")
    return 1


def run(settings: Settings) -> int:
    """Simulate, and account for every user; return the exit code."""
    gc.set_threshold(100_000)  # else the garbage collector takes a tenth of the time
    stop, ledger = asyncio.Event(), Ledger(settings.period_seconds or 0.0)
    report = Report(settings, ledger)
    try:
        # Never closed, as by asyncio.run: that waits for the thread that looks up a host name.
        asyncio.Runner().run(run_until_stopped(simulate(settings, ledger, report, stop), stop))
        ledger.close()
        report.summary(stopped=stop.is_set())
    except OSError:  # stdout cannot be written: print at least the accounts
        ledger.close()
        complain(str(ledger))
        raise
    if not ledger.balances():
        return 1
    return 3 if ledger.failures(settings.fail_over, settings.fail_p95_seconds) else 0


async def simulate(settings: Settings, ledger: Ledger, report: Report, stop: asyncio.Event) -> None:
    """Wait for the API, then send users at their pace or in bulk; a dry run prints them instead."""
    from connection import Connection  # late: wrong settings are reported without libraries

    loop = asyncio.get_running_loop()  # its add_signal_handler does not exist on Windows
    for name in {"SIGINT", "SIGTERM", "SIGBREAK"} & {*dir(signal)}:
        signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(stop.set))
    check_locale(settings.locale)
    users = Users(settings.seed, settings.locale, settings.ages)
    report.say(purpose(settings))
    if settings.dry_run:
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.duration_seconds):
                for user in itertools.islice(users, settings.count):
                    report.preview(user)
                    await asyncio.sleep(settings.period_seconds or 0)
        return
    ledger.name = f"simulator-{users.block}"
    connection = Connection(settings.api_base_url, ledger, settings.api_token)
    budget = RetryBudget(connection.exchange, settings.period_seconds)
    client = Client(budget.exchange, budget.wait_seconds, report.say, ledger.errors)
    await client.retry(client.check_health)
    scheduler = Scheduler(client, users, settings.count, ledger, report.users, stop)
    try:
        await asyncio.create_task(scheduler.run(settings))  # faster: it skips `simulate`
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


if __name__ == "__main__":
    os._exit(main())  # not sys.exit, for the same thread; all output is written
