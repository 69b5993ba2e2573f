"""What is printed, and in which form. Only a dry run prints names and ages."""

import io
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote

from client import Result
from generator import User
from ledger import Ledger
from settings import Settings

PROGRESS_SECONDS, MOST_LINES_IN_BULK, LONGEST_REASON = 5.0, 10, 200


class Report:
    """Prints events as lines of text or JSON; in bulk only ten users that were not created."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._form, self._ledger = settings, settings.output, ledger
        self._printed = 0
        self._created_at = self._progress_at = time.monotonic()

    def say(self, sentence: str) -> None:
        """Print a sentence about the run as a whole."""
        self._event("note", sentence, text=sentence)

    def users(self, users: Sequence[User], result: Result) -> None:
        """Print the outcome of users and, except at an interval, the progress every few seconds."""
        if not self._settings.period_seconds:
            left = 0 if result.outcome == "created" else MOST_LINES_IN_BULK - self._printed
            users = users[:left]
        for user in users:
            self._user(user, result)
        self._printed += len(users)
        overdue = time.monotonic() - self._progress_at > PROGRESS_SECONDS
        if overdue and not self._settings.interval_seconds:
            self._progress_at = time.monotonic()
            self._progress()

    def preview(self, user: User) -> None:
        """Print a user of a dry run, with name and age."""
        line = f"not sent       user {user.user_id}  {user.name}, {user.age}"
        self._event("user", line, outcome="not sent", **user._asdict())

    def summary(self, *, stopped: bool) -> None:
        """Print the results of the run, also if `quiet`; the accounts are the last line."""
        seconds = time.monotonic() - self._created_at
        for sentence in sentences(self._ledger, self._settings) if self._form != "json" else ():
            self._event("summary", sentence)
        accounts = f"{'Stopped' if stopped else 'Done'} after {seconds:,.1f} s: {self._ledger}"
        self._event("summary", accounts, stopped=stopped, **self._ledger.summary(seconds))

    def _user(self, user: User, result: Result) -> None:
        outcome, (status, _, seconds, _), request_id, _ = result
        milliseconds, why = seconds * 1000, reason(user, result)
        line = f"{outcome:<13}  user {user.user_id}  {status}  {milliseconds:,.0f} ms  {request_id}"
        facts = {"user_id": user.user_id, "milliseconds": milliseconds, "request_id": request_id}
        facts |= {"outcome": outcome, "status": status, "reason": why}
        self._event("user", f"{line}  {why}".rstrip(), **facts)

    def _progress(self) -> None:
        done, rate = self._ledger.done(), self._ledger.users_per_second()
        count, duration_seconds = self._settings.count, self._settings.duration_seconds
        ends = [(count - done) / rate] if count and rate else []
        ends += [max(0.0, duration_seconds - self._ledger.seconds())] if duration_seconds else []
        left_seconds = min(ends, default=None)
        share = f" of {count:,} users ({done / count:.0%})" if count else " users"
        left = f", {left_seconds:,.0f} s left" if left_seconds else ""
        sentence = f"{done:,}{share}, {rate or 0:,.3f} a second{left}"
        facts = {"count": count, "users_per_second": rate, "left_seconds": left_seconds}
        self._event("progress", sentence, done=done, **facts)

    def _event(self, event: str, sentence: str, **facts: object) -> None:
        if self._form == "json":
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            print(json.dumps({"at": at, "event": event, **facts}))
        elif self._form == "text" or event == "summary":
            print(f"{time.strftime('%H:%M:%S')} {sentence}")


def purpose(settings: Settings) -> str:
    """The first line: what this run will do."""
    users = "users" if settings.count is None else f"{settings.count:,} users"
    users += f" for {settings.duration_seconds:g} s" if settings.duration_seconds else ""
    pace = f"{settings.concurrency} requests at once"
    if settings.interval_seconds:
        pace = f"one every {settings.interval_seconds:g} s"
    elif settings.rate_per_second:
        pace = f"{settings.rate_per_second:,g} a second, at most {pace}"
    dry = " (a dry run: nothing is sent)" if settings.dry_run else ""
    return f"Simulator: {users}, {pace}, to {settings.api_base_url}{dry}"


def sentences(ledger: Ledger, settings: Settings) -> list[str]:
    """The summary without the accounts: rate, latency, responses, users not attempted, errors."""
    lines = []
    if not settings.dry_run:
        milliseconds = ledger.latency_milliseconds().items()
        latencies = ", ".join(f"{name} {value or 0:,.2f}" for name, value in milliseconds)
        without = ", without the dropped" if ledger.dropped + ledger.late else ""
        rate = f"{ledger.users_per_second() or 0:,.3f} users a second"
        lines.append(f"{rate}; latency in ms: {latencies}{without}")
        statuses = [f"{count:,} with {status}" for status, count in sorted(ledger.statuses.items())]
        volume = f"{ledger.sent_bytes:,} bytes sent, {ledger.received_bytes:,} received"
        lines.append(f"Responses: {', '.join(statuses) or 'none'}; {volume}")
    for count, why in (
        (ledger.dropped, "as many as --concurrency allows were being sent"),
        (ledger.late, "this program could not keep up with the rate"),
    ):
        lines += [f"{count:,} of {ledger.done():,} users were dropped: {why}"] if count else []
    for error, count in ledger.errors.most_common():
        lines.append(f"The API {error}: {'once' if count == 1 else f'{count:,} times'}")
    return lines + ledger.failures(settings.fail_over, settings.fail_p95_seconds)


def reason(user: User, result: Result) -> str:
    """The API's reason for an error as one short line, without the name and age of the user."""
    detail, words = result.detail or result.response.get("detail") or "", user.name.split()
    text = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    spellings = [*words, *map(quote, words), *(json.dumps(word)[1:-1] for word in words)]
    private = [re.escape(each) for each in sorted(spellings, key=len, reverse=True)]
    private.append(rf"(?<!\d){user.age}(?!\d)")
    line = re.sub("|".join(private), "***", line, flags=re.IGNORECASE)[:LONGEST_REASON]
    hint = " (check API_TOKEN)" if result.response.status in (401, 403) else ""
    return f"{line}{hint}".strip()


def prepare_output() -> None:
    """Flush the output after each line, and escape characters that its encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def complain(sentence: str) -> None:
    """Print a sentence on stderr, or on stdout if stderr is closed or cannot be written."""
    for stream in (sys.stderr, sys.stdout):
        with suppress(OSError):
            print(sentence, file=stream)
            return
