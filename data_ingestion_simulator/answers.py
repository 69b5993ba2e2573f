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

    A refusal is a 4xx, or 507: a store that is full is not emptied by asking it again.
    """
    if 300 <= status < 400:
        # Where to is not said: that address would carry the user's name.
        raise Fault(f"answered {status}, a redirect, which is not followed")
    if (not 200 <= status < 500 or status in (408, 429)) and status != 507:
        raise Fault(f"answered {status}", retry_after_seconds(headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Seconds the header Retry-After asks for, as a number or a date (RFC 9110, 10.2.3); else 0."""
    value = headers.get("Retry-After", "")
    try:
        if value.isdecimal():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def json_object(body: bytes) -> dict[str, object]:
    """The JSON object in the body; raises Fault for anything else."""
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        kind = "HTML" if body.lstrip().startswith(b"<") else "something"
        raise Fault(f"answered with {kind} that is not JSON") from None
    if not isinstance(value, dict):
        raise Fault("answered with JSON that is not an object")
    return value


def batch_existing(body: bytes, user_ids: Collection[int]) -> frozenset[int]:
    """Which users of a batch the API had already; raises Fault unless it accounts for all."""
    match json_object(body):
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
        words = _words_of(json_object(body).get("detail"))
    except Fault:
        return ""
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
