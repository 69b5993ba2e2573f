"""The call that lists users: all in a stream, a page, or those with a text in their name."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

import models
from calls import Store
from crud import MAX_PAGE_USERS, Users
from fast_route import FastRoute, encode
from telemetry import log

SEND_TIMEOUT_SECONDS = 30.0  # for one chunk, about 100 kB
LISTING_TIMEOUT_SECONDS = 600.0  # for all chunks: an open snapshot delays a database's VACUUM
MAX_SEARCHED_USERS: Final = 10_000  # in one response: this takes 5 to 20 ms

routes = APIRouter(route_class=FastRoute)


@routes.get("/users", include_in_schema=False)
@routes.get("/users/")
async def list_users(
    store: Store,
    limit: models.PageLimit = None,
    after: models.After = None,
    name: models.NamePart = None,
) -> Response:
    """List all users as one consistent snapshot, or a page of them by ascending id.

    With `name`, the page has users whose name contains this text. One response looks at no more
    than 10,000 users, so it may have few users or none: follow its Link to see more.
    """
    if limit is None and after is None and name is None:
        snapshot = store.snapshot()
        # Read a chunk before the response begins: until then an error can become a 503.
        first: Users = await anext(snapshot, {})
        return Listing(first, snapshot)
    limit = MAX_PAGE_USERS if limit is None else limit
    after = -1 if after is None else after
    if name is not None:
        return search_response(await store.page(after, MAX_SEARCHED_USERS), name, limit)
    return page_response(await store.page(after, limit + 1), limit)


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
        self._chunks, self._rest = _json_chunks(first, rest), rest
        super().__init__(self._chunks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then close the snapshot, also if the client has disconnected.

        Otherwise only the garbage collector would close it, much later. Until then the snapshot
        would count towards MAX_SNAPSHOTS, and keep a transaction of the database open.
        """
        try:
            if scope["http_version"] == "1.0":  # it has no chunks, so the length is needed
                body = b"".join([chunk async for chunk in self._chunks])
                await Response(body, media_type=self.media_type)(scope, receive, send)
            else:
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
    more = len(users) > limit
    if more:
        users.popitem()
    return _page(users, f"limit={limit}&after={next(reversed(users))}" if more else "")


def search_response(users: Users, name: str, limit: int) -> Response:
    """Respond with the first `limit` of `users` whose name contains `name`; link to the rest.

    If there are MAX_SEARCHED_USERS users, there may be more users after them.
    """
    part, found, last_id = name.casefold(), Users(), -1
    for user_id, user in users.items():
        if len(found) == limit:
            break
        last_id = user_id
        if part in user.name.casefold():
            found[user_id] = user
    more = last_id >= 0 and (len(users) == MAX_SEARCHED_USERS or last_id != next(reversed(users)))
    return _page(found, f"name={quote(name)}&limit={limit}&after={last_id}" if more else "")


def _page(users: Users, next_query: str) -> Response:
    """Return the response of a page, with a link to the next one if there is a query for it."""
    headers = {"Link": f'</users/?{next_query}>; rel="next"'} if next_query else {}
    return Response(encode(users), headers=headers, media_type="application/json")
