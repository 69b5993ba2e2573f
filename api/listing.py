"""All users, or a page of them: the one answer that has no bounds, in pieces that have."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

import schema
from crud import Record, encode
from lines import log

SEND_TIMEOUT_SECONDS = 30.0  # for a piece, about 100 kB
LISTING_TIMEOUT_SECONDS = 600.0  # for all of them: a snapshot holds up a database's cleaning

Users = dict[int, Record]

LISTING: dict[str, Any] = {
    "description": "Users by id. A page that is not the last has a Link header to the next one.",
    "headers": {"Link": {"schema": {"type": "string"}, "description": 'rel="next" (RFC 8288)'}},
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "propertyNames": {"pattern": schema.USER_ID_PATTERN},
                "additionalProperties": schema.ListedUser.model_json_schema(),
            },
            "example": {"123": {"name": "Alice", "age": 30}},
        }
    },
}


async def _in_pieces(first: Users, rest: AsyncIterator[Users]) -> AsyncIterator[bytes]:
    """Yield a snapshot as the pieces of one JSON object."""
    yield encode(first)[:-1]
    async for users in rest:
        await asyncio.sleep(0)  # other requests get their turn between two pieces
        yield b"," + encode(users)[1:-1]
    yield b"}"


class Listing(StreamingResponse):
    """A listing as long as somebody reads it: while it waits, it holds a snapshot."""

    media_type = "application/json"

    def __init__(self, first: Users, rest: AsyncGenerator[Users, None]) -> None:
        """Answer with the first chunk of a snapshot, and then with the rest of it."""
        super().__init__(_in_pieces(first, rest))
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; in the end, however it came, give the snapshot back.

        Left to the garbage collector, those of clients that went away would keep their places, and
        a database's their transactions, for as long as it likes.
        """
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._rest.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send the pieces; a client that takes them too slowly gets no more of them."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await send(message)

        try:
            async with asyncio.timeout(LISTING_TIMEOUT_SECONDS):
                await super().stream_response(send_in_time)
        except TimeoutError:
            log.info("a listing was given up: it was read too slowly")


def page_answer(users: Users, limit: int) -> Response:
    """Answer with the first `limit` of `users`; one more than that shows that a page follows."""
    headers = {}
    if len(users) > limit:
        users.popitem()
        headers["Link"] = f'</users/?limit={limit}&after={next(reversed(users))}>; rel="next"'
    return Response(encode(users), headers=headers, media_type="application/json")
