"""Users as a table and as files that nobody's spreadsheet runs."""

import csv
import io
import json

import pytest

from schema import User
from tables import ORDERS, as_csv, as_json, defused, matching, ordered

ALICE = User(user_id=7, name="Alice", age=30)
BOB = User(user_id=30, name="bob", age=7)
ZOE = User(user_id=2, name="Zoë 李", age=30)
ALL = [ALICE, BOB, ZOE]


@pytest.mark.parametrize(
    "name",
    [
        "=1+2",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "  =1",
        '"=1',
        "'=1",
        "\u00a0=1",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff201",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://example.org")',
    ],
)
def test_what_a_spreadsheet_would_run_is_text(name: str) -> None:
    """A cell that begins like a formula begins with an apostrophe instead, and loses nothing."""
    assert defused(name) == f"'{name}"
    text = as_csv([User(user_id=1, name=name, age=2)]).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["1", f"'{name}", "2"]


@pytest.mark.parametrize(
    "name", ["a;=1+1;b", "a; =1", 'a;"=1', "a;@b", "=1;=1", "a\r=1", "\n=1", ";-1"]
)
def test_no_cell_is_run_where_lists_have_semicolons(name: str) -> None:
    """However a spreadsheet takes a name apart, no part of it begins like a formula."""
    text = as_csv([User(user_id=1, name=name, age=2)]).decode("utf-8-sig")
    for separator in ",;":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            assert not any(cell.lstrip(' "').startswith(("=", "+", "-", "@")) for cell in row)


@pytest.mark.parametrize(
    "name", ["Alice", "D'Arcy", "a=b", "Anne-Marie", "a@b", "李", "", " ", "a;b"]
)
def test_other_names_are_left_alone(name: str) -> None:
    """Only what would run is touched."""
    assert defused(name) == name


def test_csv() -> None:
    """A head, a line for each user, commas and quotes as in RFC 4180, UTF-8 for Excel too."""
    content = as_csv([ALICE, User(user_id=8, name='a,"b"', age=0), ZOE])
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.decode("utf-8-sig") == (
        'user_id,name,age\r\n7,Alice,30\r\n8,"a,""b""",0\r\n2,Zoë 李,30\r\n'
    )


def test_json_is_what_the_api_lists() -> None:
    """The file has the shape of the listing, names as they are."""
    assert json.loads(as_json(ALL)) == {
        "7": {"name": "Alice", "age": 30},
        "30": {"name": "bob", "age": 7},
        "2": {"name": "Zoë 李", "age": 30},
    }
    assert json.loads(as_json([])) == {}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ALL),
        ("ALI", [ALICE]),
        ("O", [BOB, ZOE]),
        ("ZOË", [ZOE]),
        ("30", [ALICE, ZOE]),
        (" 7 ", [BOB]),
        ("nobody", []),
    ],
)
def test_filter(words: str, found: list[User]) -> None:
    """Part of a name in any case, or a whole age; ids are not looked at."""
    found_users = matching(ALL, words)
    assert [user for user in found_users if user in found] == found
    assert len(found_users) == len(found)


def test_orders() -> None:
    """Each order is what it is called, and users of the same name or age are by id."""
    ids = {order: [user.user_id for user in ordered(ALL, order)] for order in ORDERS}
    assert ids == {
        "Id, ascending": [2, 7, 30],
        "Id, descending": [30, 7, 2],
        "Name, A to Z": [7, 30, 2],
        "Name, Z to A": [2, 30, 7],
        "Youngest first": [30, 2, 7],
        "Oldest first": [2, 7, 30],
    }
