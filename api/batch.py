"""The call that creates many users: how its body is read and checked."""

import asyncio
import re
from contextlib import suppress
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from calls import Store
from crud import MAX_AGE, MAX_BATCH_USERS, MAX_NAME_LENGTH, MAX_USER_ID, BatchResult, Record, Users
from errors import RETRY_AFTER
from fast_route import FastRoute, encode
from models import NAME_PATTERN, NAME_RULE

MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_HELD_BYTES = 4 * MAX_BATCH_BYTES  # of all bodies that are being read
BODY_TIMEOUT_SECONDS = 30.0
MAX_LOCATED_QUOTES: Final = 40 * MAX_BATCH_USERS  # with more, no search for the wrong user

routes = APIRouter(route_class=FastRoute)

_Id = Annotated[int, Meta(ge=0, le=MAX_USER_ID)]


class _SentRecord(Record):
    """A user as JSON may write it: the age may be a number such as 42.0."""

    age: Annotated[float, Meta(ge=0, le=MAX_AGE)]  # type: ignore[assignment]


_decode = msgspec.json.Decoder(dict[_Id, Record]).decode
_decode_floats = msgspec.json.Decoder(dict[_Id, _SentRecord]).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_name = re.compile(NAME_PATTERN)
_negative_zero = re.compile(rb'"-0"\s*:')  # the decoder accepts this key as 0


async def read_batch(request: Request) -> Users:
    """Return the users in the body of a batch, by id.

    The decoder stops at the first mistake, so a thousand mistakes cost no more than one. Raises
    RequestValidationError for that mistake, and HTTPException for a body that is not plain JSON
    (415), an incomplete one (400, 408), too many users or bytes (413), and for too many bodies at
    the same time (503).
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "A batch is JSON: send the header Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "Send the batch without Content-Encoding")
    try:
        body = await _read_body(request)
        users = _decode_users(body)
    except UnicodeDecodeError:
        raise _invalid("The body is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(str(error), *_wrong_user(body)) from None
    if len(users) > MAX_BATCH_USERS:
        raise HTTPException(413, f"A batch has at most {MAX_BATCH_USERS} users")
    for user_id, user in users.items():
        if not _is_name(user.name):
            raise _invalid(NAME_RULE, str(user_id), "name")
    if 0 in users and _negative_zero.search(body):
        raise _invalid("An id is a whole number in plain decimal digits", "-0")
    return users


def _decode_users(body: bytes) -> Users:
    """Decode a body; an age such as 42.0 is the integer 42 (JSON Schema 2020-12, 6.1.1)."""
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
        sent = _decode_floats(body)
        if not all(float(user.age).is_integer() for user in sent.values()):
            raise
    return {user_id: Record(user.name, int(user.age)) for user_id, user in sent.items()}


def _is_name(value: str) -> bool:
    """Return whether a text may be a user's name."""
    if value.isprintable() and 0 < len(value.strip()) <= MAX_NAME_LENGTH:
        return True  # nearly every name; the pattern takes three times as long
    return bool(_name.fullmatch(value))


class _Held:
    """The bytes of all bodies that are being read."""

    bytes = 0


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                _Held.bytes += len(chunk)
                if len(body) > MAX_BATCH_BYTES:
                    raise HTTPException(413, f"A batch has at most {MAX_BATCH_BYTES} bytes")
                if _Held.bytes > MAX_HELD_BYTES:
                    raise HTTPException(503, "Too many batches are arriving", RETRY_AFTER[503])
    except ClientDisconnect:
        raise HTTPException(400, "The body did not arrive whole") from None
    except TimeoutError:
        limit = f"{BODY_TIMEOUT_SECONDS:g} s"
        raise HTTPException(408, f"The body did not arrive within {limit}") from None
    finally:
        _Held.bytes -= len(body)
    return bytes(body)


def _wrong_user(body: bytes) -> list[str]:
    """Return a list with the first wrong user's key; [] if there is none or the search is slow."""
    # These errors mean that the body is not a JSON object: then no single user is wrong.
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        users = _decode_raw(body) if body.count(b'"') <= MAX_LOCATED_QUOTES else {}
        for key, user in users.items():
            try:
                _decode_users(b"{%b:%b}" % (encode(key), user))
            except msgspec.ValidationError:
                return [key]
    return []


def _invalid(message: str, *where: str) -> RequestValidationError:
    return RequestValidationError([{"type": "batch", "loc": ("body", *where), "msg": message}])


@routes.post("/users/batch")
async def create_users(request: Request, store: Store) -> BatchResult:
    """Create users in the shape of the list, all at once; a user with a taken id is not changed."""
    result: BatchResult = await store.create_many(await read_batch(request))
    return result
