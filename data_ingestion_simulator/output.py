"""What is said, and in which form; never a name or an age. The only file that knows tqdm."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from client import Answer
from ledger import Ledger

PLAIN_PROGRESS_SECONDS = 10.0
MOST_LINES_IN_BULK = 10


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
        if bulk_count and form == "text":
            self._bar = _bar(bulk_count)

    def say(self, sentence: str) -> None:
        """Tell what happens with the run as a whole."""
        self._event("note", sentence, text=sentence)

    def users(self, user_ids: Sequence[int], answer: Answer) -> None:
        """Tell what became of users, or count them."""
        if self._bulk_count:
            self._advance(len(user_ids), self._bulk_count)
            if answer.outcome in ("created", "not sent"):
                return
        for user_id in user_ids:
            self._told += 1
            if self._bulk_count and self._told > MOST_LINES_IN_BULK:
                if self._told == MOST_LINES_IN_BULK + 1:
                    self.say("From here on such users are counted only")
                continue
            self._user(user_id, answer)

    def summary(self, ledger: Ledger, seconds: float, *, stopped: bool, fail_over: float) -> None:
        """Tell how the run went, quiet or not; the accounts are the last line."""
        if self._bar is not None:
            self._bar.close()
        told = ledger.summary(seconds)
        if self._form == "json":
            self._event("summary", "", stopped=stopped, **told)
            return
        for sentence in _sentences(ledger, fail_over):
            _print(sentence)
        _print(f"{'Stopped' if stopped else 'Done'} after {seconds:.1f} s: {ledger}")

    def _user(self, user_id: int, answer: Answer) -> None:
        milliseconds = answer.seconds * 1000
        line = f"{answer.outcome:<13}  user {user_id}  {answer.status}  {milliseconds:.0f} ms"
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
        if self._bar is not None and not self._bar.disable:
            self._bar.update(more)
        elif time.monotonic() - self._progress_told >= self._every_seconds:
            self._progress_told = time.monotonic()
            self._tell_progress(count, self._progress_told - self._started)

    def _tell_progress(self, count: int, seconds: float) -> None:
        rate = self._done / seconds
        left_seconds = (count - self._done) / rate
        share = f"{self._done} of {count} users ({self._done / count:.0%})"
        self._event(
            "progress",
            f"{share}, {rate:.0f} a second, {left_seconds:.0f} s left",
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
            _print(sentence)


def _sentences(ledger: Ledger, fail_over: float) -> list[str]:
    """What a summary says before the accounts: latency, missed ticks, errors."""
    p50, p95, p99 = (ledger.latencies.percentile_seconds(p) * 1000 for p in (50, 95, 99))
    sentences = []
    if ledger.attempted:
        latency = f"p50 {p50:.3g} ms, p95 {p95:.3g} ms, p99 {p99:.3g} ms"
        sentences.append(f"{ledger.users_per_second():.3g} users a second; latency {latency}")
    if ledger.missed:
        sentences.append(f"{ledger.missed} ticks were missed: too many users were on their way")
    for error, count in ledger.errors.most_common():
        sentences.append(f"{count} x the API {error}")
    if ledger.failed_share() > fail_over:
        share, most = ledger.failed_share() * 100, fail_over * 100
        sentences.append(f"{share:.4g} % of the users were not stored, more than {most:g} %")
    return sentences


def _bar(count: int) -> Any:
    """A bar on stderr with rate and time left; disabled where stderr is no terminal."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    tqdm.monitor_interval = 0  # no thread
    return tqdm(total=count, unit=" users", unit_scale=True, dynamic_ncols=True, disable=None)


def _print(sentence: str) -> None:
    print(_timed(sentence))


def _timed(sentence: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {sentence}"
