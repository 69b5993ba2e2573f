"""The API's settings: read from the environment once, at start, and only here."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from middleware import LOCAL_HOSTS

NOWHERE = "/nowhere"  # a folder without sockets
CERTIFICATES = {"sslcert", "sslkey", "sslrootcert", "sslcrl"}
MAX_SECRET_BYTES = 1_000  # of a file that holds one


class SettingsError(Exception):
    """A variable has a value that cannot be used; the message is one sentence naming it."""


def _database_url(value: str) -> str:
    """Check the address; opening the database checks the rest."""
    if re.fullmatch(r"postgres(?:ql)?://\S+", value):
        _check_postgresql(value)
    elif not re.fullmatch(r"sqlite:///[^:?\s][^?\r\n]*", value):
        raise ValueError
    return value


def _check_postgresql(url: str) -> None:
    """Let PostgreSQL's library read the URL, with a host that it cannot reach."""
    try:
        from psycopg import ProgrammingError, conninfo, pq
    except ImportError:
        raise SettingsError("DATABASE_URL needs the package psycopg[binary]") from None
    try:
        options: dict[str, Any] = conninfo.conninfo_to_dict(url)
    except ProgrammingError as error:  # its text may contain a part of the password
        reason = str(error).partition(":")[0]
        raise SettingsError(f"DATABASE_URL cannot be used: {reason}") from None
    hosts = str(options.get("host", "")).split(",")
    nowhere = options | {"host": ",".join([NOWHERE] * len(hosts)), "hostaddr": ""}
    tried = pq.PGconn.connect_start(conninfo.make_conninfo("", **nowhere).encode())
    message = tried.error_message.decode(errors="replace").strip()
    tried.finish()
    for name in ("keepalives", "port"):  # libpq reads these numbers only when it connects
        if not re.fullmatch("[0-9,]*", str(options.get(name, ""))):
            message = f"{name} must be a number"
    if message and NOWHERE not in message:
        raise SettingsError(f"DATABASE_URL cannot be used: {message}")
    for name in CERTIFICATES & options.keys():
        if options[name] != "system" and not Path(options[name]).is_file():
            raise SettingsError(f"DATABASE_URL names a file in {name} that does not exist")


def _hosts(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    hosts = [host.strip().lower() for host in value.split(",")]
    # A Host header has an IPv6 address in brackets.
    hosts = [f"[{h}]" if h.count(":") > 1 and not h.startswith("[") else h for h in hosts]
    if not all(re.fullmatch(r"\*|\[[0-9a-f:.]+]|[^/@:\s*[\]]+", host) for host in hosts):
        raise ValueError
    # Always allow this machine's names: they name no other machine, and health checks use them.
    return tuple(dict.fromkeys((*hosts, *LOCAL_HOSTS)))


def _urls(value: Any) -> Any:
    """Return the addresses in a list, in lower case except the path, without a slash at the end."""
    if not isinstance(value, str):
        return value
    urls = [url.strip().rstrip("/") for url in value.split(",")]
    found = [re.fullmatch(r"(?i:(https?://[^/?#@\s]+))(/[^?#\s]*)?", url) for url in urls]
    if not all(found):
        raise ValueError
    return tuple(f"{url[1].lower()}{url[2] or ''}" for url in found if url)


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Token = Annotated[str, Field(pattern="^[!-~]{8,200}$")]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_hosts)]
Urls = Annotated[tuple[str, ...], BeforeValidator(_urls)]


