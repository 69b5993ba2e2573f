"""Settings: what each variable may be, and the one sentence about a wrong value."""

import os
import random
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import API

from settings import SettingsError, read_settings, refuse_unsafe_start

LOCAL = ("localhost", "127.0.0.1", "[::1]")
URLS = [
    "sqlite:///users.db", "postgresql://a:b@c/d", "postgres://[::1]:5432",
    "postgresql://b,c:1/d?application_name=y", "postgresql:///d?host=/e",
]  # fmt: skip


def test_defaults() -> None:
    """Without any variable the API is local, in memory, and has a limit of users."""
    settings = read_settings({})

    assert settings.database_url is None
    assert settings.api_token is None
    assert settings.max_users == 1_000_000
    assert settings.allowed_hosts == LOCAL
    assert settings.log_format == "text"
    assert settings.drain_seconds == 0
    assert not settings.open_to_network


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("MAX_USERS", "1", "max_users", 1),
        ("MAX_USERS", "999999999", "max_users", 999_999_999),
        ("ALLOWED_HOSTS", "api, LOCALHOST", "allowed_hosts", ("api", *LOCAL)),
        ("ALLOWED_HOSTS", "*", "allowed_hosts", ("*", *LOCAL)),
        ("ALLOWED_HOSTS", "[::2], fd00::7", "allowed_hosts", ("[::2]", "[fd00::7]", *LOCAL)),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("API_TOKEN", "correct-horse", "api_token", "correct-horse"),
        ("OPEN_TO_NETWORK", "yes", "open_to_network", True),
        ("DRAIN_SECONDS", "2.5", "drain_seconds", 2.5),
        *(("DATABASE_URL", url, "database_url", url) for url in URLS),
    ],
)
def test_valid_values(variable: str, value: str, field: str, expected: object) -> None:
    """A value becomes a setting of the right type."""
    assert getattr(read_settings({variable: value}), field) == expected


WRONG = {
    "MAX_USERS": ["", "0", "-1", "1e6", "many", "1000000000", "٣"],
    "ALLOWED_HOSTS": ["", "a,,b", "http://api", "api/", "a b", "api:80", "*.a", "[a", "x::1"],
    "DATABASE_URL": [
        "", "users.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://a/b",
        "postgresql://a b",
    ],
    "API_TOKEN": ["", "short", "with a space", "é" * 10, "x" * 201],
    "OPEN_TO_NETWORK": ["", "perhaps", "2"],
    "LOG_FORMAT": ["", "JSON", "xml"],
    "DRAIN_SECONDS": ["", "-1", "nan", "inf", "301", "soon"],
}  # fmt: skip


def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start a server that should end by itself; return its exit code and its output."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=API,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file with a secret, with the line feed that an editor adds."""
    path = tmp_path / "secret"
    path.write_text("correct/horse@battery\n", encoding="utf-8")
    return path


def test_secrets_come_from_files(secret: Path) -> None:
    """The only line of a file is the token, or the password of the database, percent-encoded."""
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
def test_a_file_without_a_secret_is_rejected(
    tmp_path: Path, variable: str, content: bytes | None
) -> None:
    """A file that is missing, empty or not one line of text; the sentence does not repeat it."""
    path = tmp_path / "battery"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{variable} must name a file") as caught:
        read_settings({variable: str(path), "DATABASE_URL": "postgresql://lab@database/lab"})
    assert "battery" not in str(caught.value)


@pytest.mark.parametrize("content", ["short", "with a space"])
def test_a_file_with_an_invalid_token_is_named(tmp_path: Path, content: str) -> None:
    """The sentence names the variable of the file."""
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"API_TOKEN_FILE .*must be 8 to 200"):
        read_settings({"API_TOKEN_FILE": str(path)})


def test_two_tokens_are_rejected(secret: Path) -> None:
    """The variable and the file could differ."""
    with pytest.raises(SettingsError, match="API_TOKEN and API_TOKEN_FILE both set the token"):
        read_settings({"API_TOKEN": "correct-horse", "API_TOKEN_FILE": str(secret)})


