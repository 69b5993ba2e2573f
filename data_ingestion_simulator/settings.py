"""Every setting is an environment variable and a flag. Only this file reads the environment."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

HELP = """Draws plausible users, sends them to the User Management API, and accounts for each one.

  python main.py --rate 200 --count 12000         a minute of constant load
  python main.py --count 1000000                  a million users, as fast as the API takes them
  python main.py --count 20 --seed 7 --locale ja_JP --dry-run

A flag is stronger than its variable. API_TOKEN and API_TOKEN_FILE are variables only: other users
of a machine can read flags."""
ADDRESS = (  # no credentials, query or fragment, and no host name that cannot be looked up
    r"(?i)https?://(\[(?P<v6>[0-9a-f]*:[0-9a-f:.]+)\]|(?P<v4>[0-9.]+)"
    r"|[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*)(:(?P<port>[0-9]{1,5}))?(/[a-z0-9._~-]+)*/?"
)
AN_ADDRESS = "an http or https address with a host and without credentials, query or fragment"
PERCENTAGE = r"([0-9]{1,2}(\.[0-9]{1,6})?|100(\.0{1,6})?)%"


class SettingsError(ValueError):
    """A value that cannot be used; the message is one sentence that names the flag or variable."""


def number(what: str, least: float, most: float, word: str = "", kind: Any = int) -> Any:
    """A parser of numbers in plain digits; the `word` stands for None."""

    def parse(text: str) -> float | None:
        with suppress(ValueError):
            if word and text == word:
                return None
            if re.fullmatch("[0-9.][0-9.eE+-]*", text) and least <= (value := kind(text)) <= most:
                return float(value) if kind is float else int(value)
        raise ValueError(f"{what} from {least} to {most}" + (f", or {word}" if word else ""))

    return parse


def matching(pattern: str, must_be: str, convert: Any = str) -> Any:
    """A parser of texts that match the whole pattern."""

    def parse(text: str) -> Any:
        with suppress(ValueError):
            if re.fullmatch(pattern, text, re.ASCII):
                return convert(text)
        raise ValueError(must_be)

    return parse


def address(text: str) -> str:
    """An address without a slash at its end; ValueError if its port or IP address is wrong."""
    match = re.fullmatch(ADDRESS, text, re.ASCII)
    if not match or not 0 < int(match["port"] or 80) < 65_536:
        raise ValueError
    if ip := match["v6"] or match["v4"]:
        ip_address(ip)
    return text.rstrip("/")


def setting(variable: str, default: str, meaning: str, parse: Any) -> Any:
    """A field of Settings that can be set from outside."""
    return field(metadata={**locals()})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration. At most one of interval and rate is set; in bulk, neither is."""

    # fmt: off
    api_base_url: str = setting("API_BASE_URL", "http://localhost:8000", "where the API is",
        matching(ADDRESS, f"{AN_ADDRESS}, such as http://localhost:8000", address))
    interval_seconds: float | None = setting("SIMULATION_INTERVAL", "5",
        "from one user to the next", number("a number of seconds", 0.001, 86400, "none", float))
    rate_per_second: float | None = setting("SIMULATION_RATE", "none",
        "users a second, at fixed times", number("a number of users", 0.001, 10000, "none", float))
    count: int | None = setting("SIMULATION_COUNT", "endless",
        "how many users; without a pace: in bulk", number("a whole number", 1, 10**9, "endless"))
    seed: int | None = setting("SIMULATION_SEED", "random",
        "the same number gives the same users", number("a whole number", 0, 2**63 - 1, "random"))
    locale: str = setting("SIMULATION_LOCALE", "en_US", "a locale of Faker, for the names",
        matching("[a-z]{2,3}(_[A-Z]{2})?", "a locale such as en_US, de_DE or ja_JP"))
    ages: str = setting("SIMULATION_AGES", "population", "population, uniform or campus",
        matching("population|uniform|campus", "population, uniform or campus"))
    concurrency: int = setting("SIMULATION_CONCURRENCY", "auto",
        "most users at once; auto: 8, or 200 at a rate", number("a whole number", 1, 256, "auto"))
    batch_size: int = setting("SIMULATION_BATCH_SIZE", "1000", "users in one request of a bulk",
        number("a whole number", 1, 10000))
    dry_run: bool = setting("SIMULATION_DRY_RUN", "no", "yes: show the users and send nothing",
        matching("no|yes", "no or yes", "yes".__eq__))
    output: str = setting("SIMULATION_OUTPUT", "text", "text, json (an object a line) or quiet",
        matching("text|json|quiet", "text, json or quiet"))
    fail_over: float = setting("SIMULATION_FAIL_OVER", "100%",
        "exit with 3 if a larger share, or all, were not stored",
        matching(PERCENTAGE, "a percentage from 0% to 100%", lambda text: float(text[:-1] + "e-2")))
    api_token: str | None = field(repr=False)
    # fmt: on

    @property
    def period_seconds(self) -> float | None:
        """Seconds from one user to the next; None in bulk."""
        return 1 / self.rate_per_second if self.rate_per_second else self.interval_seconds

    @property
    def in_bulk(self) -> bool:
        """Are users sent as fast as the API takes them?"""
        return not self.period_seconds and not self.dry_run


