"""Each setting has an environment variable and a flag. Only this file reads the environment."""

import argparse
import os
import pkgutil
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HELP = """Draws plausible users, sends them to the User Management API, and accounts for each one.

  python main.py --rate 200 --duration 60s        a minute of constant load
  python main.py --count 1000000                  a million users, as fast as the API takes them
  python main.py --count 20 --seed 7 --locale ja_JP --dry-run"""
# No credentials, query or fragment, and no host name that cannot be looked up.
ADDRESS = r"(?i)https?://(\[[0-9a-f]*:[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]+)?(/[a-z0-9._~-]+)*/?"
NUMBER = "[0-9.][0-9.eE+-]*"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
WORDS = {"none": None, "endless": None, "random": None, "auto": None, "yes": True, "no": False}


class SettingsError(ValueError):
    """A value that cannot be used; the message is one sentence that names the flag or variable."""


def address(text: str) -> str:
    """An address without a slash at its end; ValueError if its host or port is wrong."""
    url = urlsplit(text)
    host = url.hostname or ""
    if ":" in host or host.replace(".", "").isdigit():
        ip_address(host)
    if url.port == 0 or not host.encode("idna"):  # raises ValueError if too long
        raise ValueError
    return text.rstrip("/")


def seconds(text: str) -> float:
    """The seconds of 200ms, 60s, 2m, 1h or 60."""
    number = text.rstrip("msh")
    return float(number) * UNITS[text[len(number) :]]


