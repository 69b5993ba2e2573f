"""The bounds, for contenders whose framework does not check them."""

MAX_USER_ID = 2**53 - 1
MAX_AGE = 150
MAX_NAME_LENGTH = 100


class Invalid(ValueError):
    """A parameter is missing or out of its bounds."""


def user_id(text: str | None) -> int:
    """Return an id. Raises Invalid."""
    return _number(text, MAX_USER_ID)


def age(text: str | None) -> int:
    """Return an age in years. Raises Invalid."""
    return _number(text, MAX_AGE)


def name(text: str | None) -> str:
    """Return a name. Raises Invalid."""
    if text and len(text) <= MAX_NAME_LENGTH:
        return text
    raise Invalid


def _number(text: str | None, most: int) -> int:
    if text and text.isascii() and text.isdigit() and (number := int(text)) <= most:
        return number
    raise Invalid
