"""The user's machine: its variables, its ports, and what helps against its errors."""

import argparse
import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = os.name == "nt"
TABLES: dict[str, Any] = tomllib.loads((ROOT / "tools/tables.toml").read_text(encoding="utf-8"))
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # without a proxy


class LabError(Exception):
    """An error that the user can correct: the message says how. `exit_code` is for `lab.py`."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def clean_environment() -> dict[str, str]:
    """Return the environment without the user's variables that would change what we start."""
    stays, foreign = re.compile(TABLES["places"]), re.compile(TABLES["foreign"])
    names = [n for n in os.environ if stays.match(n.upper()) or not foreign.match(n.upper())]
    return {name: os.environ[name] for name in names}


def cure_for(text: str) -> str:
    """Return what helps against an error of the user's machine, or an empty text."""
    return next((cure for pattern, cure in TABLES["cures"].items() if re.search(pattern, text)), "")


def sentence(error: Exception) -> str:
    """Return what is wrong, and what helps, in one line."""
    cure = "" if isinstance(error, LabError) else cure_for(str(error))
    text = re.sub(r"\[\w+ \d+\] ", "", str(error))
    return " ".join(f"{text}: {cure}".split()) if cure else text


def run_quietly(*command: str, seconds: float = 30, errors: bool = False) -> str:
    """Return what a command prints (with `errors`, its stderr too), or '' if it does not end."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "env": clean_environment()}
    options |= {"capture_output": True, "text": True, "errors": "replace", "timeout": seconds}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, **options)
        return str(done.stdout + (done.stderr if errors else ""))
    return ""


def argument(kind: str, text: str) -> str:
    """Return an argument of the command line if it is of this kind."""
    pattern, rule = TABLES["arguments"][kind]
    if re.fullmatch(pattern, text):
        return text
    raise argparse.ArgumentTypeError(f"{rule}, not {text!r}")


def refuse_taken_port(port: int, flag: str) -> None:
    """Raise LabError if we cannot listen on a local port; the message names who does."""
    # Some browsers try ::1 first for "localhost".
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        taken = False
        try:
            socket.create_server((host, port), family=family).close()
        except PermissionError:
            raise LabError(f"port {port} is not for you: choose another with {flag}") from None
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
        # macOS and Windows let us bind one address although a server listens on all of them.
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.5):
            taken = True
        if taken:
            why = f"is taken by {holder_of(port)}: stop it, or choose another with {flag}"
            raise LabError(f"port {port} {why}")


def holder_of(port: int) -> str:
    """Return the program that listens on a local port, or a general text if it is not found."""
    command, pattern = TABLES["listeners"].get(sys.platform, TABLES["listeners"]["linux"])
    rows = run_quietly(*(word.replace("PORT", str(port)) for word in command))
    found = re.search(pattern, rows)
    return "{name} (process {id})".format(**found.groupdict()) if found else "another program"