def test_an_empty_token_beside_a_file(secret: Path) -> None:
    """An empty variable is no second token: the one in the file is used."""
    settings = read_settings({"API_TOKEN": "", "API_TOKEN_FILE": str(secret)})

    assert settings.api_token == "correct/horse@battery"  # noqa: S105 - made up


@pytest.mark.parametrize(
    "url", [None, URLS[0], "postgresql://database/lab", "postgresql://lab:other@database/lab"]
)
def test_a_password_file_needs_a_url_without_a_password(secret: Path, url: str | None) -> None:
    """DATABASE_URL must name a PostgreSQL and a user, and have no password."""
    environ = {"DATABASE_PASSWORD_FILE": str(secret)}
    with pytest.raises(SettingsError, match="DATABASE_PASSWORD_FILE needs a DATABASE_URL"):
        read_settings(environ if url is None else environ | {"DATABASE_URL": url})


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_invalid_values(variable: str, value: str) -> None:
    """One sentence names the variable, what it must be, and what it is."""
    with pytest.raises(SettingsError, match=rf"^{variable} must be .+, (or )?not ") as error:
        read_settings({variable: value})

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "command",
    [["uvicorn", "main:app", "--port", "1"], ["fastapi", "dev", "main.py", "--port", "1"]],
    ids=["uvicorn", "fastapi-dev"],
)
def test_a_wrong_value_ends_the_start(command: list[str]) -> None:
    """Whatever starts the API, a wrong value is one sentence and exit code 2."""
    ended = start(*command, MAX_USERS="many")

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
def test_listening_beyond_this_machine_needs_a_token(command: list[str]) -> None:
    """It needs API_TOKEN, or OPEN_TO_NETWORK=yes."""
    with pytest.raises(SettingsError, match="API_TOKEN must be set, or OPEN_TO_NETWORK=yes"):
        refuse_unsafe_start(read_settings({}), command, {})
    refuse_unsafe_start(read_settings({"OPEN_TO_NETWORK": "yes"}), command, {})
    refuse_unsafe_start(read_settings({"API_TOKEN": "correct-horse"}), command, {})


def test_listening_beyond_this_machine_without_a_token_ends_the_start() -> None:
    """The server ends at once, with the reason and exit code 2."""
    ended = start("uvicorn", "main:app", "--host", "0.0.0.0", "--port", "0")

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
def test_several_workers_need_a_database(command: list[str], environ: dict[str, str]) -> None:
    """Otherwise each worker would have different users."""
    with pytest.raises(SettingsError, match="DATABASE_URL must be set for more than one worker"):
        refuse_unsafe_start(read_settings({}), command, environ)
    refuse_unsafe_start(read_settings({"DATABASE_URL": "sqlite:///users.db"}), command, environ)


@pytest.mark.parametrize("command", [["uvicorn", "main:app"], ["fastapi", "dev", "main.py"]])
def test_one_worker_on_this_machine_needs_no_setting(command: list[str]) -> None:
    """On the loopback and with one worker, no variable must be set."""
    refuse_unsafe_start(read_settings({}), command, {})
    refuse_unsafe_start(read_settings({}), [*command, "--host", "127.0.0.1", "--workers", "1"], {})


def test_rejected_workers_end_with_their_supervisor() -> None:
    """`uvicorn --workers 2` ends with the reason; it does not start its workers again."""
    ended = start("uvicorn", "main:app", "--workers", "2", "--port", "0")

    assert "DATABASE_URL must be set for more than one worker" in ended.stderr
    assert ended.returncode not in (0, None)  # of the supervisor (ADR 10)


NEVER = [
    "postgresql://a@h/lab?foo=bar",
    "postgresql://a:%zz-secret@h/lab",
    "postgresql://a:secret@h/lab?sslmode=bogus",
    "postgresql://a:secret@h/lab?target_session_attrs=bogus",
    "postgresql://a:secret@h/lab?channel_binding=bogus",
    "postgresql://a:secret@h/lab?service=bogus",
    "postgresql://a:secret@h/lab?keepalives=bogus",
    "postgresql://a:secret@h/lab?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
    "postgresql://a:secret@h:65536/lab",
    "postgresql://a:secret@b,c:port/lab",
]


