"""The dashboard's settings, read from the environment once, at the start, and only here."""

import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


class SettingsError(ValueError):
    """A variable has a value that cannot be used; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the API and the list of faults are, the token for writes, and our own addresses."""

    api_url: str = "http://localhost:8000/users/"
    api_token: str | None = field(default=None, repr=False)
    faults_url: str | None = None
    public_urls: tuple[str, ...] = ()


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in `environ`, or their defaults. Raises SettingsError."""
    name, token = "API_TOKEN", environ.get("API_TOKEN") or None  # empty: no token
    if (path := environ.get("API_TOKEN_FILE")) is not None:
        if token:
            raise SettingsError("API_TOKEN and API_TOKEN_FILE both set the token: set only one")
        name, token = "The line in API_TOKEN_FILE", _read_token(path)
    if token is not None and not re.fullmatch(r"[!-~]{8,200}", token):
        raise SettingsError(f"{name} must be 8 to 200 printable ASCII characters without a space")
    url = _check_url("API_URL", environ.get("API_URL", Settings().api_url))
    faults = environ.get("FAULTS_URL") or None
    faults = _check_url("FAULTS_URL", faults) if faults else None
    return Settings(url, token, faults, _public_urls(environ.get("PUBLIC_URL")))


def _public_urls(value: str | None) -> tuple[str, ...]:
    # As the API reads it: in lower case except the path, without a slash at the end.
    urls = [url.strip().rstrip("/") for url in value.split(",")] if value is not None else []
    found = [re.fullmatch(r"(?i:(https?://[^/?#@\s]+))(/[^?#\s]*)?", url) for url in urls]
    if not all(found):
        example = f"addresses such as https://lab.example/dashboard, not {value!r:.52}"
        raise SettingsError(f"PUBLIC_URL must be {example}")
    return tuple(f"{url[1].lower()}{url[2] or ''}" for url in found if url)


def _read_token(path: str) -> str:
    with suppress(OSError, ValueError), Path(path).open("rb") as file:
        return file.read(300).decode().rstrip("\r\n")
    # The value is not repeated: it may be the token itself.
    raise SettingsError("API_TOKEN_FILE must name a file with text that can be read")


def _check_url(name: str, url: str) -> str:
    try:
        host = urlsplit(url).hostname or ""
        # urlsplit() silently removes tabs and newlines.
        if not re.fullmatch(r"https?://[^@?#\\\s\x00-\x1f]+", url) or urlsplit(url).port == 0:
            raise ValueError
        if ":" in host or host.rpartition(".")[2].isdigit():
            ipaddress.ip_address(host)
        elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", host):
            raise ValueError
    except ValueError:  # also from a port above 65535, or a broken IP address
        # The value is not repeated: it may contain a password.
        what = f"a full address such as {Settings().api_url}, without a user name, password, query"
        raise SettingsError(f"{name} must be {what} or fragment") from None
    return url
