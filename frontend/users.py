"""The users: what the dashboard asks the API about them, and their export as files."""

import csv
import io
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple, TypeVar

import msgspec

from ages import AgeCounts
from api_client import (
    TOTAL_TIMEOUT_SECONDS,
    Age,
    ApiClient,
    ApiError,
    Response,
    fetch_age_counts,
)

MAX_LISTING_BYTES = 256 * 1024 * 1024
MAX_PAGE_BYTES = 4 * 1024 * 1024
API_PAGE_USERS = 1000  # the most that the API puts on a page
MAX_EXPORT_USERS = 50_000
MAX_USER_ID = 2**53 - 1
LAST_PAGE_SECONDS = 1.0  # that an export leaves for its last page
CHECK_SECONDS = 0.9

NEXT_PAGE = re.compile(r'<[^>]*[?&]after=([0-9]{1,16})[^>]*>\s*;[^,]*\brel="?next\b')
# A spreadsheet runs a cell that begins with one of these, also after white space or a quote; the
# wide ones are typed on East Asian keyboards (OWASP, "CSV Injection"). Where lists are separated by
# semicolons, a new cell begins after each of them, and after the end of a line, quoted or not.
FORMULA = re.compile(r"(^|[;\r\n])([ \u00a0\"']*)(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")

T = TypeVar("T")


class AgeRow(msgspec.Struct):
    """The part of a listed user that is counted."""

    age: Age


class UserRow(AgeRow):
    """A user without the id, which is the row's key."""

    name: str


class User(NamedTuple):
    """A user of the API."""

    user_id: int
    name: str
    age: int


class Listing(NamedTuple):
    """Some users by ascending id; rows that could not be read are only counted.

    `next_after` is the id after which the next page begins, None at the end.
    """

    users: list[User]
    next_after: int | None = None
    unreadable_rows: int = 0


def rows_of(response: Response, kind: type[T]) -> Iterator[tuple[str, T | None]]:
    """Yield the key of each row of a listing with the row, or with None if it cannot be read."""
    decoder = msgspec.json.Decoder(kind)
    for key, raw in response.decode(dict[str, msgspec.Raw]).items():
        row = None
        with suppress(msgspec.DecodeError):
            row = decoder.decode(raw)
        yield key, row


def fetch_counts(api: ApiClient) -> AgeCounts:
    """Return the API's age counts, or count its listing if it keeps none. Raises ApiError."""
    deadline = time.monotonic() + TOTAL_TIMEOUT_SECONDS
    try:
        return fetch_age_counts(api)
    except ApiError as error:
        if error.status not in (404, 405):
            raise
    listing = api.request(api.users_url, deadline, max_bytes=MAX_LISTING_BYTES)
    ages = Counter(row.age if row else None for _, row in rows_of(listing, AgeRow))
    unreadable_rows = ages.pop(None, 0)
    users_by_age = {age: users for age, users in ages.items() if age is not None}
    return AgeCounts(users_by_age, from_listing=True, unreadable_rows=unreadable_rows)


def fetch_page(api: ApiClient, after: int | None, limit: int, deadline: float) -> Listing:
    """Return up to `limit` users with ids above `after`. Raises ApiError."""
    params = {"limit": limit} | ({} if after is None else {"after": after})
    response = api.request(api.users_url, deadline, params=params, max_bytes=MAX_PAGE_BYTES)
    rows = list(rows_of(response, UserRow))
    users = [
        User(int(key), row.name, row.age)
        for key, row in rows
        if row and re.fullmatch("0|[1-9][0-9]{0,15}", key)
    ]
    link = NEXT_PAGE.search(response.headers.get("link", ""))
    return Listing(
        users=sorted(users),
        next_after=int(link[1]) if link else None,
        unreadable_rows=len(rows) - len(users),
    )


def fetch_user(api: ApiClient, user_id: int, deadline: float) -> Listing:
    """Return the user with this id, if there is one. Raises ApiError."""
    if user_id > MAX_USER_ID:
        return Listing([])
    page = fetch_page(api, user_id - 1 if user_id else None, 1, deadline)
    return Listing([user for user in page.users if user.user_id == user_id])


def user_url(api: ApiClient, user_id: int) -> str:
    """Return the address of one user."""
    return f"{api.users_url.rstrip('/')}/{user_id}"


def fetch_all(api: ApiClient, max_users: int = MAX_EXPORT_USERS) -> Listing:
    """Return the first `max_users` users, page by page; `next_after` is None if these are all.

    When the time is over, the pages so far are returned. Raises ApiError otherwise.
    """
    deadline = time.monotonic() + TOTAL_TIMEOUT_SECONDS
    stop_at = deadline - LAST_PAGE_SECONDS
    users: list[User] = []
    unreadable_rows, after = 0, None
    while True:
        try:
            page = fetch_page(api, after, min(API_PAGE_USERS, max_users - len(users)), deadline)
        except ApiError as error:
            if users and error.kind == "API down" and time.monotonic() > stop_at:
                break
            raise
        users += page.users
        unreadable_rows += page.unreadable_rows
        if page.next_after is not None and after is not None and page.next_after <= after:
            raise ApiError("Not understood", api.users_url, "Its next page is an earlier page.")
        after = page.next_after
        if after is None or len(users) >= max_users or time.monotonic() > stop_at:
            break
    return Listing(users=users, next_after=after, unreadable_rows=unreadable_rows)


def write_error(api: ApiClient) -> ApiError | None:
    """Return why the API would refuse a write, or None if it seems that it would not.

    The request creates no user, since it has none: a protected API refuses it with 401 or 403
    before it notices.
    """
    try:
        api.request(api.users_url, time.monotonic() + CHECK_SECONDS, "POST")
    except ApiError as error:
        return error.with_traceback(None) if error.status in (401, 403) else None
    return None


def as_csv(users: Iterable[User]) -> bytes:
    """Return the users as CSV (RFC 4180) that a spreadsheet shows as text and never runs."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(User._fields)
    writer.writerows((user.user_id, defuse(user.name), user.age) for user in users)
    return file.getvalue().encode("utf-8-sig")  # the mark by which Excel knows that it is UTF-8


def defuse(cell: str) -> str:
    """Return a cell that a spreadsheet does not run: an apostrophe makes it text."""
    return FORMULA.sub(r"\1'\2", cell)


def as_json(users: Iterable[User]) -> bytes:
    """Return the users in the shape of the API's listing."""
    listing = {str(user.user_id): {"name": user.name, "age": user.age} for user in users}
    return json.dumps(listing, ensure_ascii=False, indent=1).encode()