@pytest.mark.parametrize("url", NEVER)
def test_a_database_that_can_never_work_is_rejected(url: str) -> None:
    """The sentence says why, and does not contain the password."""
    with pytest.raises(SettingsError, match=r"^DATABASE_URL .+") as error:
        read_settings({"DATABASE_URL": url})

    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def wrong_url(rng: random.Random) -> str:
    """Return a URL with one mistake that no server can repair, and a password."""
    word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 12)))
    enums = ("sslmode", "channel_binding", "gssencmode", "target_session_attrs", "sslnegotiation")
    query = rng.choice(
        (
            f"x_{word}={word}",
            f"{rng.choice(enums)}=x{word}",
            f"keepalives=x{word}",
            f"sslcert=/nowhere/{word}.pem",
            f"ssl_min_protocol_version=x{word}",
        )
    )
    user = f"postgresql://{word}:secret-{word}"
    port = rng.choice((0, 65_536, -1, 10 ** rng.randint(5, 30)))
    return rng.choice((f"{user}@h/lab?{query}", f"{user}@h:{port}/lab", f"{user}%zz@h/lab"))


@pytest.mark.parametrize("seed", range(100))
def test_a_generated_mistake_in_a_url(seed: int) -> None:
    """Whatever can never work is rejected in one sentence, without the password."""
    url = wrong_url(random.Random(seed))
    with pytest.raises(SettingsError, match=r"^DATABASE_URL .+") as error:
        read_settings({"DATABASE_URL": url})

    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="other paths")
@pytest.mark.parametrize("path", ["/", "/etc", "/etc/hostname", "/proc/users.db", "/missing/a.db"])
def test_a_file_that_can_never_be_a_database_ends_the_start(path: str) -> None:
    """A folder, another file, a missing folder: one sentence, and exit code 2."""
    ended = start("uvicorn", "main:app", "--port", "0", DATABASE_URL=f"sqlite:///{path}")

    assert ended.returncode == 2
    reason = r"^DATABASE_URL (cannot be used: .|must be sqlite:///file).+$"
    assert re.search(reason, ended.stderr, re.M)
    assert "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:b@nowhere.invalid/lab?sslmode=require",
        "postgresql://a:b@[::1]:1/lab?target_session_attrs=read-write",
        "postgresql://a@b,c/lab?connect_timeout=3&keepalives=0",
    ],
)
def test_a_database_that_may_come_later_is_accepted(url: str) -> None:
    """A server that does not exist yet, or does not respond, may be there later."""
    assert read_settings({"DATABASE_URL": url}).database_url == url


def test_a_locked_database_may_be_free_later(tmp_path: Path) -> None:
    """Another process may write to the file for a long time."""
    with sqlite3.connect(tmp_path / "users.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert read_settings({"DATABASE_URL": f"sqlite:///{tmp_path}/users.db"}).database_url


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://Lab.Example/", ("https://lab.example",)),
        ("http://a:8000/Api/v1/, https://b", ("http://a:8000/Api/v1", "https://b")),
    ],
)
def test_public_addresses_are_a_list(value: str, expected: tuple[str, ...]) -> None:
    """Names are in lower case, and a slash at the end does not count."""
    assert read_settings({"PUBLIC_URL": value}).public_url == expected


@pytest.mark.parametrize(
    "value", ["", "lab.example", "ftp://a", "https://a?b", "https://a,,https://b"]
)
@pytest.mark.parametrize("variable", ["PUBLIC_URL", "ALLOWED_ORIGINS"])
def test_other_addresses_are_rejected(variable: str, value: str) -> None:
    """An address has a scheme and a host."""
    with pytest.raises(SettingsError, match=f"^{variable} must be"):
        read_settings({variable: value})
