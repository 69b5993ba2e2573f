"""Users as a file that no spreadsheet runs."""

import csv
import io

import msgspec
import pytest

from users import User
from widgets import as_csv, defuse

ALICE = User(user_id=7, name="Alice", age=30)
ZOE = User(user_id=2, name="Zoë 李", age=30)


@pytest.mark.parametrize(
    "name",
    [
        *("=1+2", "+1", "-1", "@SUM(A1)", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201"),
        *("\t=1", "  =1", '"=1', "'=1", "\u00a0=1", "=cmd|' /C calc'!A0"),
    ],
)
def test_what_a_spreadsheet_would_run_is_text(name: str) -> None:
    """A cell that begins like a formula begins with an apostrophe instead, and loses nothing."""
    assert defuse(name) == f"'{name}"
    text = as_csv([{"user_id": 1, "name": name, "age": 2}]).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["1", f"'{name}", "2"]


@pytest.mark.parametrize(
    "name", ["a;=1+1;b", "a; =1", 'a;"=1', "a;@b", "=1;=1", "a\r=1", "\n=1", ";-1"]
)
def test_no_cell_is_run_where_lists_have_semicolons(name: str) -> None:
    """However a spreadsheet takes a name apart, no part of it begins like a formula."""
    text = as_csv([{"user_id": 1, "name": name, "age": 2}]).decode("utf-8-sig")
    for separator in ",;":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            assert not any(cell.lstrip(' "').startswith(("=", "+", "-", "@")) for cell in row)


@pytest.mark.parametrize(
    "name", ["Alice", "D'Arcy", "a=b", "Anne-Marie", "a@b", "李", "", " ", "a;b"]
)
def test_other_names_are_left_alone(name: str) -> None:
    """Only what would run is touched."""
    assert defuse(name) == name


def test_csv() -> None:
    """A head, a line for each user, commas and quotes as in RFC 4180, UTF-8 for Excel too."""
    users = [ALICE, User(user_id=8, name='a,"b"', age=0), ZOE]
    content = as_csv([msgspec.structs.asdict(user) for user in users])
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.decode("utf-8-sig") == (
        'user_id,name,age\r\n7,Alice,30\r\n8,"a,""b""",0\r\n2,Zoë 李,30\r\n'
    )
