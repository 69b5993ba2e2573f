"""Many users in one body: the batch in a request, and the listing in a response."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Annotated, Final

import msgspec
from fastapi.exceptions import RequestValidationError
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from crud import MAX_BATCH_USERS, MAX_NAME_LENGTH, MAX_USER_ID, Record, Users
from fast_route import encode
from models import NAME_PATTERN, NAME_RULE
from telemetry import log

MAX_BATCH_BYTES = 8 * 1024 * 1024
SEND_TIMEOUT_SECONDS = 30.0  # for one chunk, about 100 kB
LISTING_TIMEOUT_SECONDS = 600.0  # for all chunks: an open snapshot delays a database's VACUUM
MAX_LOCATED_QUOTES: Final = 40 * MAX_BATCH_USERS  # with more, no search for the wrong user

_decode = msgspec.json.Decoder(dict[Annotated[int, Meta(ge=0, le=MAX_USER_ID)], Record]).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_name = re.compile(NAME_PATTERN)
_negative_zero = re.compile(rb'"-0"\s*:')  # the decoder accepts this key as 0


async def read_batch(request: Request) -> Users:
    """Return the users in the body of a batch, by id.

    The decoder stops at the first mistake, so a thousand mistakes cost no more than one. Raises
    RequestValidationError for that mistake, and HTTPException for a media type that is not JSON
    (415), an incomplete body (400), and too many users or bytes (413).
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "A batch is JSON: send the header Content-Type: application/json")
    try:
        body = await _read_body(request)
        users = _decode(body)
    except ClientDisconnect:
        raise HTTPException(400, "The body did not arrive whole") from None
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


def _is_name(value: str) -> bool:
    """Return whether a text may be a user's name."""
    if value.isprintable() and 0 < len(value.strip()) <= MAX_NAME_LENGTH:
        return True  # nearly every name; the pattern takes three times as long
    return bool(_name.fullmatch(value))


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BATCH_BYTES:
            raise HTTPException(413, f"A batch has at most {MAX_BATCH_BYTES} bytes")
    return bytes(body)


def _wrong_user(body: bytes) -> list[str]:
    """Return a list with the first wrong user's key; [] if there is none or the search is slow."""
    # These errors mean that the body is not a JSON object: then no single user is wrong.
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        users = _decode_raw(body) if body.count(b'"') <= MAX_LOCATED_QUOTES else {}
        for key, user in users.items():
            try:
                _decode(b"{%b:%b}" % (encode(key), user))
            except msgspec.ValidationError:
                return [key]
    return []


def _invalid(message: str, *where: str) -> RequestValidationError:
    return RequestValidationError([{"type": "batch", "loc": ("body", *where), "msg": message}])


async def _json_chunks(first: Users, rest: AsyncIterator[Users]) -> AsyncIterator[bytes]:
    """Yield the chunks of a snapshot as one JSON object."""
    yield encode(first)[:-1]
    async for users in rest:
        await asyncio.sleep(0)  # other requests run between two chunks
        yield b"," + encode(users)[1:-1]
    yield b"}"


class Listing(StreamingResponse):
    """A streamed response with all users. It closes the snapshot when it ends, fails or is cut."""

    media_type = "application/json"

    def __init__(self, first: Users, rest: AsyncGenerator[Users, None]) -> None:
        """Respond with the first chunk of a snapshot, and then with the rest of it."""
        super().__init__(_json_chunks(first, rest))
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then close the snapshot, also if the client has disconnected.

        Otherwise only the garbage collector would close it, much later. Until then the snapshot
        would count towards MAX_SNAPSHOTS, and keep a transaction of the database open.
        """
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._rest.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send the chunks; stop if the client reads them too slowly."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await send(message)

        try:
            async with asyncio.timeout(LISTING_TIMEOUT_SECONDS):
                await super().stream_response(send_in_time)
        except TimeoutError:
            log.info("a listing was stopped: the client read it too slowly")


def page_response(users: Users, limit: int) -> Response:
    """Respond with the first `limit` users; if there is one more, add a link to the next page."""
    headers = {}
    if len(users) > limit:
        users.popitem()
        headers["Link"] = f'</users/?limit={limit}&after={next(reversed(users))}>; rel="next"'
    return Response(encode(users), headers=headers, media_type="application/json")
