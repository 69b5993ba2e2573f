"""Reading what the API answered: what counts as an answer, what it says, what may be repeated.

Whatever is not an answer is a fault:

    Fault             the exchange failed, or its answer cannot be understood
    └── Unreachable   no connection came about: nothing can have been stored
"""

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

LONGEST_REFUSAL = 200


class Fault(Exception):
    """Not an answer; the message goes on after "The API ...", such as "answered 503"."""

    def __init__(self, reason: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Unreachable(Fault):
    """No connection came about: nothing can have been stored."""


def check_status(status: int, headers: Mapping[str, str]) -> None:
    """Let a 2xx or a refusal pass; raises Fault for a status that asks to come again.

    A refusal is a 4xx, or 501 or 507: what is not there, and a store that is full, are not mended
    by asking again.
    """
    if 300 <= status < 400:
        # Where to is not said: that address would carry the user's name.
        raise Fault(f"answered {status}, a redirect, which is not followed")
    if (not 200 <= status < 500 or status in (408, 429)) and status not in (501, 507):
        raise Fault(f"answered {status}", retry_after_seconds(headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Seconds the header Retry-After asks for, as a number or a date (RFC 9110, 10.2.3); else 0."""
    value = headers.get("Retry-After", "").strip()
    try:
        if re.fullmatch("[0-9]+", value):
            return float(value)
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # as in the form of C's asctime(), which is in UTC as well
            date = date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def json_value(body: bytes) -> object:
    """The JSON in the body, None if there is no body; raises Fault for anything else."""
    if not body:
        return None
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        kind = "HTML" if is_html(body) else "something"
        raise Fault(f"answered with {kind} that is not JSON") from None


def is_html(body: bytes) -> bool:
    """Is this a page for people, such as a login's or a proxy's?"""
    return body.lstrip().startswith(b"<")


def is_error(body: bytes) -> bool:
    """Does a 2xx hold an error inside, as those of the course's first version do? Raises Fault."""
    value = json_value(body)
    return isinstance(value, dict) and bool(value.get("error"))


def stored_user(body: bytes) -> tuple[object, object] | None:
    """Name and age of the user that is shown, if one is; raises Fault for what is not JSON.

    As an object, or as a pair, which is how the course's first version keeps them.
    """
    return _name_and_age(json_value(body))


def stored_users(body: bytes) -> dict[int, tuple[object, object] | None] | None:
    """Names and ages by id, of the users in a listing, if it is one; raises Fault if not JSON."""
    listing = json_value(body)
    if not isinstance(listing, dict):
        return None
    ids = [key for key in listing if re.fullmatch("[0-9]{1,16}", key)]
    return {int(key): _name_and_age(listing[key]) for key in ids}


def _name_and_age(shown: object) -> tuple[object, object] | None:
    match shown:
        case {"name": name, "age": age} | [name, age]:
            return name, age
    return None


def batch_existing(body: bytes, user_ids: Collection[int]) -> frozenset[int]:
    """Which users of a batch the API had already; raises Fault unless it accounts for all."""
    match json_value(body):
        case {"created": int(created), "existing": [*ids]}:
            existing = frozenset(one for one in ids if isinstance(one, int))
            if existing <= set(user_ids) and created + len(existing) == len(user_ids):
                return existing
    raise Fault("answered a batch with numbers that do not add up")


def refusal(body: bytes, *, name: str, age: int) -> str:
    """Why the API refused: its `detail` as one short line that holds neither the name nor the age.

    An answer without a readable `detail` gives an empty line.
    """
    try:
        value = json_value(body)
    except Fault:
        return ""
    words = _words_of(value.get("detail")) if isinstance(value, dict) else ""
    line = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    spellings = {
        re.escape(spelling)
        for word in name.split()
        for spelling in (word, quote(word), json.dumps(word)[1:-1])
    }
    private = "|".join([*sorted(spellings, key=len, reverse=True), rf"(?<!\d){age}(?!\d)"])
    return re.sub(private, "***", line, flags=re.IGNORECASE)[:LONGEST_REFUSAL]


def _words_of(detail: object) -> str:
    """A sentence, or the places and messages of FastAPI's 422, whose `input` repeats the user."""
    match detail:
        case str():
            return detail
        case {"loc": [*loc], "msg": str(message)}:
            return f"{'.'.join(part for part in loc if isinstance(part, str))}: {message}"
        case [*items]:
            return "; ".join(_words_of(item) for item in items if isinstance(item, dict))
        case _:
            return ""
