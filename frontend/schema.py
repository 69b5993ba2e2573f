"""Reading the API's answers: from bytes that nobody vouches for to counts that can be drawn."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

MAX_AGE_YEARS = 150
_AGE_AS_TEXT = re.compile(r"0|[1-9][0-9]{0,2}")
_MAX_DIGITS = 16  # more than any number of users needs, and few enough that int() stays quick


class NotUnderstood(ValueError):
    """The answer does not have the shape that the contract gives it; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeCounts:
    """How many users there are of each age in years; ages that nobody has are left out.

    `from_listing` tells that the API keeps no counts and its users were counted one by one;
    `unreadable_rows` is how many of them were left out because their age could not be read.
    """

    users_by_age: dict[int, int]
    from_listing: bool = False
    unreadable_rows: int = 0


def read_statistics(body: bytes | bytearray) -> AgeCounts:
    """Read `{"total": n, "ages": {"18": 3, ...}}`. Raises NotUnderstood."""
    answer = _parse(body)
    if not (
        isinstance(answer, dict)
        and type(answer.get("total")) is int
        and isinstance(answer.get("ages"), dict)
    ):
        raise NotUnderstood('It has no whole number "total" with a map "ages".')
    users_by_age: dict[int, int] = {}
    for age, count in answer["ages"].items():
        if not _AGE_AS_TEXT.fullmatch(age) or int(age) > MAX_AGE_YEARS:
            raise NotUnderstood(
                f"It has an age that is not a whole number from 0 to {MAX_AGE_YEARS}."
            )
        if type(count) is not int or count < 0:
            raise NotUnderstood(f"Its number of users aged {age} is not a whole number.")
        if count:
            users_by_age[int(age)] = count
    if sum(users_by_age.values()) != answer["total"]:
        raise NotUnderstood("Its total is not the sum of its ages.")
    return AgeCounts(users_by_age=users_by_age)


def read_listing(body: bytes | bytearray) -> AgeCounts:
    """Count the ages in `{"123": {"name": ..., "age": 30}, ...}`. Raises NotUnderstood.

    A row whose age cannot be read is left out and counted: one of them must not hide the others.
    """
    answer = _parse(body)
    if not isinstance(answer, dict):
        raise NotUnderstood("It is not a map from user id to user.")
    counter: Counter[int] = Counter()
    unreadable_rows = 0
    for row in answer.values():
        age = row.get("age") if isinstance(row, dict) else None
        if type(age) is int and 0 <= age <= MAX_AGE_YEARS:
            counter[age] += 1
        else:
            unreadable_rows += 1
    return AgeCounts(users_by_age=dict(counter), from_listing=True, unreadable_rows=unreadable_rows)


def _parse(body: bytes | bytearray) -> Any:
    # Broken characters cost the name they are in, which nobody shows, and not the whole answer.
    text = body.decode("utf-8-sig", errors="replace")
    try:
        return json.loads(text, parse_int=_bounded_int)
    except (ValueError, RecursionError):
        raise NotUnderstood("It is not JSON.") from None


def _bounded_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None
