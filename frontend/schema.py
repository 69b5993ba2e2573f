"""Reading the API's answers: from bytes that nobody vouches for to values that can be shown."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ages import Summary, summarise

MAX_AGE_YEARS = 150
MAX_DETAIL_CHARACTERS = 500
_AGE_AS_TEXT = re.compile(r"0|[1-9][0-9]{0,2}")
_ID_AS_TEXT = re.compile(r"0|[1-9][0-9]{0,15}")
_NEXT_PAGE = re.compile(r'<[^>]*[?&]after=([0-9]{1,16})[^>]*>\s*;[^,]*\brel="?next\b')
_MAX_DIGITS = 16  # more than any number of users needs, and few enough that int() stays quick


class NotUnderstood(ValueError):
    """The answer does not have the shape that the contract gives it; the message says where."""


@dataclass(frozen=True, kw_only=True)
class AgeCounts:
    """How many users there are of each age in years; ages that nobody has are left out.

    `from_listing` tells that the API keeps no counts and its users were counted one by one;
    `unreadable_rows` is how many of them were left out because their age could not be read.
    """

    users_by_age: dict[int, int]
    from_listing: bool = False
    unreadable_rows: int = 0

    @cached_property
    def total(self) -> int:
        """How many users there are."""
        return sum(self.users_by_age.values())

    @cached_property
    def summary(self) -> Summary | None:
        """What the counts come to, worked out once for all who look."""
        return summarise(self.users_by_age)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as the API keeps it."""

    user_id: int
    name: str
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Some users by ascending id.

    `next_after` is the id after which the next ones begin, None when there are no more.
    `unreadable_rows` is how many were left out because they could not be read.
    """

    users: list[User]
    next_after: int | None = None
    unreadable_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What the API says of its store; None is what it does not say."""

    store: str | None
    durable: bool | None


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


def read_age_listing(body: bytes | bytearray) -> AgeCounts:
    """Count the ages in `{"123": {"name": ..., "age": 30}, ...}`. Raises NotUnderstood.

    A row whose age cannot be read is left out and counted: one of them must not hide the others.
    """
    counter = Counter(_age(row) for row in _map(body).values())
    unreadable_rows = counter.pop(None, 0)
    users_by_age = {age: count for age, count in counter.items() if age is not None}
    return AgeCounts(users_by_age=users_by_age, from_listing=True, unreadable_rows=unreadable_rows)


def read_users(body: bytes | bytearray, link: str = "") -> Listing:
    """Read `{"123": {"name": "Alice", "age": 30}, ...}` and the Link header that came with it.

    A row that cannot be read is left out and counted. Raises NotUnderstood.
    """
    rows = _map(body)
    users = sorted(_readable(rows), key=lambda user: user.user_id)
    found = _NEXT_PAGE.search(link)
    return Listing(
        users=users,
        next_after=int(found[1]) if found else None,
        unreadable_rows=len(rows) - len(users),
    )


def read_user(body: bytes | bytearray) -> User:
    """Read `{"user_id": 123, "name": "Alice", "age": 30}`. Raises NotUnderstood."""
    answer = _map(body)
    for user in _readable({str(answer.get("user_id")): answer}):
        return user
    raise NotUnderstood("It is not a user with an id, a name and an age.")


def read_readiness(body: bytes | bytearray) -> Readiness:
    """Read `{"status": "ready", "store": "memory", "durable": false}`. Raises NotUnderstood."""
    answer = _map(body)
    store, durable = answer.get("store"), answer.get("durable")
    return Readiness(
        store=_text(store)[:50] if isinstance(store, str) else None,
        durable=durable if isinstance(durable, bool) else None,
    )


def read_version(body: bytes | bytearray) -> str | None:
    """Read the version out of an OpenAPI document; None when it has none. Raises NotUnderstood."""
    info = _map(body).get("info")
    version = info.get("version") if isinstance(info, dict) else None
    return _text(version)[:50] if isinstance(version, str) else None


def read_detail(body: bytes | bytearray) -> str:
    """Return what an error says in the API's own words: `detail`, or an empty string."""
    try:
        detail = _map(body).get("detail")
    except NotUnderstood:
        return ""
    parts = detail if isinstance(detail, list) else [detail]
    return "; ".join(filter(None, map(_detail_part, parts)))[:MAX_DETAIL_CHARACTERS]


def _detail_part(part: Any) -> str:
    if not isinstance(part, dict):
        return _text(part) if isinstance(part, str) else ""
    where = part.get("loc")  # FastAPI's: where in the request, and what is wrong there
    name = f"{where[-1]}: " if isinstance(where, list) and where else ""
    return _text(f"{name}{part.get('msg', '')}")


def _readable(rows: dict[str, Any]) -> Iterator[User]:
    for user_id, row in rows.items():
        age = _age(row)
        if _ID_AS_TEXT.fullmatch(user_id) and age is not None and isinstance(row.get("name"), str):
            yield User(user_id=int(user_id), name=_text(row["name"]), age=age)


def _age(row: Any) -> int | None:
    age = row.get("age") if isinstance(row, dict) else None
    return age if type(age) is int and 0 <= age <= MAX_AGE_YEARS else None


def _text(value: str) -> str:
    """Return text that can be encoded: JSON can spell half a character, UTF-8 cannot."""
    return value.encode(errors="replace").decode()


def _map(body: bytes | bytearray) -> dict[str, Any]:
    answer = _parse(body)
    if not isinstance(answer, dict):
        raise NotUnderstood("It is not a map.")
    return answer


def _parse(body: bytes | bytearray) -> Any:
    # Broken characters cost the name they are in, and not the whole answer.
    text = body.decode("utf-8-sig", errors="replace")
    try:
        return json.loads(text, parse_int=_bounded_int)
    except (ValueError, RecursionError):
        raise NotUnderstood("It is not JSON.") from None


def _bounded_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None
