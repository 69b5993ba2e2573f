"""What can be decided from outside: each setting is a variable, and a flag of `python main.py`.

Only this file reads the environment.
"""

import argparse
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

EXAMPLES = """examples:
  python main.py                                     a user every five seconds
  python main.py --rate 200 --count 12000            a minute of constant load
  python main.py --count 1000000                     a million users, as fast as the API takes them
  python main.py --count 1000000 --interval none     the same where SIMULATION_INTERVAL is set
  python main.py --count 20 --seed 7 --locale ja_JP --dry-run
  python main.py --count 5000 --output json --fail-over 1%

A flag comes before its variable, and the variable before the default. API_TOKEN, or API_TOKEN_FILE,
is a variable only: whoever may list the processes of this machine can read their flags."""

MAX_SECRET_BYTES = 1_000  # of a file that holds one
# At a rate there must be room for those whom a slow API keeps waiting. Each has a socket, and macOS
# allows a program 256 open files.
AT_ONCE_IN_BULK, AT_ONCE_AT_A_RATE = 8, 200

# Leaves no room for credentials, a query, a fragment or a host name that cannot be looked up.
_LABEL = r"[a-z0-9_-]{1,63}"
_ADDRESS = re.compile(
    rf"https?://(\[(?P<ipv6>[0-9a-f]*:[0-9a-f:.]+)\]|(?P<ipv4>[0-9.]+)|{_LABEL}(\.{_LABEL})*)"
    r"(:(?P<port>[0-9]{1,5}))?(/[a-z0-9._~-]+)*/?",
    re.IGNORECASE | re.ASCII,
)


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message is one sentence naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The resolved configuration; `api_base_url` ends without a slash.

    At most one of `interval_seconds` and `rate_per_second` is set; with neither, users go in bulk.
    """

    api_base_url: str = "http://localhost:8000"
    api_token: str | None = field(default=None, repr=False)
    interval_seconds: float | None = 5.0
    rate_per_second: float | None = None
    count: int | None = None
    seed: int | None = None
    locale: str = "en_US"
    ages: str = "population"
    concurrency: int = 1
    batch_size: int = 1_000
    dry_run: bool = False
    output: str = "text"
    fail_over: float = 1.0

    @property
    def period_seconds(self) -> float | None:
        """Seconds from one arrival to the next; None in bulk."""
        return 1 / self.rate_per_second if self.rate_per_second else self.interval_seconds


class Given(NamedTuple):
    """What was given for a setting, by which flag or variable; by neither, if `strength` is 0."""

    name: str
    value: str
    strength: int

    def refused(self, must_be: str) -> SettingsError:
        """The error that the value is not what it must be."""
        value = self.value if len(self.value) <= 80 else self.value[:77] + "..."
        return SettingsError(f"{self.name} must be {must_be}, not {value!a}")


class Setting(NamedTuple):
    """One row of `--help`."""

    variable: str
    default: str
    example: str
    meaning: str

    @property
    def flag(self) -> str:
        """The variable's name as a flag: SIMULATION_BATCH_SIZE is --batch-size."""
        return "--" + re.sub("^SIMULATION_", "", self.variable).lower().replace("_", "-")


SETTINGS = (
    Setting("API_BASE_URL", "http://localhost:8000", "http://api0:8000", "where the API is"),
    Setting("SIMULATION_INTERVAL", "5", "0.5", "seconds from one user to the next, or none"),
    Setting("SIMULATION_RATE", "none", "200", "users a second, due at fixed times; no interval"),
    Setting("SIMULATION_COUNT", "endless", "1000000", "how many users; with no pace, in bulk"),
    Setting("SIMULATION_SEED", "random", "7", "a number: the same one gives the same users"),
    Setting("SIMULATION_LOCALE", "en_US", "ja_JP", "a locale of Faker, for the names"),
    Setting("SIMULATION_AGES", "population", "campus", "population, uniform or campus"),
    Setting("SIMULATION_CONCURRENCY", "auto", "64", "most users at once: 8 in bulk, 200 at a rate"),
    Setting(
        "SIMULATION_BATCH_SIZE", "1000", "10000", "users in a request of a bulk; 1: no batches"
    ),
    Setting("SIMULATION_DRY_RUN", "no", "yes", "make users and send nothing"),
    Setting("SIMULATION_OUTPUT", "text", "json", "text, json (an object a line) or quiet"),
    Setting("SIMULATION_FAIL_OVER", "100%", "1%", "exit with 3 if more, or all, were not stored"),
)


