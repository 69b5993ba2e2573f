"""`lab.py backup` and `restore`: all users into a file and back, over the API's HTTP interface."""

import contextlib
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import Terminal, wait_until
from sabotage import ask, posix
from served import Api, Caller

TOKEN = "token-of-the-tests"  # noqa: S105 - made up


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def api(terminal: Callable[..., Terminal], tmp_path: Path, request: pytest.FixtureRequest) -> Api:
    """Return a running API that asks for a token."""
    url = f"sqlite:///{tmp_path / 'users.db'}" if request.param == "sqlite" else None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").url
    api = Api(terminal, url, API_TOKEN=TOKEN)
    api.start()
    return api


def lab(command: str, file: Path, port: int, token: str = TOKEN) -> tuple[int, str]:
    """Run a copy; return its exit code and what it printed."""
    url = f"--url=http://localhost:{port}"
    done = ask(
        sys.executable, "lab.py", command, str(file), url, variables={"API_TOKEN": token}
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def write(file: Path, *users: Any) -> None:
    """Write a file of users; a text is a line as it is."""
    lines = [user if isinstance(user, str) else json.dumps(user) + "\n" for user in users]
    file.write_text("".join(lines), encoding="utf-8")


def user(user_id: Any, name: Any = "Ada", age: Any = 36) -> dict[str, Any]:
    return {"user_id": user_id, "name": name, "age": age}


def listing(api: Api) -> dict[str, Any]:
    """Return all users of the API."""
    with contextlib.closing(Caller(api.port)) as caller:
        response = caller.call("GET", "/users/")
    assert response
    return dict(response.body)


def test_a_copy_has_every_user(api: Api, tmp_path: Path) -> None:
    """What restore stores, backup writes again: names of any script, the largest id, all pages."""
    special = [user(2**53 - 1, "😀" * 100, 150), user(0, "名前", 0), user(7, 'a"\\ ', 99)]
    many = [user(user_id, f"Ünal {user_id}", user_id % 151) for user_id in range(1_000, 3_500)]
    write(tmp_path / "first", *special, *many)

    code, printed = lab("restore", tmp_path / "first", api.port)
    assert (code, "restored: 2,503, already there: 0, conflicting: 0" in printed) == (0, True)
    code, printed = lab("backup", tmp_path / "second", api.port)
    assert (code, f"2,503 users are in {tmp_path / 'second'}" in printed) == (0, True)
    lines = (tmp_path / "second").read_text(encoding="utf-8").splitlines()
    ordered = sorted([*special, *many], key=lambda row: int(row["user_id"]))
    assert list(map(json.loads, lines)) == ordered
    assert not (tmp_path / "second.part").exists()


def test_a_restore_may_be_repeated(api: Api, tmp_path: Path) -> None:
    """Users that are there stay as they are; those that differ are named; each is counted once."""
    write(tmp_path / "users", *(user(user_id) for user_id in range(1, 5)))
    assert lab("restore", tmp_path / "users", api.port)[0] == 0
    write(
        tmp_path / "users",
        user(9),
        user(2),
        user(3, "Bob"),
        user(4, age=1),
        user(9),
        user(9, "Eve"),
    )

    code, printed = lab("restore", tmp_path / "users", api.port)
    assert code == 1
    assert "restored: 1, already there: 2, conflicting: 3" in printed
    named = re.findall(r"line (\d+): the API has another user with the id (\d+)", printed)
    assert named == [("3", "3"), ("4", "4"), ("6", "9")]
    assert listing(api)["3"] == {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    "damaged",
    [
        '{"user_id": 3, "name": "A',  # the end of an interrupted copy
        '{"user_id": 3, "name": "Ada", "age": 36}',  # without the end of the line
        "\n",
        "[]\n",
        "NaN\n",
        "[" * 100_000 + "\n",
        user(True),
        user("3"),
        user(3, None),
        user(3, ""),
        user(3, "\ud800"),
        user(3, "Ada", 36.5),
        user(3) | {"more": 1},
        {"user_id": 3, "age": 1},
    ],
    ids=lambda damaged: str(damaged)[:40].encode("ascii", "replace").decode(),
)
def test_a_damaged_file_is_refused(tmp_path: Path, damaged: Any) -> None:
    """The line is named before anything is sent: no API is needed for that."""
    write(tmp_path / "users", user(1), user(2), damaged)
    code, printed = lab("restore", tmp_path / "users", 9)

    assert (code, printed) == (1, f"lab       line 3 of {tmp_path / 'users'} is not a whole user\n")


@pytest.mark.parametrize(
    "wrong", [user(-1), user(2**53), user(3, "a\u0007b"), user(3, "x" * 101), user(3, "Ada", 151)]
)
def test_a_user_that_the_api_refuses(
    terminal: Callable[..., Terminal], tmp_path: Path, wrong: Any
) -> None:
    """Its line is named; what was counted before it is exact."""
    api = Api(terminal, None)
    api.start()
    write(tmp_path / "users", *(user(user_id) for user_id in range(10, 1_010)), user(1), wrong)
    code, printed = lab("restore", tmp_path / "users", api.port)

    assert code == 1
    assert "line 1002: the API responds with 422" in printed
    assert "restored: 1,000, already there: 0, conflicting: 0" in printed
    assert len(listing(api)) == 1_000


def test_wrong_arguments(tmp_path: Path) -> None:
    """A file or an address that cannot be used: one sentence, exit code 2."""
    write(tmp_path / "users", user(1))
    for arguments in (
        ("restore", str(tmp_path / "nothing")),
        ("backup", str(tmp_path / "no folder" / "users")),
        ("restore", str(tmp_path / "users"), "--url=ftp://localhost"),
        ("backup", str(tmp_path / "copy"), "--url="),
        ("backup",),
        ("backup", str(tmp_path / "copy"), "--more"),
    ):
        done = ask(sys.executable, "lab.py", *arguments)

        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


def test_without_the_token(api: Api, tmp_path: Path) -> None:
    """The API's reason is printed, not the token."""
    write(tmp_path / "users", user(1))
    code, printed = lab("restore", tmp_path / "users", api.port, token="another-token")

    assert code == 1
    assert "the API responds with 401" in printed
    assert "another-token" not in printed


class Strange(BaseHTTPRequestHandler):
    """A server that is not our API: its path says what it responds."""

    RESPONSES: ClassVar = {
        "html": (200, "<html>"),
        "list": (200, "[1]"),
        "shape": (200, '{"a": 1}'),
        "error": (500, "{}"),
        "busy": (503, "{}"),
    }

    def do_GET(self) -> None:
        status, body = self.RESPONSES[self.path.split("/")[1]]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def strange() -> Iterator[str]:
    """Yield the address of a server that is not our API."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize("kind", ["html", "list", "shape", "error"])
def test_a_server_that_is_not_the_api(
    strange: str, tmp_path: Path, command: str, kind: str
) -> None:
    """Whatever responds: one sentence, exit code 1, and no half file."""
    write(tmp_path / "users", user(1))
    before = (tmp_path / "users").read_bytes()
    done = ask(
        sys.executable, "lab.py", command, str(tmp_path / "users"), f"--url={strange}/{kind}"
    )

    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "users").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


@posix
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM"])
def test_an_interrupted_backup_leaves_no_file(
    terminal: Callable[..., Terminal], strange: str, tmp_path: Path, ending: str
) -> None:
    """While it waits for a busy API it can be stopped; the exit code is 130."""
    copy = terminal(
        sys.executable, "lab.py", "backup", str(tmp_path / "copy"), f"--url={strange}/busy"
    )
    wait_until("the start", (tmp_path / "copy.part").exists)

    assert copy.stop(signal.Signals[ending]) == 130
    assert [path.name for path in tmp_path.iterdir()] == []
