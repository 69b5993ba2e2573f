"""The API's settings: read from the environment once, at start, and only here."""

import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
MAX_SECRET_BYTES = 1_000  # of a file that holds one


class SettingsError(ValueError):
    """A variable has a value that cannot be used; the message is one sentence naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be decided about the API from outside, with what it is when nobody decides."""

    database_url: str | None = field(default=None, repr=False)
    api_token: str | None = field(default=None, repr=False)
    open_to_network: bool = False
    max_users: int = 1_000_000
    allowed_hosts: tuple[str, ...] = LOCAL_HOSTS
    log_format: str = "text"
    drain_seconds: float = 0.0
    otlp_endpoint: str | None = None


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from `environ`; a variable that is not there has its default.

    Raises SettingsError for the first value that cannot be used. An empty value is one.
    """
    default = Settings()
    return Settings(
        database_url=_database_url(
            environ.get("DATABASE_URL"), _secret(environ, "DATABASE_PASSWORD_FILE")
        ),
        api_token=_api_token(environ.get("API_TOKEN"), _secret(environ, "API_TOKEN_FILE")),
        open_to_network=_yes_or_no(environ.get("OPEN_TO_NETWORK", "no")),
        max_users=_max_users(environ.get("MAX_USERS", str(default.max_users))),
        allowed_hosts=_allowed_hosts(environ.get("ALLOWED_HOSTS", ",".join(default.allowed_hosts))),
        log_format=_log_format(environ.get("LOG_FORMAT", default.log_format)),
        drain_seconds=_drain_seconds(environ.get("DRAIN_SECONDS", str(default.drain_seconds))),
        otlp_endpoint=_otlp_endpoint(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")),
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


def _database_url(value: str | None, password: str | None) -> str | None:
    if password is not None:
        parts = re.fullmatch(r"(postgres(?:ql)?://[^:/@?#\s]+)(@\S+)", value or "")
        if parts is None:
            raise SettingsError(
                "DATABASE_PASSWORD_FILE needs a DATABASE_URL with a user and without a password,"
                " such as postgresql://user@host/database"
            )
        value = f"{parts[1]}:{quote(password, safe='')}{parts[2]}"
    if value is None:
        return value
    if re.fullmatch(r"sqlite:///[^:?\s][^?\r\n]*", value):
        if not Path(value.removeprefix("sqlite:///")).parent.is_dir():
            raise SettingsError("DATABASE_URL must name a file in a folder that is there")
        return value
    # Of each host, a port that exists; whether anybody listens there is found out later.
    hosts = re.fullmatch(r"postgres(?:ql)?://(?:[^@/?\s]*@)?([^@/?\s]*)(?:[/?]\S*)?", value)
    ports = re.findall(r":([^:,\]]+)(?:,|$)", hosts[1]) if hosts else []
    if hosts and all(re.fullmatch("[0-9]{1,5}", port) and int(port) < 65_536 for port in ports):
        return value
    # It may hold a password, so it is not repeated.
    raise SettingsError(
        "DATABASE_URL must be sqlite:///file or postgresql://user:password@host/database,"
        " or not set at all"
    )


def _api_token(value: str | None, from_file: str | None) -> str | None:
    # Empty beside a file it is no second token: so Compose takes back a variable that it hands on.
    if value and from_file is not None:
        raise SettingsError("API_TOKEN and API_TOKEN_FILE both set the token: give one of them")
    token = value if from_file is None else from_file
    if token is None or re.fullmatch(r"[!-~]{8,200}", token):
        return token
    name = "API_TOKEN" if from_file is None else "What API_TOKEN_FILE names"
    raise SettingsError(
        f"{name} must be 8 to 200 printable ASCII characters without white space, or not set at all"
    )


def _yes_or_no(value: str) -> bool:
    if value in ("yes", "no"):
        return value == "yes"
    raise SettingsError(f"OPEN_TO_NETWORK must be yes or no, not {value[:50]!r}")


def _max_users(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= 9 and int(value) >= 1:
        return int(value)
    raise SettingsError(f"MAX_USERS must be a whole number from 1 to 999999999, not {value[:50]!r}")


def _allowed_hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(_as_in_an_address(host.strip().lower()) for host in value.split(","))
    if all(re.fullmatch(r"\*|\[[0-9a-f:.]+]|[^/@:\s*[\]]+", host) for host in hosts):
        # The names of this machine can mean no other, and its own health checks use them.
        return tuple(dict.fromkeys((*hosts, *LOCAL_HOSTS)))
    raise SettingsError(
        "ALLOWED_HOSTS must be host names without ports, separated by commas, or *,"
        f" not {value[:50]!r}"
    )


def _as_in_an_address(host: str) -> str:
    """Return a host as a Host header has it: an IPv6 address in brackets."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


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


def _otlp_endpoint(value: str | None) -> str | None:
    if value is None:
        return value
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", value):
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT must be the http or https address of a collector,"
            f" such as http://localhost:4318, not {value[:50]!r}"
        )
    try:
        there = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        there = None
    if there is None:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs what is in requirements-tracing.txt installed"
        )
    return value.rstrip("/")


def refuse_unsafe_start(
    settings: Settings,
    arguments: Sequence[str] = sys.argv,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Raise SettingsError if the server was told to do what these settings make unsafe.

    The server's own options are the only place to learn that from: uvicorn and fastapi take them as
    `--host` and `--workers`, or as variables; `fastapi run` listens to the network by default.
    """
    host = _option(arguments, "--host")
    host = environ.get("UVICORN_HOST") if host is None else host
    if host is None and "run" in arguments[1:3]:
        host = "0.0.0.0"  # noqa: S104 - it is refused
    guarded = settings.api_token or settings.open_to_network
    if host not in (None, "localhost", "127.0.0.1", "::1") and not guarded:
        raise SettingsError(
            "API_TOKEN must be set, or OPEN_TO_NETWORK=yes, to listen beyond this machine"
        )
    variable = environ.get("UVICORN_WORKERS") or environ.get("WEB_CONCURRENCY", "1")
    workers = _option(arguments, "--workers") or variable
    if settings.database_url is None and workers != "1":
        raise SettingsError(
            "DATABASE_URL must be set for more than one worker: each would keep users of its own"
        )


def _option(arguments: Sequence[str], name: str) -> str | None:
    found = None  # the last one counts, as it does to the server
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == name:
            found = following
        elif argument.startswith(f"{name}="):
            found = argument.removeprefix(f"{name}=")
    return found
