"""What is printed, and what is not."""

import re

import pytest

from client import Response, Result
from generator import User
from ledger import Ledger
from report import Report, reason
from settings import read_settings


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--count", "8"], r"2 of 8 users \(25%\), 10\.000 a second, 1 s left"),
        (["--count", "8", "--rate", "9"], r"2 of 8 users \(25%\), 9\.\d{3} a second, 1 s left"),
        (["--rate", "9"], r"2 users, 9\.\d{3} a second"),
        (["--rate", "9", "--duration", "1m"], r"2 users, 9\.\d{3} a second, 60 s left"),
        (["--rate", "9", "--duration", "1m", "--count", "8"], r"2 of 8 users .*, 1 s left"),
    ],
    ids=["in bulk", "at a rate", "endless", "for a minute", "for a minute or a count"],
)
def test_a_line_now_and_then_shows_the_progress(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    expected: str,
) -> None:
    """The progress is users, share, rate and time left; the wait for the API does not count."""
    monkeypatch.setattr("report.PROGRESS_SECONDS", -1)
    settings = read_settings({}, flags)
    ledger = Ledger(settings.period_seconds or 0.0)
    report = Report(settings, ledger)
    for user_id in range(2):
        ledger.attempt([user_id])
        ledger.time(100.0 + 0.1 * user_id, 100.1 + 0.1 * user_id)
        ledger.settle([user_id], "created")
        report.users([User(user_id, "Ana", 1)], Result("created", Response(200, None, 0.01)))
    printed = capsys.readouterr()

    assert re.fullmatch(rf"\S+ {expected}", printed.out.splitlines()[-1])
    assert printed.err == ""


def test_users_that_were_not_attempted_are_counted_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Users above the concurrency are dropped; those that this program is too slow for, too."""
    ledger = Ledger()
    ledger.dropped, ledger.late = 500, 1_500
    Report(read_settings({}), ledger).summary(stopped=False)

    printed = capsys.readouterr().out
    assert "500 of 2,000 users were dropped: as many as --concurrency allows were" in printed
    assert "1,500 of 2,000 users were dropped: this program could not keep up" in printed
    assert ", without the dropped\n" in printed


def reason_of(detail: object, status: int = 422) -> str:
    return reason(
        User(1, "Zoë O'Brien", 42), Result("rejected", Response(status, {"detail": detail}))
    )


SPELLINGS = ["Zoë O'Brien", "ZOË o'brien", "Zo%C3%AB%20O%27Brien", "Zo%C3%AB+O%27Brien"]


@pytest.mark.parametrize("spelling", [*SPELLINGS, "Zo\\u00eb O'Brien"])
def test_a_reason_never_holds_the_name_or_the_age(spelling: str) -> None:
    """They are replaced in the API's text, however they are spelt there."""
    printed = reason_of(f"no {spelling} aged 42 (age=42), but 142 others")

    assert re.sub(r"\*(%20|\+)\*", "* *", printed) == (
        "no *** *** aged *** (age=***), but 142 others"
    )
    assert reason_of([{"loc": ["Zoë"], "msg": "42"}]) == '[{"loc": ["***"], "msg": "***"}]'


def test_a_reason_is_one_short_line() -> None:
    """Control characters and line breaks become spaces; the line ends after 200 characters."""
    assert reason_of("a\r\nb\x1b[31m\u202ec\ud800d") == "a b [31m c d"
    assert len(reason_of("x" * 5_000)) == 200
    assert reason_of("x" * 196 + " Zoë O'Brien") == "x" * 196 + " ***"


@pytest.mark.parametrize(("detail", "expected"), [(None, ""), ({}, ""), ([], ""), ([7], "[7]")])
def test_a_reason_need_not_be_a_sentence(detail: object, expected: str) -> None:
    """Other JSON is printed as it is; after a 401 or 403 there is a hint."""
    assert reason_of(detail) == expected
    assert reason_of(detail, 401) == f"{expected} (check API_TOKEN)".strip()
