"""Settings: what each variable may be, and the one sentence that a wrong one gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from settings import Settings, SettingsError, read_settings, refuse_unsafe_start

LOCAL = ("localhost", "127.0.0.1", "[::1]")


def test_nothing_has_to_be_set() -> None:
    """Without any variable the API is local, in memory, and bounded."""
    assert read_settings({}) == Settings()
    assert Settings().max_users == 1_000_000
    assert Settings().allowed_hosts == ("localhost", "127.0.0.1", "[::1]")


@pytest.mark.parametrize(
    ("variable", "value", "field", "meaning"),
    [
        ("MAX_USERS", "1", "max_users", 1),
        ("MAX_USERS", "999999999", "max_users", 999_999_999),
        ("ALLOWED_HOSTS", "api, LOCALHOST", "allowed_hosts", ("api", *LOCAL)),
        ("ALLOWED_HOSTS", "*", "allowed_hosts", ("*", *LOCAL)),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("DATABASE_URL", "sqlite:///users.db", "database_url", "sqlite:///users.db"),
        ("DATABASE_URL", "postgresql://a:b@c/d", "database_url", "postgresql://a:b@c/d"),
        *(
            ("DATABASE_URL", url, "database_url", url)
            for url in (
                "postgres://[::1]:5432",
                "postgresql://b,c:1/d?x=y",
                "postgresql:///d?host=/e",
            )
        ),
        ("API_TOKEN", "correct-horse", "api_token", "correct-horse"),
        ("OPEN_TO_NETWORK", "yes", "open_to_network", True),
        ("DRAIN_SECONDS", "2.5", "drain_seconds", 2.5),
    ],
)
def test_values_that_are_understood(variable: str, value: str, field: str, meaning: object) -> None:
    """A usable value becomes what it means."""
    assert getattr(read_settings({variable: value}), field) == meaning


WRONG = {
    "MAX_USERS": ["", "0", "-1", "1e6", "1_000", "many", "1000000000", "٣"],
    "ALLOWED_HOSTS": ["", "a,,b", "http://api", "api/", "a b"],
    "DATABASE_URL": [
        "",
        "users.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "mysql://a/b",
        "postgresql://a:b@c:65536/d",
        "postgresql://a:b@c,d:port/e",
        "postgresql://a b",
    ],
    "API_TOKEN": ["", "short", "with a space", "é" * 10, "x" * 201],
    "OPEN_TO_NETWORK": ["", "true", "YES"],
    "LOG_FORMAT": ["", "JSON", "xml"],
    "DRAIN_SECONDS": ["", "-1", "nan", "inf", "301", "soon"],
}


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_values_that_cannot_be_used(variable: str, value: str) -> None:
    """A wrong value is named in one sentence, with what it should be."""
    with pytest.raises(SettingsError, match=rf"^{variable} must be .+, (or )?not ") as refusal:
        read_settings({variable: value})

    assert "\n" not in str(refusal.value)


def test_a_database_file_needs_a_folder(tmp_path: Path) -> None:
    """A file may be missing, as it is made; its folder, which somebody misspelt, may not."""
    url = f"sqlite:///{tmp_path}/users.db"
    assert read_settings({"DATABASE_URL": url}).database_url == url
    with pytest.raises(SettingsError, match=r"^DATABASE_URL must name a file in a folder"):
        read_settings({"DATABASE_URL": f"sqlite:///{tmp_path}/missing/users.db"})


@pytest.mark.parametrize(
    "command",
    [["uvicorn", "main:app", "--port", "1"], ["fastapi", "dev", "main.py", "--port", "1"]],
    ids=["uvicorn", "fastapi-dev"],
)
def test_a_wrong_value_stops_the_start(command: list[str]) -> None:
    """However the API is started, a wrong value is one sentence and exit code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "MAX_USERS": "many"},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 2
    assert ended.stderr == "MAX_USERS must be a whole number from 1 to 999999999, not 'many'\n"
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["uvicorn", "main:app", "--host", "0.0.0.0"],
        ["uvicorn", "main:app", "--host=::"],
        ["uvicorn", "main:app", "--host", ""],
        ["uvicorn", "main:app", "--host", "127.0.0.1", "--host", "0.0.0.0"],
        ["fastapi", "run", "main.py"],
        ["fastapi", "--verbose", "run", "main.py"],
        ["fastapi", "dev", "main.py", "--host", "192.0.2.1"],
    ],
    ids=" ".join,
)
def test_an_open_door_is_refused(command: list[str]) -> None:
    """Listening beyond this machine takes a token, or a word that says that this is meant."""
    with pytest.raises(SettingsError, match="API_TOKEN must be set, or OPEN_TO_NETWORK=yes"):
        refuse_unsafe_start(Settings(), command, {})
    refuse_unsafe_start(Settings(open_to_network=True), command, {})
    refuse_unsafe_start(Settings(api_token="correct-horse"), command, {})


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        (["uvicorn", "main:app", "--workers", "2"], {}),
        (["uvicorn", "main:app", "--workers=4"], {}),
        (["uvicorn", "main:app"], {"WEB_CONCURRENCY": "2"}),
        (["uvicorn", "main:app"], {"UVICORN_WORKERS": "2"}),
    ],
)
def test_two_workers_with_two_memories_are_refused(
    command: list[str], environ: dict[str, str]
) -> None:
    """More than one worker takes a store that they share."""
    with pytest.raises(SettingsError, match="DATABASE_URL must be set for more than one worker"):
        refuse_unsafe_start(Settings(), command, environ)
    refuse_unsafe_start(Settings(database_url="sqlite:///users.db"), command, environ)


@pytest.mark.parametrize("command", [["uvicorn", "main:app"], ["fastapi", "dev", "main.py"]])
def test_this_machine_alone_needs_nothing(command: list[str]) -> None:
    """As documented, on loopback and with one worker, there is nothing to refuse."""
    refuse_unsafe_start(Settings(), command, {})
    refuse_unsafe_start(Settings(), [*command, "--host", "127.0.0.1", "--workers", "1"], {})


def test_refused_workers_end_with_their_supervisor() -> None:
    """`uvicorn --workers 2` ends with the reason, instead of starting its workers for ever."""
    ended = subprocess.run(
        [sys.executable, "-m", "uvicorn", "main:app", "--workers", "2", "--port", "0"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert "DATABASE_URL must be set for more than one worker" in ended.stderr
    assert ended.returncode == 0  # the supervisor's, which was asked to end (ADR 10)