def read_settings(
    environ: Mapping[str, str] = os.environ, arguments: Sequence[str] = ()
) -> Settings:
    """Read the settings; an unset variable means its default, an empty one is a mistake.

    Raises SettingsError for what cannot be used; prints the help and exits for `--help`.
    """
    known, unknown = _parser().parse_known_args(arguments)
    if unknown:
        # Its name alone: what was given with it may be a secret.
        flag = re.match("--[a-z-]+|-[a-z]|", unknown[0])[0] or "A value without a flag"  # type: ignore[index]
        raise SettingsError(f"{flag} cannot be used; --help shows what can be set")
    flags = vars(known)
    given = {setting.variable: _given(setting, flags, environ) for setting in SETTINGS}
    count = _unless("endless", given["SIMULATION_COUNT"], 1_000_000_000)
    interval_seconds, rate_per_second = _pace(
        given["SIMULATION_INTERVAL"], given["SIMULATION_RATE"], bulk=count is not None
    )
    most_at_once = _unless("auto", given["SIMULATION_CONCURRENCY"], 256)
    most_at_once = most_at_once or (AT_ONCE_AT_A_RATE if rate_per_second else AT_ONCE_IN_BULK)
    return Settings(
        api_base_url=_base_url(given["API_BASE_URL"]),
        api_token=_api_token(environ.get("API_TOKEN"), _secret(environ, "API_TOKEN_FILE")),
        interval_seconds=interval_seconds,
        rate_per_second=rate_per_second,
        count=count,
        seed=_unless("random", given["SIMULATION_SEED"], 2**63 - 1, least=0),
        locale=_locale(given["SIMULATION_LOCALE"]),
        ages=_one_of(given["SIMULATION_AGES"], "population", "uniform", "campus"),
        concurrency=1 if interval_seconds else most_at_once,
        batch_size=_whole(given["SIMULATION_BATCH_SIZE"], 1, 10_000),
        dry_run=_one_of(given["SIMULATION_DRY_RUN"], "no", "yes") == "yes",
        output=_one_of(given["SIMULATION_OUTPUT"], "text", "json", "quiet"),
        fail_over=_share(given["SIMULATION_FAIL_OVER"]),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help shows what can be set")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python main.py",
        description="Invents plausible users, sends them to the User Management API, "
        "and accounts for every one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for setting in SETTINGS:
        default = setting.default.replace("%", "%%")
        words = f"{setting.meaning} [{setting.variable}, default {default}]"
        if setting.example == "yes":
            options = {"nargs": "?", "const": "yes", "metavar": "yes"}
        else:
            options = {"metavar": setting.example}
        parser.add_argument(setting.flag, dest=setting.variable, help=words, **options)  # type: ignore[arg-type]
    return parser


def _given(setting: Setting, flags: Mapping[str, str], environ: Mapping[str, str]) -> Given:
    if setting.variable in flags:
        return Given(setting.flag, flags[setting.variable], 2)
    if setting.variable in environ:
        return Given(setting.variable, environ[setting.variable], 1)
    return Given(setting.variable, setting.default, 0)


def _pace(interval: Given, rate: Given, *, bulk: bool) -> tuple[float | None, float | None]:
    """Interval or rate, the other being None; neither for a bulk, when none was given."""
    interval_seconds = _number(interval, 0.001, 86_400, "seconds")
    rate_per_second = _number(rate, 0.001, 10_000, "users a second")
    if interval_seconds and rate_per_second:
        if interval.strength == rate.strength:
            both = f"{interval.name} and {rate.name}"
            raise SettingsError(f"{both} both set the pace: give one of them")
        # A flag is the pace even if the other's variable is set.
        if rate.strength < interval.strength:
            return interval_seconds, None
    if rate_per_second:
        return None, rate_per_second
    if bulk and not (interval_seconds and interval.strength):
        return None, None
    if not interval_seconds:
        raise SettingsError(f"{interval.name} can be none only with a rate or a count")
    return interval_seconds, None


def _number(given: Given, least: float, most: float, unit: str) -> float | None:
    """A number, or None for `none`. Not all that float() takes, such as 1_0 and other digits."""
    if given.value == "none":
        return None
    if re.fullmatch(r"[0-9]*\.?[0-9]*(e[+-]?[0-9]+)?", given.value, re.ASCII | re.IGNORECASE):
        with suppress(ValueError):
            if least <= (number := float(given.value)) <= most:
                return number
    raise given.refused(f"a number of {unit} from {least} to {most}, or none")


def _whole(given: Given, least: int, most: int) -> int:
    if re.fullmatch("[0-9]{1,19}", given.value) and least <= int(given.value) <= most:
        return int(given.value)
    raise given.refused(f"a whole number from {least} to {most}")


def _unless(word: str, given: Given, most: int, least: int = 1) -> int | None:
    """A whole number, or None for the word that stands for none."""
    return None if given.value == word else _whole(given, least, most)


def _one_of(given: Given, *words: str) -> str:
    if given.value in words:
        return given.value
    raise given.refused(f"{', '.join(words[:-1])} or {words[-1]}")


def _share(given: Given) -> float:
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?%", given.value):
        share = float(f"{given.value[:-1]}e-2")  # divided, 0.7 % would be less than 7 of 1,000
        if share <= 1:
            return share
    raise given.refused("a percentage from 0% to 100%")


def _locale(given: Given) -> str:
    """Of a locale's shape; whether Faker has it is told by the generator, which knows Faker."""
    if re.fullmatch("[a-z]{2,3}(_[A-Z]{2})?", given.value):
        return given.value
    raise given.refused("a locale such as en_US, de_DE or ja_JP")


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


def _base_url(given: Given) -> str:
    match = _ADDRESS.fullmatch(given.value)
    if match:
        ip, port = match["ipv6"] or match["ipv4"], int(match["port"] or 80)
        if (not ip or _is_ip(ip)) and 0 < port < 65_536:
            return given.value.rstrip("/")
    must_be = (
        "an http or https address with a host and without credentials, query or fragment, "
        "such as http://localhost:8000"
    )
    if "@" in given.value:  # what stands before it may be a password: it is not repeated
        raise SettingsError(f"{given.name} must be {must_be}, not one with a user name or password")
    raise given.refused(must_be)


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
