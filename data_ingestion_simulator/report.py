"""What is printed, and in which form. Never a name or an age, except in a dry run."""

import asyncio
import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from client import Result
from generator import User
from ledger import Ledger
from settings import Settings

PROGRESS_SECONDS = 10.0
MOST_LINES_IN_BULK = 10
LONGEST_REASON = 200
NO_FIGURE = "\N{EN DASH}"


class Report:
    """Prints a line for each event: as `text`, as `json` (an object a line), or, if `quiet`, none.

    With `bulk_count` the created users are only counted: by a bar on stderr if that is a terminal,
    else by a line every ten seconds. Of the others, the first ten are printed.
    """

    def __init__(self, form: str, bulk_count: int | None = None) -> None:
        self._form, self._bulk_count = form, bulk_count
        self._bar: Any = None
        self._done = self._printed = 0
        self._created = self._started = self._progress_at = time.monotonic()

    def begin(self) -> None:
        """Begin to measure the progress: the first users are sent now."""
        self._started = self._progress_at = time.monotonic()
        if self._bulk_count and self._form == "text" and is_terminal():
            from tqdm import tqdm  # type: ignore[import-untyped]

            tqdm.monitor_interval = 0  # no thread
            count = self._bulk_count
            self._bar = tqdm(total=count, unit=" users", unit_scale=True, dynamic_ncols=True)

    def say(self, sentence: str) -> None:
        """Print a sentence about the run as a whole."""
        self._event("note", sentence, text=sentence)

    def users(self, users: Sequence[User], result: Result) -> None:
        """Print what became of users, or count them."""
        if self._bulk_count:
            self._progress(len(users), self._bulk_count)
        if result.outcome == "not sent" or (self._bulk_count and result.outcome == "created"):
            return
        for user in users:
            self._printed += 1
            if not self._bulk_count or self._printed <= MOST_LINES_IN_BULK:
                self._user(user, result)
            elif self._printed == MOST_LINES_IN_BULK + 1:
                self.say("From here on such users are only counted")

    async def preview(self, user: User, _: bool) -> Result:
        """In place of `Client.create`: print the user, and send nothing."""
        line = f"not sent       user {user.user_id}  {user.name}, {user.age}"
        self._event("user", line, outcome="not sent", **user._asdict())
        await asyncio.sleep(0)
        return Result("not sent")

    def summary(self, ledger: Ledger, *, stopped: bool, fail_over: float) -> None:
        """Print how the run went, also if `quiet`; the accounts are the last line."""
        seconds = time.monotonic() - self._created
        if self._bar is not None:
            self._bar.close()
        if self._form == "json":
            self._event("summary", "", stopped=stopped, **ledger.summary(seconds))
            return
        for sentence in sentences(ledger, fail_over):
            print(timed(sentence))
        print(timed(f"{'Stopped' if stopped else 'Done'} after {seconds:,.1f} s: {ledger}"))

    def _user(self, user: User, result: Result) -> None:
        milliseconds, why = result.seconds * 1000, reason(user, result)
        parts = [f"{result.outcome:<13}", f"user {user.user_id}", f"{result.status}"]
        parts += [f"{milliseconds:,.0f} ms", result.request_id, why]
        facts: dict[str, object] = {"outcome": result.outcome, "status": result.status}
        facts |= {"milliseconds": round(milliseconds, 3), "request_id": result.request_id}
        facts["reason"] = why
        sentence = "  ".join(part for part in parts if part)
        self._event("user", sentence, user_id=user.user_id, **facts)

    def _progress(self, more: int, count: int) -> None:
        self._done += more
        if self._bar is not None:
            self._bar.update(more)
            return
        if time.monotonic() - self._progress_at < PROGRESS_SECONDS:
            return
        self._progress_at = time.monotonic()
        rate = self._done / (self._progress_at - self._started)
        left_seconds = (count - self._done) / rate
        share = f"{self._done:,} of {count:,} users ({self._done / count:.0%})"
        facts = {"users_per_second": round(rate, 3), "left_seconds": round(left_seconds, 3)}
        sentence = f"{share}, {figure(rate)} a second, {left_seconds:,.0f} s left"
        self._event("progress", sentence, done=self._done, count=count, **facts)

    def _event(self, event: str, sentence: str, **facts: object) -> None:
        if self._form == "json":
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            print(json.dumps({"at": at, "event": event, **facts}))
        elif self._bar is not None:
            self._bar.write(timed(sentence), file=sys.stdout)
        elif self._form == "text":
            print(timed(sentence))


