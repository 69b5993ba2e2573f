"""The requests about users: a page of them, a search, and changes."""

import re
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec

from ages import MAX_AGE_YEARS
from api_client import ApiClient, ApiError

PAGE_USERS = 100
MAX_LISTING_BYTES = 16 * 1024 * 1024
MAX_USER_ID = 2**53 - 1
MAX_LIMIT = 1_000  # users of one response
MAX_REQUESTS = 20  # for one page

NEXT_PAGE = re.compile(r'<[^>]*[?&]after=([0-9]{1,16})[^>]*>\s*;[^,]*\brel="?next\b')

Age = Annotated[int, msgspec.Meta(ge=0, le=MAX_AGE_YEARS)]
UserId = Annotated[int, msgspec.Meta(ge=0, le=MAX_USER_ID)]


class UserRow(msgspec.Struct):
    """A user in a listing. The id is missing: it is the key."""

    age: Age
    name: str


class User(msgspec.Struct, frozen=True, order=True):
    """A user of the API."""

    user_id: int
    name: str
    age: int


class Listing(NamedTuple):
    """Users by ascending id. The next page begins after the id `next_after`, if there is one."""

    users: list[User]
    next_after: int | None = None


def fetch_listing(api: ApiClient, **params: str | int | None) -> Listing:
    """Return the users of one response, by id; without a limit, all. Raises ApiError."""
    given = {name: value for name, value in params.items() if value is not None}
    response = api.request(api.users_url, params=given, max_bytes=MAX_LISTING_BYTES)
    rows = response.decode(dict[UserId, UserRow])
    users = sorted(User(user_id, row.name, row.age) for user_id, row in rows.items())
    link = NEXT_PAGE.search(response.headers.get("link", ""))
    return Listing(users, int(link[1]) if link else None)


def find_users(api: ApiClient, wanted: str, after: int | None) -> Listing:
    """Return a page of users with this id, or with this in their name. Raises ApiError."""
    if wanted.isdecimal() and wanted.isascii():
        if len(wanted) > 16 or int(wanted) > MAX_USER_ID:
            return Listing([])
        page = fetch_listing(api, limit=1, after=int(wanted) - 1 if int(wanted) else None)
        return Listing([user for user in page.users if user.user_id == int(wanted)])
    found = Listing([], after)
    for _ in range(MAX_REQUESTS):  # a page of a search may have few users, or none
        limit, name = PAGE_USERS - len(found.users), wanted or None
        page = fetch_listing(api, name=name, limit=limit, after=found.next_after)
        found = Listing(found.users + page.users, page.next_after)
        if not wanted or page.next_after is None or len(found.users) >= PAGE_USERS:
            break
    return found


def page_starts(api: ApiClient, starts: list[int | None], number: int) -> list[int | None]:
    """Return the ids after which pages begin, up to `number` pages. Raises ApiError.

    It continues from those known, to the last page or for MAX_REQUESTS requests.
    """
    for _ in range(MAX_REQUESTS):
        if len(starts) >= number:
            break
        page = fetch_listing(api, limit=MAX_LIMIT, after=starts[-1])
        last = None if page.next_after else -1  # the last user begins no page
        ids = [user.user_id for user in page.users]
        starts = [*starts, *ids[PAGE_USERS - 1 : last : PAGE_USERS]]
        if last:
            break
    return starts[:number]


def change(api: ApiClient, method: str, params: dict[str, str | int], user: User | None) -> None:
    """Create a user, or change or delete one who is still as the viewer saw it. Raises ApiError.

    If somebody else has changed the user, its status is 412, and its body has the stored user.
    """
    if user is None:
        api.request(api.users_url, method, params)
        return
    url = f"{api.users_url.rstrip('/')}/{user.user_id}"
    response = api.request(url)
    if response.decode(User) != user:
        raise ApiError("API refuses", url, body=response.body, status=412)
    api.request(url, method, params, if_match=response.headers.get("etag"))


def stored_user(error: ApiError | None) -> User | None:
    """Return the user in the body of a 412, or None."""
    if error and error.status == 412:
        with suppress(msgspec.DecodeError):
            body = msgspec.json.decode(error.body, type=dict[str, Any])
            return msgspec.convert(body.get("user", body), User)
    return None
