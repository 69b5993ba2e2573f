"""The shapes of parameters and responses, checked and documented by pydantic."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema
from pydantic_core import core_schema

from crud import (
    MAX_AGE,
    MAX_NAME_LENGTH,
    MAX_PAGE_USERS,
    MAX_RAW_NAME_LENGTH,
    MAX_USER_ID,
    Versions,
)

# White space as in str.strip(), and characters that show nothing (Unicode: default ignorable).
_EMPTY = (
    r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
    r"\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0"
)
# Control characters, ends of lines, and characters that change the direction of text.
_HARMFUL = r"\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
NAME_PATTERN: Final = (
    rf"^[{_EMPTY}]*[^{_EMPTY}{_HARMFUL}]"
    rf"([^{_HARMFUL}]{{0,{MAX_NAME_LENGTH - 2}}}[^{_EMPTY}{_HARMFUL}])?[{_EMPTY}]*$"
)
MAX_HEADER_LENGTH: Final = 1_000
NAME_RULE: Final = (
    f"A name should have 1 to {MAX_NAME_LENGTH} characters besides white space at its ends,"
    " one that is visible, and none that is a control or changes the direction of text"
)
# Each number has one spelling (not `+7`, `7.0`, `1_0` or `07`), so each user has one address.
_digits = core_schema.custom_error_schema(
    core_schema.str_schema(pattern="^(0|[1-9][0-9]*)$"),
    custom_error_type="plain_digits",
    custom_error_message="Input should be a whole number in plain decimal digits",
)
_checked_name = core_schema.custom_error_schema(
    core_schema.str_schema(pattern=NAME_PATTERN, max_length=MAX_RAW_NAME_LENGTH),
    custom_error_type="name",
    custom_error_message=NAME_RULE,
)


def _shown(schema: core_schema.CoreSchema, kind: str, **more: Any) -> GetPydanticSchema:
    """Return how a parameter is checked, and how OpenAPI shows it."""
    return GetPydanticSchema(lambda *_: schema, lambda *_: {"type": kind, **more})


def _number(least: int, most: int, example: int) -> GetPydanticSchema:
    number = core_schema.chain_schema([_digits, core_schema.int_schema(ge=least, le=most)])
    return _shown(number, "integer", minimum=least, maximum=most, example=example)


def _text(example: str, most: int) -> GetPydanticSchema:
    text = core_schema.str_schema(min_length=1, max_length=most)
    return _shown(text, "string", minLength=1, maxLength=most, example=example)


_name = {"maxLength": MAX_RAW_NAME_LENGTH, "pattern": NAME_PATTERN, "example": "Alice"}

UserId = Annotated[int, _number(0, MAX_USER_ID, 123), Field(description="The user's id")]
Age = Annotated[int, _number(0, MAX_AGE, 30), Field(description="The user's age in years")]
Name = Annotated[
    str,
    _shown(_checked_name, "string", minLength=1, **_name),
    Field(description="The user's name, stored as it is sent"),
]
# These may be left out, but are never null: so None is in no schema.
PageLimit = Annotated[
    int | None, _number(1, MAX_PAGE_USERS, 100), Field(description="Users a page")
]
After = Annotated[int | None, _number(0, MAX_USER_ID, 0), Field(description="Id before the page")]
NamePart = Annotated[
    str | None, _text("li", MAX_NAME_LENGTH), Field(description="A part of the name, in any case")
]
IfMatch = Annotated[
    str | None,
    _text("*", MAX_HEADER_LENGTH),
    Header(description="The ETag of the user as you know it: 412 if somebody has changed it"),
]


# Responses are dataclasses: mypy checks the types of their fields, so pydantic need not check them.
@dataclass(slots=True)
class User:
    """A user in a response."""

    user_id: UserId
    name: Name
    age: Age


class ListedUser(BaseModel):
    """A user in a listing or a batch, where the id is the key."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    age: Age


@dataclass(slots=True)
class AgeCounts:
    """The number of users, and the number of users of each age that occurs."""

    __pydantic_config__ = ConfigDict(
        json_schema_extra={"examples": [{"total": 3, "ages": {"18": 1, "30": 2}}]}
    )

    total: int
    ages: dict[int, int]


@dataclass(slots=True)
class Health:
    """The process is alive."""

    status: Literal["healthy"]


@dataclass(slots=True)
class Readiness:
    """The API can do its work, with this store."""

    status: Literal["ready"]
    store: str
    durable: bool


def versions_in(if_match: str | None) -> Versions:
    """Return the versions that an If-Match header accepts (RFC 9110, 13.1.1); None: any."""
    return None if if_match in (None, "*") else re.findall('(?<!/)"([0-9a-f]{16})"', if_match)
