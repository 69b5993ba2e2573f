"""The API's settings: read from the environment once, at start, and only here."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class SettingsError(ValueError):
    """A variable has a value that cannot be used; the message is one sentence naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be decided about the API from outside, with what it is when nobody decides."""

    max_users: int = 1_000_000
    allowed_hosts: tuple[str, ...] = LOCAL_HOSTS
    log_format: str = "text"
    drain_seconds: float = 0.0


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from `environ`; a variable that is not there has its default.

    Raises SettingsError for the first value that cannot be used. An empty value is one.
    """
    default = Settings()
    return Settings(
        max_users=_max_users(environ.get("MAX_USERS", str(default.max_users))),
        allowed_hosts=_allowed_hosts(environ.get("ALLOWED_HOSTS", ",".join(default.allowed_hosts))),
        log_format=_log_format(environ.get("LOG_FORMAT", default.log_format)),
        drain_seconds=_drain_seconds(environ.get("DRAIN_SECONDS", str(default.drain_seconds))),
    )


def _max_users(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= 9 and int(value) >= 1:
        return int(value)
    raise SettingsError(f"MAX_USERS must be a whole number from 1 to 999999999, not {value[:50]!r}")


def _allowed_hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(host.strip().lower() for host in value.split(","))
    if all(host and not set(host) & set("/@ ") for host in hosts):
        return hosts
    raise SettingsError(
        "ALLOWED_HOSTS must be host names without ports, separated by commas, or *,"
        f" not {value[:50]!r}"
    )


def _log_format(value: str) -> str:
    if value in ("text", "json"):
        return value
    raise SettingsError(f"LOG_FORMAT must be text or json, not {value[:50]!r}")


def _drain_seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if 0 <= seconds <= 300:
        return seconds
    raise SettingsError(
        f"DRAIN_SECONDS must be a number of seconds from 0 to 300, not {value[:50]!r}"
    )
