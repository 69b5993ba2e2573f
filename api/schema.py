"""The shapes that cross the wire: parameters coming in, users and errors going out."""

import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from itertools import islice
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError, SchemaValidator, core_schema

import crud

MAX_WRONG: Final = 50  # users of a batch, and fields of each, of which is told what is wrong
MAX_RAW_NAME_LENGTH: Final = 2 * crud.MAX_NAME_LENGTH  # with the white space around it

# White space as str.strip() has it; control and bidirectional-override characters.
_SPACE = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_HARMFUL = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069"
NAME_PATTERN: Final = (
    rf"^[{_SPACE}]*[^{_SPACE}{_HARMFUL}]"
    rf"([^{_HARMFUL}]{{0,{crud.MAX_NAME_LENGTH - 2}}}[^{_SPACE}{_HARMFUL}])?[{_SPACE}]*$"
)
_name = re.compile(NAME_PATTERN)
# No text in UTF-8 can have one, so most languages' patterns cannot name it; "\\ud800" in JSON can.
_surrogate = re.compile(r"[\ud800-\udfff]")


def _plain_digits(value: Any) -> Any:
    """Let only the usual spelling of a number through: `+7`, `7.0`, `1_0` and `07` are not it.

    With one spelling for each number, each user has one address.
    """
    if isinstance(value, str) and not (
        value.isascii() and value.isdigit() and (value == "0" or value[0] != "0")
    ):
        raise PydanticCustomError(
            "plain_digits", "Input should be a whole number in plain decimal digits"
        )
    return value


def _presentable(value: str) -> str:
    fits = len(value) <= MAX_RAW_NAME_LENGTH
    if fits and value.isprintable() and 0 < len(value.strip()) <= crud.MAX_NAME_LENGTH:
        return value  # nearly every name, in a third of the time that the pattern takes
    if not (fits and _name.fullmatch(value)) or _surrogate.search(value):
        raise PydanticCustomError(
            "name",
            "A name should have 1 to {max_length} characters besides white space at its ends,"
            " and no control or bidirectional-override characters",
            {"max_length": crud.MAX_NAME_LENGTH},
        )
    return value


UserId = Annotated[
    int,
    Field(
        ge=0, le=crud.MAX_USER_ID, description="The user's id", json_schema_extra={"example": 123}
    ),
    BeforeValidator(_plain_digits),
]
Name = Annotated[
    str,
    AfterValidator(_presentable),
    Field(
        description="The user's name, kept as it is sent",
        json_schema_extra={
            "example": "Alice",
            "minLength": 1,
            "maxLength": MAX_RAW_NAME_LENGTH,
            "pattern": NAME_PATTERN,
        },
    ),
]
Age = Annotated[
    int,
    Field(
        ge=0,
        le=crud.MAX_AGE,
        description="The user's age in years",
        json_schema_extra={"example": 30},
    ),
    BeforeValidator(_plain_digits),
]
PageLimit = Annotated[
    int,
    Field(
        ge=1,
        le=crud.MAX_PAGE_USERS,
        description="Users on a page",
        json_schema_extra={"example": 100},
    ),
    BeforeValidator(_plain_digits),
]

Absent = SkipJsonSchema[None]  # for a parameter that may be left out, but is never null


# Answers are dataclasses: mypy has checked what they are made of, so pydantic need not each time.
@dataclass(slots=True)
class User:
    """A user as the API answers with it."""

    user_id: UserId
    name: Name
    age: Age


