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
        ("ALLOWED_HOSTS", "[::2], fd00::7", "allowed_hosts", ("[::2]", "[fd00::7]", *LOCAL)),
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
    "ALLOWED_HOSTS": ["", "a,,b", "http://api", "api/", "a b", "api:80", "*.a", "[a", "x::1"],
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


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file with a secret in it, as an editor leaves it."""
    path = tmp_path / "secret"
    path.write_text("correct/horse@battery\n", encoding="utf-8")
    return path


def test_secrets_come_from_files(secret: Path) -> None:
    """A file's only line is the token, or the password of the database, whatever is in it."""
    url = "postgresql://lab@database:5432/lab?sslmode=require"
    settings = read_settings(
        {"API_TOKEN_FILE": str(secret), "DATABASE_URL": url, "DATABASE_PASSWORD_FILE": str(secret)}
    )

    assert settings.api_token == "correct/horse@battery"  # noqa: S105 - made up
    assert settings.database_url == url.replace("lab@", "lab:correct%2Fhorse%40battery@")
    assert "horse" not in repr(settings)


@pytest.mark.parametrize("variable", ["API_TOKEN_FILE", "DATABASE_PASSWORD_FILE"])
@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"two\nlines", b"\xff\xfe", b"nul\0", b"x" * 1_001]
)
def test_a_file_without_a_secret(tmp_path: Path, variable: str, content: bytes | None) -> None:
    """What is missing, empty, or not one line of text, is told without repeating any of it."""
    path = tmp_path / "battery"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{variable} must name a file") as caught:
        read_settings({variable: str(path), "DATABASE_URL": "postgresql://lab@database/lab"})
    assert "battery" not in str(caught.value)


@pytest.mark.parametrize("content", ["short", "with a space"])
def test_a_file_with_a_token_that_no_header_can_carry(tmp_path: Path, content: str) -> None:
    """The sentence names the variable that was given."""
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"API_TOKEN_FILE .*must be 8 to 200"):
        read_settings({"API_TOKEN_FILE": str(path)})


def test_a_token_given_twice(secret: Path) -> None:
    """A variable and a file could differ; nobody would know which one counts."""
    with pytest.raises(SettingsError, match="API_TOKEN and API_TOKEN_FILE both set the token"):
        read_settings({"API_TOKEN": "correct-horse", "API_TOKEN_FILE": str(secret)})


def test_an_empty_token_beside_a_file(secret: Path) -> None:
    """An empty variable is no second token: the file's counts."""
    settings = read_settings({"API_TOKEN": "", "API_TOKEN_FILE": str(secret)})

    assert settings.api_token == "correct/horse@battery"  # noqa: S105 - made up


@pytest.mark.parametrize(
    "url",
    [
        None,
        "sqlite:///users.db",
        "postgresql://database/lab",
        "postgresql://lab:other@database/lab",
    ],
)
def test_a_password_that_has_no_place(secret: Path, url: str | None) -> None:
    """A password belongs to a user of a PostgreSQL who does not have one already."""
    environ = {"DATABASE_PASSWORD_FILE": str(secret)}
    with pytest.raises(SettingsError, match="DATABASE_PASSWORD_FILE needs a DATABASE_URL"):
        read_settings(environ if url is None else environ | {"DATABASE_URL": url})


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


def test_an_open_door_stops_the_start() -> None:
    """A server told to listen to the network ends at once: with the reason and exit code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "uvicorn", "main:app", "--host", "0.0.0.0", "--port", "0"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 2
    assert ended.stderr == (
        "API_TOKEN must be set, or OPEN_TO_NETWORK=yes, to listen beyond this machine\n"
    )


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
