"""The requests about users: their ages, a page of them, and all of them as a file."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Annotated, NamedTuple, TypeVar

import msgspec
import streamlit as st

from ages import MAX_AGE_YEARS, AgeCounts
from api_client import ApiClient, ApiError, Response

MAX_LISTING_BYTES = 256 * 1024 * 1024
MAX_PAGE_BYTES = 4 * 1024 * 1024
PAGE_USERS = 100
MAX_EXPORT_BYTES = 16 * 1024 * 1024
MAX_USER_ID = 2**53 - 1
CHECK_SECONDS = 0.9

NEXT_PAGE = re.compile(r'<[^>]*[?&]after=([0-9]{1,16})[^>]*>\s*;[^,]*\brel="?next\b')
# A spreadsheet runs a cell that begins with one of these, also after white space or a quote; the
# wide ones are typed on East Asian keyboards (OWASP, "CSV Injection"). Where lists are separated by
# semicolons, a new cell begins after each of them, and after the end of a line, quoted or not.
FORMULA = re.compile(r"(^|[;\r\n])([ \u00a0\"']*)(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")

T = TypeVar("T")
Age = Annotated[int, msgspec.Meta(ge=0, le=MAX_AGE_YEARS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_USER_ID + 1)]


class Statistics(msgspec.Struct):
    """The body of `GET /stats/ages`."""

    total: Count
    ages: dict[Age, Count]


class AgeRow(msgspec.Struct):
    """A user in a listing; to count ages, only the age is read."""

    age: Age


class UserRow(AgeRow):
    """A user in a listing. The id is missing: it is the key of the row."""

    name: str


class User(NamedTuple):
    """A user of the API."""

    user_id: int
    name: str
    age: int


class Listing(NamedTuple):
    """Some users by ascending id, and the number of rows that could not be read.

    The next page begins after the id `next_after`, which is None on the last page.
    """

    users: list[User]
    next_after: int | None = None
    unreadable_rows: int = 0


def rows_of(response: Response, kind: type[T]) -> Iterator[tuple[str, T | None]]:
    """Yield each row of a listing as its key and its user, or None if this cannot be read."""
    decoder = msgspec.json.Decoder(kind)
    for key, raw in response.decode(dict[str, msgspec.Raw]).items():
        row = None
        with suppress(msgspec.DecodeError):
            row = decoder.decode(raw)
        yield key, row


def fetch_counts(api: ApiClient) -> AgeCounts:
    """Return the API's age counts. If it has none, count its users. Raises ApiError."""
    url = api.beside("stats/ages")
    try:
        statistics = api.request(url).decode(Statistics)
    except ApiError as error:
        if error.status not in (404, 405):
            raise
        return count_users(api)
    counts = AgeCounts({age: users for age, users in statistics.ages.items() if users})
    if counts.total != statistics.total:
        raise ApiError("Not understood", url, "The total is not the sum of the ages.")
    return counts


def count_users(api: ApiClient) -> AgeCounts:
    """Return the age counts of all users that the API lists. Raises ApiError."""
    listing = api.request(api.users_url, max_bytes=MAX_LISTING_BYTES)
    ages = Counter(row.age if row else None for _, row in rows_of(listing, AgeRow))
    unreadable_rows = ages.pop(None, 0)
    users_by_age = {age: users for age, users in ages.items() if age is not None}
    return AgeCounts(users_by_age, from_listing=True, unreadable_rows=unreadable_rows)


def fetch_listing(api: ApiClient, params: dict[str, str | int], max_bytes: int) -> Listing:
    """Return the users of one response, by id. Raises ApiError."""
    response = api.request(api.users_url, params=params, max_bytes=max_bytes)
    rows = list(rows_of(response, UserRow))
    users = [
        User(int(key), row.name, row.age)
        for key, row in rows
        if row and re.fullmatch("0|[1-9][0-9]{0,15}", key)
    ]
    link = NEXT_PAGE.search(response.headers.get("link", ""))
    return Listing(sorted(users), int(link[1]) if link else None, len(rows) - len(users))


def find_users(api: ApiClient, wanted: str, after: int | None) -> Listing:
    """Return the user with the id `wanted`; if it is "", the page after an id. Raises ApiError."""
    params: dict[str, str | int] = {"limit": PAGE_USERS}
    if wanted:
        if not re.fullmatch("[0-9]{1,16}", wanted) or int(wanted) > MAX_USER_ID:
            return Listing([])  # perhaps a name: it must not be part of an address
        params, after = {"limit": 1}, int(wanted) - 1
    if after is not None and after >= 0:
        params["after"] = after
    page = fetch_listing(api, params, MAX_PAGE_BYTES)
    if wanted:
        return Listing([user for user in page.users if user.user_id == int(wanted)])
    return page


def fetch_all(api: ApiClient) -> Listing:
    """Return all users, up to MAX_EXPORT_BYTES. Raises ApiError."""
    return fetch_listing(api, {}, MAX_EXPORT_BYTES)


def user_url(api: ApiClient, user_id: int) -> str:
    """Return the address of one user."""
    return f"{api.users_url.rstrip('/')}/{user_id}"


@st.cache_resource(ttl=60, show_spinner=False, hash_funcs={ApiClient: id})
def write_error(api: ApiClient) -> ApiError | None:
    """Return why the API rejects all writes, or None; all viewers share the result for a minute.

    The request has no parameters, so it creates no user. An API that is protected responds with
    401 or 403 before it checks the parameters.
    """
    try:
        api.request(api.users_url, "POST", timeout_seconds=CHECK_SECONDS)
    except ApiError as error:
        return error.with_traceback(None) if error.status in (401, 403) else None
    return None


def as_csv(users: Iterable[User]) -> bytes:
    """Return the users as CSV (RFC 4180) that a spreadsheet shows as text and never runs."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(User._fields)
    writer.writerows((user.user_id, defuse(user.name), user.age) for user in users)
    return file.getvalue().encode("utf-8-sig")  # its first bytes show Excel that this is UTF-8


def defuse(cell: str) -> str:
    """Return a cell that a spreadsheet does not run: an apostrophe makes it text."""
    return FORMULA.sub(r"\1'\2", cell)