def setting(
    variable: str, default: str, must_be: str, pattern: str, convert: Any = str, *bounds: float
) -> Any:
    """A field of Settings: its text matches the pattern, its number is within the bounds."""

    def parse(text: str) -> Any:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError
        value = WORDS[text] if text in WORDS else convert(text)
        if bounds and value is not None and not bounds[0] <= value <= bounds[1]:
            raise ValueError
        return value

    # The flag of SIMULATION_BATCH_SIZE is --batch-size.
    flag = "--" + variable.removeprefix("SIMULATION_").lower().replace("_", "-")
    must_be = must_be.format(*bounds)
    return field(metadata={**locals()})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration. At most one of interval and rate is set; in bulk, neither is."""

    # fmt: off
    api_base_url: str = setting("API_BASE_URL", "http://localhost:8000",
        "an http or https address with a host, without credentials, query or fragment",
        ADDRESS, address)
    interval_seconds: float | None = setting("SIMULATION_INTERVAL", "5",
        "a number of seconds from {} to {}, or none", f"{NUMBER}|none", float, 0.001, 86400)
    rate_per_second: float | None = setting("SIMULATION_RATE", "none",
        "a number of users a second from {} to {}, or none", f"{NUMBER}|none", float, 0.001, 10000)
    count: int | None = setting("SIMULATION_COUNT", "endless",
        "a number of users from {} to {}, or endless", f"{NUMBER}|endless", int, 1, 10**9)
    duration_seconds: float | None = setting("SIMULATION_DURATION", "endless",
        "a time such as 60s, 2m or 1h, from {} to {} seconds, or endless",
        f"{NUMBER}[msh]*|endless", seconds, 0.001, 30 * 86400)
    arrivals: str = setting("SIMULATION_ARRIVALS", "constant",
        "constant (equal gaps between users) or poisson (random gaps)", "constant|poisson")
    seed: int | None = setting("SIMULATION_SEED", "random",
        "a number from {} to {}, or random", f"{NUMBER}|random", int, 0, 2**63 - 1)
    locale: str = setting("SIMULATION_LOCALE", "en_US",
        "a locale of Faker such as en_US, de_DE or ja_JP", "[A-Za-z_-]{2,20}")
    ages: str = setting("SIMULATION_AGES", "population",
        "population, uniform or campus", "population|uniform|campus")
    concurrency: int = setting("SIMULATION_CONCURRENCY", "auto",
        "a number of users at once from {} to {}, or auto", f"{NUMBER}|auto", int, 1, 256)
    batch_size: int = setting("SIMULATION_BATCH_SIZE", "1000",
        "a number of users in a request from {} to {}", NUMBER, int, 1, 10000)
    dry_run: bool = setting("SIMULATION_DRY_RUN", "no", "yes (send nothing) or no", "yes|no")
    output: str = setting("SIMULATION_OUTPUT", "text", "text, json or quiet", "text|json|quiet")
    fail_over: float = setting("SIMULATION_FAIL_OVER", "100%",
        "the largest share of failed users, from 0% to 100%",
        r"[0-9]{1,2}(\.[0-9]+)?%|100(\.0+)?%", lambda text: float(text[:-1] + "e-2"))
    fail_p95_seconds: float | None = setting("SIMULATION_FAIL_P95", "none",
        "the largest 95th percentile of the latency, such as 200ms or 1.5s, or none",
        f"{NUMBER}[msh]*|none", seconds, 1e-6, 86400)
    # fmt: on
    api_token: str | None = field(repr=False)
    period_seconds: float | None  # from one user to the next; None in bulk


SETTINGS = {each.name: each.metadata for each in fields(Settings) if each.metadata}


def read_settings(
    environ: Mapping[str, str] = os.environ, arguments: Sequence[str] = ()
) -> Settings:
    """Read flags, variables and defaults; an empty variable is an error. Raises SettingsError."""
    flags, values = read_flags(arguments), dict[str, Any](api_token=read_token(environ))
    strength: dict[str, int] = {}  # 2: given by a flag, 1: by a variable, 0: the default
    for name, each in SETTINGS.items():
        variable = each["variable"]
        strength[name] = 2 if name in flags else int(variable in environ)
        text = flags.get(name, environ.get(variable, each["default"]))
        try:
            values[name] = each["parse"](text)
        except (ValueError, KeyError, TypeError):  # TypeError: argparse makes a list of "--"
            shown = "one with a user name or password" if "@" in text else ascii(text[:80])
            given = each["flag"] if name in flags else variable
            raise SettingsError(f"{given} must be {each['must_be']}, not {shown}") from None
    choose_pace(values, strength["interval_seconds"], strength["rate_per_second"])
    return Settings(**values)


def choose_pace(values: dict[str, Any], interval_strength: int, rate_strength: int) -> None:
    """Keep the interval or the rate: flags come before variables and defaults. In bulk, none."""
    interval, rate = values["interval_seconds"], values["rate_per_second"]
    if interval and rate and interval_strength == rate_strength:
        both = "SIMULATION_INTERVAL (--interval) and SIMULATION_RATE (--rate)"
        raise SettingsError(f"{both} both set the pace: give one of them")
    if (values["count"] and not interval_strength) or (rate and interval_strength < rate_strength):
        interval = None
    rate = None if interval else rate
    if not (interval or rate or values["count"] or values["duration_seconds"]):
        none = "SIMULATION_INTERVAL (--interval) can be none"
        raise SettingsError(f"{none} only with a rate, a count or a duration")
    if values["arrivals"] == "poisson" and not rate:
        raise SettingsError("SIMULATION_ARRIVALS (--arrivals) can be poisson only with a rate")
    # Not more than 200: macOS allows a process only 256 open files.
    values["concurrency"] = 1 if interval else values["concurrency"] or (200 if rate else 8)
    values |= {"interval_seconds": interval, "rate_per_second": rate}
    values["period_seconds"] = 1 / rate if rate else interval


def check_locale(locale: str) -> None:
    """Raise SettingsError, which names near locales, if Faker has no names for this one."""
    from faker.providers import person  # takes 0.1 s: other mistakes are reported before

    # For a locale without names Faker takes those of another one, and does not say so.
    known = [module.name for module in pkgutil.iter_modules(person.__path__)]
    if locale not in known:
        language, country = locale[:2].lower(), locale[-2:].upper()
        near = [each for each in known if language == each[:2] or country == each[-2:]]
        why = f"Faker has no names for {locale}; it has some for {', '.join(near) or 'en_US'}"
        raise SettingsError(f"SIMULATION_LOCALE (--locale): {why}")


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
        words = f"{each['must_be']} [{each['variable']}, default {each['default']}]"
        more: dict[str, Any] = {"nargs": "?", "const": "yes"} if name == "dry_run" else {}
        more |= {"dest": name, "metavar": "value", "help": words.replace("%", "%%")}
        parser.add_argument(each["flag"], **more)
    try:
        known, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise SettingsError(f"{error}; --help shows what can be set") from None
    if unknown:  # only its name, since the value may be a secret
        found = re.findall("^--[a-z0-9-]+|^-[a-z]", unknown[0])
        flag = found[0] if found else "A value without a flag"
        raise SettingsError(f"{flag} cannot be used; --help shows what can be set")
    return vars(known)
