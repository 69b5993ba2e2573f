"""What the dashboard asks of the API, call by call, each within the client's deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from client import TOTAL_TIMEOUT_SECONDS, Answer, Line, Session, run
from faults import AnswerUnusable, ApiFault, ApiRefuses, ApiUnreachable
from schema import (
    AgeCounts,
    Listing,
    Readiness,
    User,
    read_age_listing,
    read_readiness,
    read_statistics,
    read_user,
    read_users,
    read_version,
)
from settings import Settings

MAX_LISTING_BYTES = 256 * 1024 * 1024
MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_OPENAPI_BYTES = 4 * 1024 * 1024
API_PAGE_USERS = 1000  # the most that the API puts on a page
MAX_EXPORT_USERS = 50_000
LAST_PAGE_SECONDS = 1.0  # that an export leaves for its last page
PROBE_SECONDS = 0.9
WRITE_SECONDS = 3.5  # the rest of the client's time is for showing the users after a write
VERSION_SECONDS = 60.0  # for which a version is believed

T = TypeVar("T")


def fetch_age_counts(settings: Settings, line: Line) -> AgeCounts:
    """Ask the API for its age counts, or count the users it lists where it keeps no counts.

    Raises ApiFault when there is no usable answer.
    """

    async def work(session: Session) -> AgeCounts:
        try:
            return (await session.ask(settings.statistics_url)).read(read_statistics)
        except ApiRefuses as refusal:
            if refusal.status not in (404, 405):
                raise
        answer = await session.ask(settings.api_url, limit_bytes=MAX_LISTING_BYTES)
        return answer.read(read_age_listing)

    return line.run(work)


# ---------------------------------------------------------------------------------------- users


def fetch_page(
    settings: Settings,
    after: int | None,
    limit: int,
    total_seconds: float = TOTAL_TIMEOUT_SECONDS,
) -> Listing:
    """Return up to `limit` users with ids above `after`. Raises ApiFault."""
    return run(settings, lambda session: _page(session, settings, after, limit), total_seconds)


async def _page(session: Session, settings: Settings, after: int | None, limit: int) -> Listing:
    params = {"limit": limit} | ({} if after is None else {"after": after})
    answer = await session.ask(settings.api_url, params=params, limit_bytes=MAX_PAGE_BYTES)
    return answer.read(lambda body: read_users(body, answer.headers.get("link", "")))


def fetch_user(
    settings: Settings, user_id: int, total_seconds: float = TOTAL_TIMEOUT_SECONDS
) -> User:
    """Return one user. Raises ApiFault: ApiRefuses with status 404 when there is none."""

    async def work(session: Session) -> User:
        return (await session.ask(settings.user_url(user_id))).read(read_user)

    return run(settings, work, total_seconds)


def fetch_all(settings: Settings, most: int = MAX_EXPORT_USERS) -> Listing:
    """Return the first `most` users, page by page; `next_after` is None when that is all of them.

    When the time for it runs out, what has come so far is returned. Raises ApiFault otherwise.
    """
    give_up_at = time.monotonic() + TOTAL_TIMEOUT_SECONDS - LAST_PAGE_SECONDS

    async def work(session: Session) -> Listing:
        users: list[User] = []
        unreadable_rows, after = 0, None
        while True:
            try:
                page = await _page(session, settings, after, min(API_PAGE_USERS, most - len(users)))
            except ApiUnreachable:
                if users and time.monotonic() > give_up_at:
                    break
                raise
            users += page.users
            unreadable_rows += page.unreadable_rows
            if page.next_after is not None and after is not None and page.next_after <= after:
                reason = "The answer was not understood. Its next page leads back."
                raise AnswerUnusable(settings.api_url, reason, "Look at the API.")
            after = page.next_after
            if after is None or len(users) >= most or time.monotonic() > give_up_at:
                break
        return Listing(users=users, next_after=after, unreadable_rows=unreadable_rows)

    return run(settings, work)


def create_user(settings: Settings, user_id: str, name: str, age: int) -> None:
    """Create a user; the API judges the id, so that its words are heard. Raises ApiFault."""
    params: dict[str, str | int] = {"user_id": user_id, "name": name, "age": age}
    run(settings, lambda session: session.ask(settings.api_url, "POST", params), WRITE_SECONDS)


def update_user(settings: Settings, user_id: int, name: str, age: int) -> None:
    """Replace the name and age of a user. Raises ApiFault."""
    url = settings.user_url(user_id)
    params: dict[str, str | int] = {"name": name, "age": age}
    run(settings, lambda session: session.ask(url, "PUT", params), WRITE_SECONDS)


def delete_user(settings: Settings, user_id: int) -> None:
    """Delete a user. Raises ApiFault."""
    url = settings.user_url(user_id)
    run(settings, lambda session: session.ask(url, "DELETE"), WRITE_SECONDS)


def write_refusal(settings: Settings) -> ApiRefuses | None:
    """Return why the API would refuse a write of ours, None when it seems that it would not.

    Sent is a creation without a user, which can create none: a protected API refuses it with 401 or
    403 before it misses the user.
    """
    try:
        run(settings, lambda session: session.ask(settings.api_url, "POST"), PROBE_SECONDS)
    except ApiRefuses as refusal:
        return refusal if refusal.status in (401, 403) else None
    except ApiFault:
        pass
    return None


# --------------------------------------------------------------------------------------- system


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    """How the API is: what is wrong with it being alive or ready, and what it tells of itself.

    `served_by` is the replica that answered, `latency_seconds` how long that took.
    """

    not_alive: ApiFault | None = None
    not_ready: ApiFault | None = None
    readiness: Readiness | None = None
    version: str | None = None
    served_by: str | None = None
    latency_seconds: float | None = None


class ApiProbe:
    """Asks the API how it is, and now and then for its version. Faults are part of the answer."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._version_at = float("-inf")

    def __call__(self, settings: Settings) -> ApiState:
        health, ready, version = run(settings, lambda session: self._ask(session, settings))
        if isinstance(health, ApiFault):
            self._version_at = float("-inf")  # another version may come back
            return ApiState(not_alive=health)
        if isinstance(version, str):
            self._version, self._version_at = version, time.monotonic()
        return ApiState(
            not_ready=ready if isinstance(ready, ApiFault) else None,
            readiness=None if isinstance(ready, ApiFault) else ready,
            version=self._version,
            served_by=health.headers.get("x-replica", "")[:100] or None,
            latency_seconds=health.seconds,
        )

    async def _ask(
        self, session: Session, settings: Settings
    ) -> tuple[Answer | ApiFault, Readiness | ApiFault, str | ApiFault | None]:
        async def read(path: str, reader: Callable[[bytearray], T]) -> T:
            answer = await session.ask(settings.beside(path), limit_bytes=MAX_OPENAPI_BYTES)
            return answer.read(reader)

        async def no_version() -> None:
            return None

        believed = time.monotonic() - self._version_at < VERSION_SECONDS
        return await asyncio.gather(
            _fault_or(session.ask(settings.beside("health"))),
            _fault_or(read("ready", read_readiness)),
            no_version() if believed else _fault_or(read("openapi.json", read_version)),
        )


async def _fault_or(work: Awaitable[T]) -> T | ApiFault:
    """Return the fault instead of raising it, so that one answer can be bad and the others good."""
    try:
        return await work
    except ApiFault as fault:
        return fault.without_traces()
