"""Reading answers: what may be repeated, and what may be printed."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from answers import (
    ApiError,
    batch_existing,
    check_status,
    is_error,
    json_value,
    refusal,
    retry_after_seconds,
    stored_user,
    stored_users,
)

CONTRACT = Path(__file__).parents[2] / "contract" / "examples.json"


def refused(detail: object, *, name: str = "Zoë O'Brien", age: int = 42) -> str:
    return refusal(json.dumps({"detail": detail}).encode(), name=name, age=age)


def test_the_answers_of_the_contract_are_read() -> None:
    """What the API promises in the contract's examples is what is understood here."""
    examples = json.loads(CONTRACT.read_text(encoding="utf-8"))
    for each in examples:
        check_status(each["status"], {})  # none of them is a fault
    answers = {each["what"]: json.dumps(each["body"]).encode() for each in examples}
    batch = answers["several users at once; who is there already stays as they are"]

    assert not is_error(answers["a user is created"])
    assert stored_user(answers["a user is read"]) == ("Alice", 30)
    assert stored_users(answers["the page after it"]) == {123: ("Alice", 30)}
    assert batch_existing(batch, [8, 123]) == {123}
    assert refusal(answers["an age beyond its bounds"], name="Alice", age=151) == (
        "query.age: Input should be less than or equal to 150"
    )


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 404, 405, 409, 413, 422, 501, 507])
def test_answers_are_2xx_and_refusals(status: int) -> None:
    """A success and a refusal are answers: neither is repeated."""
    check_status(status, {})


@pytest.mark.parametrize(
    "status", [101, 301, 302, 304, 307, 408, 429, 500, 502, 503, 506, 508, 599]
)
def test_other_statuses_are_faults(status: int) -> None:
    """Redirects, 408, 429 and 5xx are no answers."""
    with pytest.raises(ApiError, match=f"^answered {status}"):
        check_status(status, {})


def test_retry_after_in_seconds_or_as_a_date() -> None:
    """The header is understood in both of its forms; nonsense and the past count as none."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)

    assert retry_after_seconds({"Retry-After": "7"}) == 7.0
    assert retry_after_seconds({"Retry-After": " 7 "}) == 7.0
    assert 25 < retry_after_seconds({"Retry-After": soon}) <= 30
    asctime = time.asctime(time.gmtime(time.time() + 30))
    assert 25 < retry_after_seconds({"Retry-After": asctime}) <= 30
    for value in (past, "", "-1", "٥", "soon", "1.5", "nan", "9" * 5_000):
        assert retry_after_seconds({"Retry-After": value}) in (0.0, float("inf"))
    assert retry_after_seconds({}) == 0.0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Bad gateway", "responded with HTML that is not JSON"),
        (b" ", "responded with something that is not JSON"),
        (b'{"user_id": 1', "responded with something that is not JSON"),
        (b"\xff\xfe", "responded with something that is not JSON"),
        (b"[" * 60_000, "responded with something that is not JSON"),
    ],
)
def test_only_json_is_understood(body: bytes, reason: str) -> None:
    """HTML, half a body and nonsense are faults that say what came."""
    with pytest.raises(ApiError) as caught:
        json_value(body)

    assert str(caught.value) == reason


def test_a_listing_has_ids_and_users() -> None:
    """What is no id is nobody's, however long; what is no map is no listing."""
    long = "1" * 5_000
    body = f'{{"{long}": null, "x": null, "٣": null, "7": {{"name": "Ana", "age": 42}}}}'
    assert stored_users(body.encode()) == {7: ("Ana", 42)}
    assert stored_users(b"[]") is None


def test_an_error_inside_is_one_that_says_something() -> None:
    """An API whose users have an `error` that is null has created them."""
    assert is_error(b'{"error": "User already exists"}')
    assert not is_error(b'{"error": null, "user_id": 1}')


def test_a_stored_user_is_an_object_or_a_pair() -> None:
    """Both forms in which APIs of the course show a user are understood, and nothing else is."""
    assert stored_user(b'{"user_id": 1, "name": "Ana", "age": 42}') == ("Ana", 42)
    assert stored_user(b'["Ana", 42]') == ("Ana", 42)
    for body in (b"", b"null", b"[]", b'"Ana"', b'["Ana"]', b'{"name": "Ana"}', b'{"error": "No"}'):
        assert stored_user(body) is None


def test_the_places_and_messages_of_a_422() -> None:
    """Of FastAPI's errors the place and the message are said, never the input."""
    detail = [
        {"loc": ["query", "name"], "msg": "Too long", "input": "Zoë O'Brien", "type": "x"},
        {"loc": ["query", "age"], "msg": "Not a number", "input": "42", "type": "y"},
    ]

    assert refused(detail) == "query.name: Too long; query.age: Not a number"


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
def test_a_refusal_never_repeats_the_user(spelling: str) -> None:
    """Name and age are blotted out of the API's own words, however they are spelt there."""
    said = refused(f"no {spelling} aged 42 (age=42), but 142 others")

    assert re.sub(r"\*(%20|\+)\*", "* *", said) == "no *** *** aged *** (age=***), but 142 others"
    assert "***: ***" in refused([{"loc": ["Zoë"], "msg": "42"}])


def test_a_refusal_is_one_short_line() -> None:
    """Control characters and line breaks become spaces, and the line ends after 200 characters."""
    assert refused("a\r\nb\x1b[31m\u202ec\ud800d") == "a b [31m c d"
    assert len(refused("x" * 5_000)) == 200
    assert refused("x" * 196 + " Zoë O'Brien") == "x" * 196 + " ***"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"detail": 7}', b'{"detail": [[1], {"loc": 1}]}']
)
def test_a_refusal_without_readable_detail_is_silent(body: bytes) -> None:
    """Nothing is said where the API said nothing."""
    assert refusal(body, name="A", age=1).strip("; ") == ""
