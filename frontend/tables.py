"""Users as a table: which are shown, in what order, and as files."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable

from schema import User

ORDERS: dict[str, tuple[Callable[[User], object], bool]] = {
    "Id, ascending": (lambda user: user.user_id, False),
    "Id, descending": (lambda user: user.user_id, True),
    "Name, A to Z": (lambda user: (user.name.casefold(), user.user_id), False),
    "Name, Z to A": (lambda user: (user.name.casefold(), user.user_id), True),
    "Youngest first": (lambda user: (user.age, user.user_id), False),
    "Oldest first": (lambda user: (-user.age, user.user_id), False),
}

# A spreadsheet runs a cell that begins with one of these, also after white space or a quote;
# the wide ones are what East Asian keyboards type (OWASP, "CSV Injection"). Where lists are written
# with semicolons it sees a cell behind each of them, and behind the end of a line, quoted or not.
_FORMULA = re.compile(r"(^|[;\r\n])([ \u00a0\"']*)(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")


def matching(users: Iterable[User], words: str) -> list[User]:
    """Return the users whose name contains `words`, in any case, or whose age is that number."""
    words = words.strip()
    return [
        user for user in users if words.casefold() in user.name.casefold() or words == str(user.age)
    ]


def ordered(users: Iterable[User], order: str) -> list[User]:
    """Return the users in one of ORDERS."""
    key, backwards = ORDERS[order]
    return sorted(users, key=key, reverse=backwards)  # type: ignore[arg-type]


def as_csv(users: Iterable[User]) -> bytes:
    """Return the users as CSV (RFC 4180) that a spreadsheet opens as text, and runs nothing of."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(("user_id", "name", "age"))
    writer.writerows((user.user_id, defused(user.name), user.age) for user in users)
    return file.getvalue().encode("utf-8-sig")  # the mark by which Excel knows that it is UTF-8


def defused(cell: str) -> str:
    """Return a cell that a spreadsheet shows and does not run: an apostrophe makes it text."""
    return _FORMULA.sub(r"\1'\2", cell)


def as_json(users: Iterable[User]) -> bytes:
    """Return the users in the shape in which the API lists them."""
    listing = {str(user.user_id): {"name": user.name, "age": user.age} for user in users}
    return json.dumps(listing, ensure_ascii=False, indent=1).encode()
