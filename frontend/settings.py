"""The dashboard's settings: read from the environment once, at start, and only here."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

MAX_SECRET_BYTES = 1_000  # of a file that holds one
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


class SettingsError(ValueError):
    """A variable has a value that cannot be used; the message is one sentence naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the API is, and what it takes to write there.

    `api_url` is the address that lists all users. `api_token` is sent along when a user is created,
    changed or deleted, and is shown nowhere.
    """

    api_url: str = "http://localhost:8000/users/"
    api_token: str | None = field(default=None, repr=False)

    @property
    def statistics_url(self) -> str:
        """The address of the age counts: `stats/ages` beside the users, under the same prefix."""
        return self.beside("stats/ages")

    def beside(self, path: str) -> str:
        """Return the address of `path` beside the users, under the same prefix."""
        return urljoin(self.api_url.rstrip("/") + "/", f"../{path}")

    def user_url(self, user_id: int) -> str:
        """Return the address of one user."""
        return f"{self.api_url.rstrip('/')}/{user_id}"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from `environ`; a variable that is not there has its default.

    Raises SettingsError when one cannot be used. An empty value is one, but for the token.
    """
    return Settings(
        api_url=_api_url(environ.get("API_URL", Settings().api_url)),
        api_token=_api_token(environ.get("API_TOKEN"), _secret(environ, "API_TOKEN_FILE")),
    )


def _secret(environ: Mapping[str, str], variable: str) -> str | None:
    """The secret in the file that a variable names, without the end of its line."""
    if variable not in environ:
        return None
    try:
        with Path(environ[variable]).open("rb") as file:
            secret = file.read(MAX_SECRET_BYTES + 1).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        # Not what was given, which may be the secret itself.
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"{variable} must name a file that can be read: {reason}") from None
    if not 0 < len(secret) <= MAX_SECRET_BYTES or not secret.isprintable():
        raise SettingsError(f"{variable} must name a file with one line of text in it")
    return secret


def _api_token(value: str | None, from_file: str | None) -> str | None:
    if value and from_file is not None:
        raise SettingsError("API_TOKEN and API_TOKEN_FILE both set the token: give one of them")
    # Empty is none, so the page only shows: so Compose takes back a variable that it hands on.
    token = (value or None) if from_file is None else from_file
    if token is None or re.fullmatch(r"[!-~]{8,200}", token):
        return token
    name = "API_TOKEN" if from_file is None else "What API_TOKEN_FILE names"
    raise SettingsError(
        f"{name} must be 8 to 200 printable ASCII characters without white space, or not set at all"
    )


def _api_url(value: str) -> str:
    # What may be a password or a token is not repeated: the sentence goes to a log.
    if "@" in value:
        raise SettingsError("API_URL must not contain a user name, a password or any other @")
    if "?" in value or "#" in value:
        raise SettingsError("API_URL must end with its path, without a query (?) or fragment (#)")
    if not _is_absolute_address(value):
        raise SettingsError(
            "API_URL must be the full address of the users, such as http://localhost:8000/users/,"
            f" not {value[:100]!r}"
        )
    return value


def _is_absolute_address(value: str) -> bool:
    # urlsplit() silently drops tabs and newlines, so they are refused before it sees them.
    if not value.isprintable() or " " in value or "\\" in value:
        return False
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https")
            and _is_host(parts.hostname or "")
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:  # a port above 65535, or a broken [IPv6] address
        return False


def _is_host(name: str) -> bool:
    if ":" in name or name.rpartition(".")[2].isdigit():  # raises ValueError if it is no IP address
        return bool(ipaddress.ip_address(name))
    return _HOST_NAME.fullmatch(name) is not None