SETTINGS = {each.name: each.metadata for each in fields(Settings) if each.metadata}


def read_settings(
    environ: Mapping[str, str] = os.environ, arguments: Sequence[str] = ()
) -> Settings:
    """Read flags, variables and defaults; an empty variable is a mistake. Raises SettingsError."""
    flags, values = read_flags(arguments), dict[str, Any](api_token=read_token(environ))
    strength: dict[str, int] = {}  # 2: given by a flag, 1: by a variable, 0: the default
    for name, each in SETTINGS.items():
        variable = each["variable"]
        strength[name] = 2 if name in flags else int(variable in environ)
        text = flags.get(name, environ.get(variable, each["default"]))
        try:
            values[name] = each["parse"](text)
        except ValueError as error:
            shown = "one with a user name or password" if "@" in text else ascii(text[:80])
            given = flag_of(variable) if name in flags else variable
            raise SettingsError(f"{given} must be {error}, not {shown}") from None
    choose_pace(values, strength["interval_seconds"], strength["rate_per_second"])
    return Settings(**values)


def choose_pace(values: dict[str, Any], interval_strength: int, rate_strength: int) -> None:
    """Keep the interval or the rate, whichever is given in the stronger way; in bulk, neither."""
    interval, rate = values["interval_seconds"], values["rate_per_second"]
    if interval and rate and interval_strength == rate_strength:
        both = "SIMULATION_INTERVAL (--interval) and SIMULATION_RATE (--rate)"
        raise SettingsError(f"{both} both set the pace: give one of them")
    if interval and rate:
        interval, rate = (None, rate) if interval_strength < rate_strength else (interval, None)
    if values["count"] and not rate and not interval_strength:
        interval = None
    if not (interval or rate or values["count"]):
        none = "SIMULATION_INTERVAL (--interval) can be none"
        raise SettingsError(f"{none} only with a rate or a count")
    # macOS allows a process 256 open files.
    concurrency = 1 if interval else values["concurrency"] or (200 if rate else 8)
    values |= {"interval_seconds": interval, "rate_per_second": rate, "concurrency": concurrency}


def read_token(environ: Mapping[str, str]) -> str | None:
    """The value of API_TOKEN, or the line in the file that API_TOKEN_FILE names."""
    token, path, must = environ.get("API_TOKEN"), environ.get("API_TOKEN_FILE"), "API_TOKEN must be"
    if token and path is not None:
        raise SettingsError("API_TOKEN and API_TOKEN_FILE both set the token: give one of them")
    if path is not None:
        token, must = "", "API_TOKEN_FILE must name a readable file with one line:"
        with suppress(OSError, ValueError), Path(path).open("rb") as file:
            token = file.read(300).decode().rstrip("\r\n")
    if token is None or re.fullmatch("[!-~]{8,200}", token):
        return token
    # The value is not repeated: it may be the secret.
    raise SettingsError(f"{must} 8 to 200 printable ASCII characters without white space")


def read_flags(arguments: Sequence[str]) -> dict[str, str]:
    """The given flags by the name of their field; prints the help and exits for `--help`."""
    parser = argparse.ArgumentParser("python main.py", description=HELP, exit_on_error=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.argument_default, parser.allow_abbrev = argparse.SUPPRESS, False
    for name, each in SETTINGS.items():
        words = f"{each['meaning']} [{each['variable']}, default {each['default']}]"
        more: dict[str, Any] = {"nargs": "?", "const": "yes"} if name == "dry_run" else {}
        more |= {"dest": name, "metavar": "value", "help": words.replace("%", "%%")}
        parser.add_argument(flag_of(each["variable"]), **more)
    try:
        known, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise SettingsError(f"{error}; --help shows what can be set") from None
    if unknown:  # only its name, since the value may be a secret
        flag = re.match("--[a-z-]+|-[a-z]|", unknown[0])[0] or "A value without a flag"  # type: ignore[index]
        raise SettingsError(f"{flag} cannot be used; --help shows what can be set")
    return vars(known)


def flag_of(variable: str) -> str:
    """SIMULATION_BATCH_SIZE is --batch-size."""
    return "--" + re.sub("^SIMULATION_", "", variable).lower().replace("_", "-")
