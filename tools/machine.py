"""The user's machine: variables that would change what we start, and cures of its errors."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

# Those that say where packages are stay.
FOREIGN = re.compile(
    r"(PIP|UV|PYTHON|STREAMLIT|UVICORN)_|PYTHON[A-Z]"
    r"|(UV|WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|VIRTUAL_ENV|__PYVENV_LAUNCHER__)$"
)
PLACES = re.compile(
    r"PIP_(CONFIG_FILE|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|(CLIENT_)?CERT|PROXY"
    r"|TRUSTED_HOST|DEFAULT_TIMEOUT|TIMEOUT|RETRIES|CACHE_DIR|KEYRING_PROVIDER)$"
    r"|UV_(.*INDEX(_.*)?|FIND_LINKS|.*CACHE.*|SYSTEM_CERTS|NATIVE_TLS|INSECURE_HOST|KEYRING.*|HTTP.*)$"
)
# pip's settings that say where packages are, and uv's variables for the same.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
CURES = tomllib.loads(Path(__file__).with_name("cures.toml").read_text(encoding="utf-8"))


def clean_environment() -> dict[str, str]:
    """Return the environment without the user's variables that would change what we start."""
    return {
        name: value
        for name, value in os.environ.items()
        if PLACES.match(name.upper()) or not FOREIGN.match(name.upper())
    }


def cure_for(text: str) -> str:
    """Return what helps against an error of the user's machine, or an empty text."""
    return next((str(cure) for pattern, cure in CURES.items() if re.search(pattern, text)), "")


def run_quietly(*command: str, seconds: float = 5, errors: bool = False) -> str:
    """Return what a command prints; an empty text if it does not start or end in time.

    With `errors`, what it prints to stderr follows.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds,
            env=clean_environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + (done.stderr if errors else "")
