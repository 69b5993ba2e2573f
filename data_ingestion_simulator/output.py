"""What is said, and in which form. The only file that knows tqdm.

Never a name or an age, but for a dry run, which is asked for in order to see them.
"""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from client import Answer
from generator import User
from ledger import Ledger

PLAIN_PROGRESS_SECONDS = 10.0
MOST_LINES_IN_BULK = 10
NONE = "\N{EN DASH}"


class Output:
    """Prints a line for each event: as `text`, as `json` (an object a line), or, if `quiet`, none.

    With `bulk_count` users are counted and not told one by one: as a bar on stderr where that is a
    terminal, as a line now and then where it is not. Of those not created the first ten are told.
    """

    def __init__(
        self,
        form: str,
        bulk_count: int | None = None,
        every_seconds: float = PLAIN_PROGRESS_SECONDS,
    ) -> None:
        self._form = form
        self._bulk_count = bulk_count
        self._every_seconds = every_seconds
        self._bar: Any = None
        self._done = self._told = 0
        self._started = self._progress_told = time.monotonic()

    def begin(self) -> None:
        """The first users are leaving now: progress counts from here, not the wait for the API."""
        self._started = self._progress_told = time.monotonic()
        if self._bulk_count and self._form == "text" and _on_a_terminal():
            self._bar = _bar(self._bulk_count)

    def say(self, sentence: str) -> None:
        """Tell what happens with the run as a whole."""
        self._event("note", sentence, text=sentence)

    def users(self, user_ids: Sequence[int], answer: Answer) -> None:
        """Tell what became of users, or count them."""
        if self._bulk_count:
            self._advance(len(user_ids), self._bulk_count)
            if answer.outcome == "created":
                return
        if answer.outcome == "not sent":  # and was shown
            return
        for user_id in user_ids:
            self._told += 1
            if self._bulk_count and self._told > MOST_LINES_IN_BULK:
                if self._told == MOST_LINES_IN_BULK + 1:
                    self.say("From here on such users are counted only")
                continue
            self._user(user_id, answer)

    def preview(self, user: User) -> None:
        """Show a user who would be sent."""
        line = f"not sent       user {user.user_id}  {user.name}, {user.age}"
        self._event("user", line, outcome="not sent", **user._asdict())

    def summary(self, ledger: Ledger, seconds: float, *, stopped: bool, fail_over: float) -> None:
        """Tell how the run went, quiet or not; the accounts are the last line."""
        if self._bar is not None:
            self._bar.close()
        told = ledger.summary(seconds)
        if self._form == "json":
            self._event("summary", "", stopped=stopped, **told)
            return
        for sentence in _sentences(ledger, fail_over):
            print(_timed(sentence))
        print(_timed(f"{'Stopped' if stopped else 'Done'} after {seconds:,.1f} s: {ledger}"))

    def _user(self, user_id: int, answer: Answer) -> None:
        milliseconds = answer.seconds * 1000
        line = f"{answer.outcome:<13}  user {user_id}  {answer.status}  {milliseconds:,.0f} ms"
        rest = [part for part in (answer.request_id, answer.reason) if part]
        self._event(
            "user",
            "  ".join([line, *rest]),
            user_id=user_id,
            outcome=answer.outcome,
            status=answer.status,
            milliseconds=round(milliseconds, 3),
            reason=answer.reason,
            request_id=answer.request_id,
        )

    def _advance(self, more: int, count: int) -> None:
        self._done += more
        if self._bar is not None:
            self._bar.update(more)
        elif time.monotonic() - self._progress_told >= self._every_seconds:
            self._progress_told = time.monotonic()
            self._tell_progress(count, self._progress_told - self._started)

    def _tell_progress(self, count: int, seconds: float) -> None:
        rate = self._done / seconds
        left_seconds = (count - self._done) / rate
        share = f"{self._done:,} of {count:,} users ({self._done / count:.0%})"
        self._event(
            "progress",
            f"{share}, {figure(rate)} a second, {left_seconds:,.0f} s left",
            done=self._done,
            count=count,
            users_per_second=round(rate, 3),
            left_seconds=round(left_seconds, 3),
        )

    def _event(self, event: str, sentence: str, **facts: object) -> None:
        if self._form == "json":
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            print(json.dumps({"at": at, "event": event, **facts}))
        elif self._form == "text" and self._bar is not None:
            self._bar.write(_timed(sentence), file=sys.stdout)
        elif self._form == "text":
            print(_timed(sentence))


def _sentences(ledger: Ledger, fail_over: float) -> list[str]:
    """What a summary says before the accounts: rate, latency, dropped ticks, errors, failure."""
    sentences = []
    not_attempted = ledger.dropped + ledger.late
    due = ledger.attempted + not_attempted
    if "not sent" not in ledger.settled:  # of a dry run there is nothing to tell
        percentiles = {each: ledger.latencies.percentile_seconds(each) for each in (50, 95, 99)}
        latency = ", ".join(
            f"p{each} " + (NONE if seconds is None else f"{figure(seconds * 1000)} ms")
            for each, seconds in percentiles.items()
        )
        left_out = ", without the dropped" if not_attempted else ""
        rate = figure(ledger.users_per_second())
        sentences.append(f"{rate} users a second; latency {latency}{left_out}")
    if ledger.dropped:
        told = f"{ledger.dropped:,} of {due:,} users were dropped"
        sentences.append(f"{told}: as many as --concurrency allows were on their way")
    if ledger.late:
        told = f"{ledger.late:,} of {due:,} users were dropped"
        sentences.append(f"{told}: this program could not keep up with the rate")
    for error, count in ledger.errors.most_common():
        sentences.append(f"The API {error}: {'once' if count == 1 else f'{count:,} times'}")
    if ledger.failed(fail_over):
        share, most = f"{ledger.failed_share() * 100:.4g} %", f"more than {fail_over * 100:g} %"
        some = f"{share} of the users were not stored, {most}"
        sentences.append(some if ledger.stored() else "Not one user was stored")
    return sentences


def figure(value: float | None) -> str:
    """A number to read: three digits that tell, thousands apart; a dash where there is none."""
    if value is None:
        return NONE
    places = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, places)}f}"


def _on_a_terminal() -> bool:
    """Can a bar be drawn on stderr? It may be closed, or a terminal without a size."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (AttributeError, OSError, ValueError):
        return False


def _bar(count: int) -> Any:
    """A bar on stderr with rate and time left."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    tqdm.monitor_interval = 0  # no thread
    return tqdm(total=count, unit=" users", unit_scale=True, dynamic_ncols=True)


def _timed(sentence: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {sentence}"
