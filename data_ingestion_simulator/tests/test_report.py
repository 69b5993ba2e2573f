"""What is printed, and what is not."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi

from client import Result
from generator import User
from ledger import Ledger
from report import Report, figure, reason

FOLDER = Path(__file__).parent.parent


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run an asynchronous test, which has twenty seconds."""
    asyncio.run(asyncio.wait_for(story, 20))


def test_a_bulk_without_a_terminal_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal, a line now and then tells users, rate and time left."""
    monkeypatch.setattr("report.PROGRESS_SECONDS", 0.01)
    report = Report("text", 8)
    time.sleep(0.5)  # the wait for the API is no part of the rate
    report.begin()
    for user_id in range(2):
        time.sleep(0.02)
        report.users([User(user_id, "Ana", 1)], Result("created", 200, 0.01))
    printed = capsys.readouterr()

    progress = r"\S+ 1 of 8 users \(12%\), (\d+\.\d+) a second, 0 s left"
    match = re.fullmatch(progress, printed.out.splitlines()[0])
    assert match
    assert float(match[1]) > 10
    assert (len(printed.out.splitlines()), printed.err) == (2, "")


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.0000115, "0.0000115"),
        (0.246, "0.246"),
        (2.184, "2.18"),
        (14.96, "15.0"),
        (99.96, "100.0"),
        (824.4, "824"),
        (37_219.7, "37,220"),
    ],
)
def test_a_figure_can_be_read(value: float | None, printed: str) -> None:
    """Three digits that tell, never an exponent, and thousands set apart."""
    assert figure(value) == printed


def test_a_rate_that_this_program_cannot_keep_is_its_own_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Late users have a sentence of their own."""
    ledger = Ledger()
    ledger.late = 1_500
    Report("text").summary(ledger, stopped=False, fail_over=1.0)

    said = "1,500 of 1,500 users were dropped: this program could not keep up with the rate"
    assert said in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("size", [(24, 100), (0, 0)], ids=["usable", "without a size"])
def test_a_bulk_on_a_terminal_has_a_bar(size: tuple[int, int]) -> None:
    """On a terminal a bar shows share, count, rate and time left; lines stand above it. On one that
    says it has no room there is none.
    """
    import pty
    import termios

    async def story() -> None:
        async with FakeApi(batches=True, delay_seconds=0.05) as api:
            ours, theirs = pty.openpty()
            termios.tcsetwinsize(ours, size)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "main.py",
                *("--count", "3000", "--batch-size", "100", "--concurrency", "2"),
                env={**os.environ, "API_BASE_URL": api.url},
                cwd=FOLDER,
                stdout=subprocess.PIPE,
                stderr=theirs,
            )
            os.close(theirs)
            shown = await asyncio.to_thread(all_of, ours)
            said, _ = await process.communicate()
            os.close(ours)

            assert process.returncode == 0
            bar = r"\d+%\|.*\| \d[\d.]*k?/3\.00k \[\d\d:\d\d<\d\d:\d\d, .* users/s\]"
            if size == (0, 0):
                assert shown == ""
            else:
                assert re.search(bar, shown)
                assert "100%" in shown
            assert b"3,000 created" in said
            assert b"%|" not in said

    run(story())


def all_of(terminal: int) -> str:
    """Everything shown until the other side hangs up."""
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # what Linux says for the end
            chunk = b""
        if not chunk:
            return shown.decode()
        shown += chunk


def reason_of(detail: object, status: int = 422) -> str:
    return reason(User(1, "Zoë O'Brien", 42), Result("rejected", status, detail=detail))


def test_the_places_and_messages_of_a_422() -> None:
    """Of FastAPI's errors the place and the message are printed, never the input."""
    detail = [
        {"loc": ["query", "name"], "msg": "Too long", "input": "Zoë O'Brien", "type": "x"},
        {"loc": ["query", "age"], "msg": "Not a number", "input": "42", "type": "y"},
    ]

    assert reason_of(detail) == "query.name: Too long; query.age: Not a number"


@pytest.mark.parametrize(
    "spelling",
    [
        "Zoë O'Brien",
        "ZOË o'brien",
        "Zo%C3%AB%20O%27Brien",
        "Zo%C3%AB+O%27Brien",
        "Zo\\u00eb O'Brien",
    ],
)
def test_a_reason_never_holds_the_name_or_the_age(spelling: str) -> None:
    """They are replaced in the API's text, however they are spelt there."""
    printed = reason_of(f"no {spelling} aged 42 (age=42), but 142 others")

    assert re.sub(r"\*(%20|\+)\*", "* *", printed) == (
        "no *** *** aged *** (age=***), but 142 others"
    )
    assert "***: ***" in reason_of([{"loc": ["Zoë"], "msg": "42"}])


def test_a_reason_is_one_short_line() -> None:
    """Control characters and line breaks become spaces; the line ends after 200 characters."""
    assert reason_of("a\r\nb\x1b[31m\u202ec\ud800d") == "a b [31m c d"
    assert len(reason_of("x" * 5_000)) == 200
    assert reason_of("x" * 196 + " Zoë O'Brien") == "x" * 196 + " ***"


@pytest.mark.parametrize("detail", [None, {}, 7, [[1], {"loc": 1}], []], ids=str)
def test_without_a_readable_detail_there_is_no_reason(detail: object) -> None:
    """Only after a 401 or 403 there is a hint."""
    assert reason_of(detail).strip("; ") == ""
    assert reason_of(detail, 401) == "(is API_TOKEN set and right?)"
