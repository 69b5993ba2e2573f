"""What the simulator can be told from outside. Only this file reads the environment."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

SHORTEST_INTERVAL_SECONDS = 0.001
LONGEST_INTERVAL_SECONDS = 86_400

# Leaves no room for credentials, a query, a fragment or a host name that cannot be looked up.
_LABEL = r"[a-z0-9_-]{1,63}"
_ADDRESS = re.compile(
    rf"https?://(\[(?P<ipv6>[0-9a-f]*:[0-9a-f:.]+)\]|(?P<ipv4>[0-9.]+)|{_LABEL}(\.{_LABEL})*)"
    r"(:(?P<port>[0-9]{1,5}))?(/[a-z0-9._~-]+)*/?",
    re.IGNORECASE | re.ASCII,
)


class SettingsError(ValueError):
    """A variable has a value that cannot be used; the message is one sentence naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The resolved configuration; `api_base_url` ends without a slash."""

    api_base_url: str = "http://localhost:8000"
    simulation_interval_seconds: float = 5.0


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; an unset variable means its default, an empty one is a mistake.

    Raises SettingsError for a value that cannot be used.
    """
    default = Settings()
    return Settings(
        api_base_url=_base_url(environ.get("API_BASE_URL", default.api_base_url)),
        simulation_interval_seconds=_interval_seconds(
            environ.get("SIMULATION_INTERVAL", str(default.simulation_interval_seconds))
        ),
    )


def _base_url(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match:
        ip, port = match["ipv6"] or match["ipv4"], int(match["port"] or 80)
        if (not ip or _is_ip(ip)) and 0 < port < 65_536:
            return value.rstrip("/")
    # What stands before an @ may be a password: it is not repeated.
    given = "one with a user name or password" if "@" in value else _quoted(value)
    raise SettingsError(
        "API_BASE_URL must be an http or https address with a host and without credentials, "
        f"query or fragment, such as http://localhost:8000, not {given}"
    )


def _interval_seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    # nan compares false with everything, so it is refused here as well.
    if SHORTEST_INTERVAL_SECONDS <= seconds <= LONGEST_INTERVAL_SECONDS:
        return seconds
    raise SettingsError(
        f"SIMULATION_INTERVAL must be a number of seconds from {SHORTEST_INTERVAL_SECONDS} "
        f"to {LONGEST_INTERVAL_SECONDS}, not {_quoted(value)}"
    )


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _quoted(value: str) -> str:
    """The value as one short line, whatever it holds."""
    return ascii(value if len(value) <= 80 else value[:77] + "...")