class Settings(BaseModel):
    """All settings with their defaults. MAX_USERS sets `max_users`; `description`: valid values."""

    model_config = ConfigDict(frozen=True)

    database_url: Annotated[
        DatabaseUrl | None,
        Field(description="sqlite:///file or postgresql://user:password@host/database", repr=False),
    ] = None
    api_token: Annotated[
        Token | None,
        Field(description="8 to 200 printable ASCII characters without white space", repr=False),
    ] = None
    open_to_network: Annotated[bool, Field(description="yes or no")] = False
    max_users: Annotated[
        int, Field(ge=1, le=999_999_999, description="a whole number from 1 to 999999999")
    ] = 1_000_000
    allowed_hosts: Annotated[Hosts, Field(description="host names without ports, or *")] = (
        LOCAL_HOSTS
    )
    public_url: Annotated[Urls, Field(description="addresses such as https://lab.example/api")] = ()
    allowed_origins: Annotated[
        Urls, Field(description="origins such as http://lab.example:3000")
    ] = ()
    log_format: Annotated[Literal["text", "json"], Field(description="text or json")] = "text"
    drain_seconds: Annotated[float, Field(ge=0, le=300, description="0 to 300 seconds")] = 0.0


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from `environ`; a variable that is not set has its default.

    Raises SettingsError for the first invalid value. An empty value is invalid, too.
    """
    names = [name.upper() for name in Settings.model_fields]
    values = {name.lower(): environ[name] for name in names if name in environ}
    if "API_TOKEN_FILE" in environ:
        # Compose passes an unset variable as an empty one: with a file, this is no second token.
        if values.get("api_token"):
            raise SettingsError("API_TOKEN and API_TOKEN_FILE both set the token: give one of them")
        values["api_token"] = _secret("API_TOKEN_FILE", environ["API_TOKEN_FILE"])
    if "DATABASE_PASSWORD_FILE" in environ:
        password = _secret("DATABASE_PASSWORD_FILE", environ["DATABASE_PASSWORD_FILE"])
        values["database_url"] = _with_password(values.get("database_url", ""), password)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, environ)) from None


def _sentence(error: ValidationError, environ: Mapping[str, str]) -> str:
    field = str(error.errors()[0]["loc"][0])
    must_be, name = Settings.model_fields[field].description, field.upper()
    if field in ("database_url", "api_token"):  # secrets are not repeated
        variable = name if name in environ else f"The content of {name}_FILE"
        return f"{variable} must be {must_be}, or not set at all"
    return f"{name} must be {must_be}, not {environ[name][:50]!r}"


def _secret(variable: str, path: str) -> str:
    """Return the secret in the file that a variable names, without the newline."""
    try:
        with Path(path).open("rb") as file:
            secret = file.read(MAX_SECRET_BYTES + 1).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        # Without the value: it may be the secret itself.
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"{variable} must name a file that can be read: {reason}") from None
    if not 0 < len(secret) <= MAX_SECRET_BYTES or not secret.isprintable():
        raise SettingsError(f"{variable} must name a file with one line of text in it")
    return secret


def _with_password(url: str, password: str) -> str:
    parts = re.fullmatch(r"(postgres(?:ql)?://[^:/@?#\s]+)(@\S+)", url)
    if parts is None:
        example = "postgresql://user@host/database"
        raise SettingsError(f"DATABASE_PASSWORD_FILE needs a DATABASE_URL such as {example}")
    return f"{parts[1]}:{quote(password, safe='')}{parts[2]}"


def refuse_unsafe_start(
    settings: Settings, arguments: Sequence[str] = sys.argv, environ: Mapping[str, str] = os.environ
) -> None:
    """Raise SettingsError if the server's own options are unsafe with these settings.

    An app can find them only in the command line and the variables of its server. uvicorn and
    fastapi take `--host` and `--workers`; `fastapi run` listens on all interfaces by default.
    """
    server = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    server.add_argument("--host", default=environ.get("UVICORN_HOST"))
    workers = environ.get("UVICORN_WORKERS") or environ.get("WEB_CONCURRENCY", "1")
    server.add_argument("-w", "--workers", default=workers)
    given, _ = server.parse_known_args(arguments[1:])
    host = given.host
    if host is None and "run" in arguments[1:3]:
        host = "0.0.0.0"  # noqa: S104 - it is rejected
    guarded = settings.api_token or settings.open_to_network
    if host not in (None, "localhost", "127.0.0.1", "::1") and not guarded:
        raise SettingsError(
            "API_TOKEN must be set, or OPEN_TO_NETWORK=yes, to listen beyond this machine"
        )
    if settings.database_url is None and given.workers != "1":
        raise SettingsError(
            "DATABASE_URL must be set for more than one worker: each would have different users"
        )