def purpose(settings: Settings) -> str:
    """The first line: what is going to happen."""
    users = "users" if settings.count is None else f"{settings.count:,} users"
    if settings.interval_seconds:
        what = f"a new user every {settings.interval_seconds:g} s"
        what += f", {settings.count:,} in all," if settings.count else ""
    elif settings.rate_per_second:
        rate = f"{settings.rate_per_second:,g} a second"
        what = f"{users}, {rate}, at most {settings.concurrency} at once,"
    else:
        what = f"{users}, {settings.concurrency} requests at once,"
    dry = " (a dry run: nothing is sent)" if settings.dry_run else ""
    return f"Simulator: {what} to {settings.api_base_url}{dry}"


def sentences(ledger: Ledger, fail_over: float) -> list[str]:
    """The summary without the accounts: rate, latency, users not attempted, errors, failure."""
    lines, not_attempted = [], ledger.dropped + ledger.late
    if not ledger.settled["not sent"]:
        latency = ", ".join(
            f"{name} " + (NO_FIGURE if seconds is None else f"{figure(seconds * 1000)} ms")
            for name, seconds in ledger.percentiles_seconds().items()
        )
        without = ", without the dropped" if not_attempted else ""
        lines.append(
            f"{figure(ledger.users_per_second())} users a second; latency {latency}{without}"
        )
    due = ledger.attempted + not_attempted
    for count, why in (
        (ledger.dropped, "as many as --concurrency allows were being sent"),
        (ledger.late, "this program could not keep up with the rate"),
    ):
        lines += [f"{count:,} of {due:,} users were dropped: {why}"] if count else []
    for error, count in ledger.errors.most_common():
        lines.append(f"The API {error}: {'once' if count == 1 else f'{count:,} times'}")
    if ledger.failed(fail_over):
        share = f"{ledger.failed_share() * 100:.4g} % of the users were not stored"
        stored = ledger.stored()
        lines.append(
            f"{share}, more than {fail_over * 100:g} %" if stored else "No user was stored"
        )
    return lines


def reason(user: User, result: Result) -> str:
    """The API's reason for an error as one short line, without the name and age of the user."""
    text, words = text_of(result.detail), user.name.split()
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    spellings = [*words, *map(quote, words), *(json.dumps(word)[1:-1] for word in words)]
    private = [re.escape(each) for each in sorted(spellings, key=len, reverse=True)]
    private.append(rf"(?<!\d){user.age}(?!\d)")
    line = re.sub("|".join(private), "***", line, flags=re.IGNORECASE)[:LONGEST_REASON]
    hint = " (is API_TOKEN set and right?)" if result.status in (401, 403) else ""
    return f"{line}{hint}".strip()


def text_of(detail: object) -> str:
    """A sentence, or the places and messages of FastAPI's 422, whose `input` is left out."""
    match detail:
        case str():
            return detail
        case {"loc": [*places], "msg": str(message)}:
            return f"{'.'.join(part for part in places if isinstance(part, str))}: {message}"
        case [*items]:
            return "; ".join(text_of(item) for item in items if isinstance(item, dict))
    return ""


def figure(value: float | None) -> str:
    """A number with three significant digits; a dash for None."""
    if value is None:
        return NO_FIGURE
    places = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, places)}f}"


def timed(sentence: str) -> str:
    """The sentence after the time of day."""
    return f"{time.strftime('%H:%M:%S')} {sentence}"


def is_terminal() -> bool:
    """Can a bar be drawn on stderr? It may be closed, or a terminal without a size."""
    with suppress(AttributeError, OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    return False


def prepare_output() -> None:
    """Let a pipe show each line at once, and a narrow code page not raise UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def complain(sentence: str) -> None:
    """Print a sentence on stderr, or on stdout if stderr is closed or cannot be written."""
    for stream in (sys.stderr, sys.stdout):
        with suppress(OSError):
            print(sentence, file=stream)
            return