class ListedUser(BaseModel):
    """A user in a listing or a batch, where the id is the key."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Name
    age: Age


# UserId's bounds for the keys of an object: 0 to 2**53 - 1.
USER_ID_PATTERN: Final = (
    "^(0|[1-9][0-9]{0,14}|[1-8][0-9]{15}|900[0-6][0-9]{12}|90070[0-9]{11}|90071[0-8][0-9]{10}"
    "|900719[0-8][0-9]{9}|9007199[01][0-9]{8}|90071992[0-4][0-9]{7}|900719925[0-3][0-9]{6}"
    "|9007199254[0-6][0-9]{5}|90071992547[0-3][0-9]{4}|9007199254740[0-8][0-9]{2}"
    "|90071992547409[0-8][0-9]|900719925474099[01])$"
)


class TooManyUsers(Exception):
    """A batch holds more than it may; to look at all of them would take too long."""

    def __init__(self) -> None:
        super().__init__(f"A batch has at most {crud.MAX_BATCH_USERS} users")


_is_user = TypeAdapter(dict[UserId, ListedUser]).validator.isinstance_python


def _few(users: Any) -> Any:
    """Bound what pydantic looks at: it counts slowly, and keeps an error for all that is wrong."""
    pairs = users.items() if isinstance(users, dict) else ()
    if len(pairs) > crud.MAX_BATCH_USERS:
        raise TooManyUsers
    wrong = islice((pair for pair in pairs if not _is_user(dict([pair]))), MAX_WRONG)
    some = {
        i: dict(islice(user.items(), MAX_WRONG)) if isinstance(user, dict) else user
        for i, user in wrong
    }
    return some or users


def _read_batch(body: bytes) -> dict[int, crud.Record]:
    """Return the users of a batch in perfect order, in a sixth of the time that pydantic takes."""
    users = crud.decode_users(body)
    names = [user.name for user in users.values()]
    named = all(map(str.isprintable, names)) and all(map(str.strip, names))
    # The decoder takes "-0" for 0.
    if not named or 0 in users or len(users) > crud.MAX_BATCH_USERS:
        raise ValueError("something for FastAPI to look at")
    return users


@dataclass(frozen=True)
class ShortWay:
    """How the door reads a body. Raises ValueError where FastAPI would find an error, or might."""

    read: Callable[[bytes], Any]


def _as_record(
    _: Any, schema_of: Callable[[Any], core_schema.CoreSchema]
) -> core_schema.CoreSchema:
    return core_schema.no_info_after_validator_function(
        lambda user: crud.Record(user.name, user.age), schema_of(ListedUser)
    )


Batch = Annotated[
    dict[UserId, Annotated[crud.Record, GetPydanticSchema(_as_record)]],
    ShortWay(_read_batch),
    BeforeValidator(_few),
    Field(
        json_schema_extra={
            "propertyNames": {"pattern": USER_ID_PATTERN},
            "maxProperties": crud.MAX_BATCH_USERS,
            "example": {"123": {"name": "Alice", "age": 30}},
        }
    ),
]


@dataclass(slots=True)
class Created:
    """What became of a batch."""

    created: int
    existing: list[UserId]


@dataclass(slots=True)
class AgeCounts:
    """How many users there are, and how many of each age that occurs."""

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
    """The API can do its work, with the store it has."""

    status: Literal["ready"]
    store: str
    durable: bool


class InvalidValue(BaseModel):
    """What is wrong with one value, as FastAPI tells it."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any


class Invalid(BaseModel):
    """What is wrong with each value that cannot be used."""

    detail: list[InvalidValue]


class Refusal(BaseModel):
    """What was wrong, in a sentence."""

    detail: str


def validator_of(types: dict[str, Any]) -> Callable[[dict[str, str]], dict[str, Any]]:
    """Return a function that validates these parameters and no others, all of them at once.

    It raises ValueError where FastAPI would find an error, or might.
    """
    fields = {
        name: core_schema.typed_dict_field(TypeAdapter(kind).core_schema)
        for name, kind in types.items()
    }
    return SchemaValidator(
        core_schema.typed_dict_schema(fields, extra_behavior="forbid")
    ).validate_python


def reader_of(kind: Any) -> Callable[[bytes], Any] | None:
    """Return how the door reads a body of this type, if it can."""
    notes = getattr(kind, "__metadata__", ())
    return next((note.read for note in notes if isinstance(note, ShortWay)), None)


def has_one_spelling(kind: Any) -> bool:
    """Tell whether all encoders write this type alike: times and fractions, for one, they do not.

    Ages in a map are written in a fifth of the time by msgspec.
    """
    if is_dataclass(kind):
        return all(map(has_one_spelling, get_type_hints(kind).values()))
    if get_origin(kind) in (dict, list):
        return all(map(has_one_spelling, get_args(kind)))
    return kind in (int, str, bool, None) or get_origin(kind) is Literal
