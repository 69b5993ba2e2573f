"""`lab.py doctor`, `stop` and `clean` on machines that the tests break."""

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Lab, Terminal, wait_until
from sabotage import ask, posix

from tools import doctor, machine
from tools.processes import ROOT

pytestmark = posix


class Index(BaseHTTPRequestHandler):
    """A package index whose path says how it behaves."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "hangs":
            time.sleep(8)
        self.send_response_only({"password": 401, "proxy": 407, "broken": 502}.get(kind, 200))
        self.send_header("Date", formatdate(time.time() + (7_200 if kind == "clock" else 0)))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """Yield the address of a package index on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def commands(folder: Path, **scripts: str) -> str:
    """Write shell scripts that stand for programs; return a PATH with them and little else."""
    folder.mkdir()
    scripts = {"uv": "echo uv 9.9.9", "ps": ":", "ss": ":", **scripts}
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}/nowhere"


DOCKER = 'case "$1" in version) echo Server;; compose) echo Docker Compose version 2;; esac'
OLD_DOCKER = 'case "$1" in version) echo Server;; *) exit 1;; esac'


def docker(message: str) -> dict[str, str]:
    """Return a `docker` that fails with a message."""
    return {"docker": f'echo "{message}" >&2; exit 1'}


# What is broken: scripts, variables (INDEX is the package index), and the sentence about it.
SABOTAGE: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("no fault", {}, {}, ""),
    ("no docker", {}, {}, r"docker +fine \(not installed"),
    ("docker and compose", {"docker": DOCKER}, {}, r"docker +fine \(Docker Compose version 2"),
    (
        "the classic docker-compose",
        {"docker": OLD_DOCKER, "docker-compose": "echo docker-compose version 1.29.2"},
        {},
        r"docker +fine \(docker-compose version 1",
    ),
    (
        "no engine",
        docker("Cannot connect to the Docker daemon at unix:///var/run/docker.sock."),
        {},
        "the Docker engine is not running",
    ),
    (
        "no engine on Windows",
        docker("error during connect: open //./pipe/docker_engine: The system cannot find it"),
        {},
        "the Docker engine is not running",
    ),
    (
        "no permission",
        docker("permission denied while trying to connect to the Docker daemon socket"),
        {},
        "usermod -aG docker",
    ),
    ("an engine that hangs", {"docker": "exec sleep 60"}, {}, "Docker engine does not respond"),
    ("a strange docker", docker("segmentation fault"), {}, "Docker engine does not respond"),
    ("no compose", {"docker": OLD_DOCKER}, {}, "install docker-compose-plugin"),
    (
        "containers of the lessons",
        {"docker": f'[ "$1" = inspect ] && echo /api0 && echo microservices; {DOCKER}'},
        {},
        "Docker has api0, microservices: `python3 lab.py clean` removes them",
    ),
    ("a uv that hangs", {"uv": "exec sleep 60"}, {}, r"python +fine"),
    ("a uv that is too old", {"uv": "echo uv 0.1.3"}, {}, r"python +fine"),
    ("a uv that is broken", {"uv": "exit 127"}, {}, r"python +fine"),
    ("no network", {}, {"PIP_INDEX_URL": "http://127.0.0.1:9"}, "no package index can be reached"),
    ("no DNS", {}, {"PIP_INDEX_URL": "http://no.invalid"}, "no package index can be reached"),
    ("an index that hangs", {}, {"PIP_INDEX_URL": "INDEX/hangs"}, "no package index|no result"),
    ("an index with a password", {}, {"PIP_INDEX_URL": "INDEX/password"}, "asks for a password"),
    ("a proxy with a password", {}, {"PIP_INDEX_URL": "INDEX/proxy"}, "asks for a password"),
    ("an index in trouble", {}, {"PIP_INDEX_URL": "INDEX/broken"}, "no package index can be"),
    ("another clock", {}, {"PIP_INDEX_URL": "INDEX/clock"}, "the clock of this machine is wrong"),
    (
        "a dead proxy",
        {},
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost"},
        "no package index can be reached",
    ),
    (
        "a proxy without exceptions",
        {},
        {"HTTPS_PROXY": "http://127.0.0.1:9"},
        "set NO_PROXY=localhost,127.0.0.1",
    ),
    ("a proxy that is no address", {}, {"HTTPS_PROXY": "proxy 3128"}, "HTTPS_PROXY must be an"),
    ("a missing certificate", {}, {"PIP_CERT": "/nowhere/ca.pem"}, "No such file"),
    ("variables of pip", {}, {"PIP_USER": "1"}, "ignored: .*PIP_USER"),
    ("variables of Python", {}, {"PYTHONPATH": "/x"}, "ignored: .*PYTHONPATH"),
    (
        "variables of Streamlit",
        {},
        {"STREAMLIT_SERVER_PORT": "1"},
        "ignored: .*STREAMLIT_SERVER_PORT",
    ),
    (
        "no programs at all",
        {"uv": "exit 1", "ps": "exit 1", "ss": "exit 1"},
        {},
        r"leftovers +fine",
    ),
]


@pytest.mark.parametrize(
    ("scripts", "variables", "sentence"),
    [row[1:] for row in SABOTAGE],
    ids=[row[0] for row in SABOTAGE],
)
def test_what_is_broken_is_named(
    tmp_path: Path, checkout: Path, index: str, scripts: dict[str, str],
    variables: dict[str, str], sentence: str,
) -> None:  # fmt: skip
    """Each broken part gets one sentence within five seconds; there is never a traceback."""
    path = commands(tmp_path / "bin", **scripts)
    clean = {name: "" for name in os.environ if re.search(r"(?i)proxy|^(PIP|PYTHON)", name)}
    told = {name: value.replace("INDEX", index) for name, value in variables.items()}
    given = {
        "PIP_INDEX_URL": f"{index}/simple",
        **told,
        "PATH": path,
        "PIP_CONFIG_FILE": os.devnull,
    }
    began = time.monotonic()
    done = ask(sys.executable, "lab.py", "doctor", folder=checkout, variables=clean | given)
    seconds = time.monotonic() - began

    parts = [line.split(maxsplit=2)[1] for line in done.stdout.splitlines()]
    assert parts == ["python", "variables", "folder", "network", "ports", "docker", "leftovers"]
    assert re.search(sentence, done.stdout), done.stdout
    assert done.stderr == ""
    wrong = [line for line in done.stdout.splitlines() if not re.match(r"lab +\w+ +fine", line)]
    assert done.returncode == bool(wrong)
    print(f"{seconds:.1f} s")


@pytest.mark.parametrize(
    ("what", "value", "part", "sentence"),
    [
        ("sys.maxsize", 2**31 - 1, "python", "install the x64 Python"),
        ("tools.doctor.find_spec", lambda name: name != "_ssl", "python", "lacks _ssl: on Debian"),
        ("tools.doctor.find_spec", lambda name: name != "venv", "python", "lacks venv"),
        ("tools.doctor.find_spec", lambda name: name != "_sqlite3", "python", "lacks _sqlite3"),
        ("tools.doctor.find_uv", lambda **_: "", "python", ""),
        ("os.access", lambda *_: False, "folder", "is protected: a file belongs to another user"),
        ("shutil.disk_usage", lambda _: Free(10_000_000), "folder", "the disk is full: free 1 GB"),
        ("tools.doctor.source", lambda: ["--no-index"], "network", "there is a bundle"),
    ],
)
def test_what_a_script_cannot_break(
    monkeypatch: pytest.MonkeyPatch, what: str, value: Any, part: str, sentence: str
) -> None:
    """A Python without a part, a protected folder, a full disk: one sentence for each."""
    monkeypatch.setattr(what, value)
    found = next(getattr(doctor, part)(), "")

    assert sentence in found


class Free(NamedTuple):
    """A disk with some free bytes."""

    free: int


@pytest.mark.xdist_group("docker")  # its tests use the same port
def test_taken_ports_are_named() -> None:
    """The program that uses one of our ports is named."""
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 8501)):
        done = ask(sys.executable, "lab.py", "doctor")

    assert re.search(r"ports +port 8[05]0[01] is taken by .+: stop it, or choose", done.stdout)


@pytest.fixture
def prepared(checkout: Path) -> Path:
    """Return a checkout that has the environments of this one."""
    for service in machine.TABLES["services"]:
        (checkout / service / ".venv").symlink_to(ROOT / service / ".venv")
    return checkout


def test_stop_ends_an_up(terminal: Callable[..., Terminal], prepared: Path) -> None:
    """`stop` ends the `up` of its checkout, as Ctrl-C does, and `up` of no other checkout."""
    lab, other = Lab(terminal, folder=prepared), Lab(terminal)
    assert (
        "3 processes of an `up` run"
        in ask(sys.executable, "lab.py", "doctor", folder=prepared).stdout
    )
    done = ask(sys.executable, "lab.py", "stop", folder=prepared)

    assert (done.returncode, done.stdout) == (0, "lab       3 services ended\n")
    assert lab.terminal.process.wait(10) == 0
    assert other.terminal.process.poll() is None
    again = ask(sys.executable, "lab.py", "stop", folder=prepared)
    assert (again.returncode, again.stdout) == (0, "lab       no service of this checkout runs\n")


def test_stop_ends_what_was_left(terminal: Callable[..., Terminal], prepared: Path) -> None:
    """Services whose `up` and guard were both killed are found and ended."""
    lab = Lab(terminal, folder=prepared)
    rows = ask("ps", "-ww", "-Ao", "pid=,ppid=,args=").stdout
    up = lab.terminal.process.pid
    (guard,) = re.findall(rf"^ *(\d+) +{up} .*guard\.py$", rows, re.M)
    ask("kill", "-9", guard)
    lab.terminal.process.kill()
    lab.terminal.process.wait()
    done = ask(sys.executable, "lab.py", "stop", folder=prepared)

    # The simulator may have ended already: nobody reads what it prints.
    assert done.returncode == 0
    assert re.fullmatch(r"lab +[23] services ended\n", done.stdout)
    wait_until("the end", lambda: f"{prepared}/api" not in ask("ps", "-ww", "-Ao", "args=").stdout)


def test_clean_removes_and_tells(prepared: Path, tmp_path: Path) -> None:
    """It prints what it removes; users stay unless they are asked for; a link's target stays."""
    for name in (
        ".lab/uv/bin/uv",
        "tools/__pycache__/a.pyc",
        ".venv/lib/b",
        "users.db",
        "api/main.pyc",
    ):
        (prepared / name).parent.mkdir(parents=True, exist_ok=True)
        (prepared / name).write_text("")
    path = commands(tmp_path / "bin")
    done = ask(sys.executable, "lab.py", "clean", folder=prepared, variables={"PATH": path})

    removed = {line.split()[-1] for line in done.stdout.splitlines() if "removed" in line}
    assert removed >= {".lab", ".venv", "tools/__pycache__", "api/.venv", "frontend/.venv"}
    assert (done.returncode, (prepared / "users.db").exists()) == (0, True)
    assert (ROOT / "api" / ".venv" / "pyvenv.cfg").exists()
    done = ask(
        sys.executable, "lab.py", "clean", "--users", folder=prepared, variables={"PATH": path}
    )
    assert "removed users.db" in done.stdout
    assert not (prepared / "users.db").exists()


def test_clean_asks_docker_for_what_is_ours_only(prepared: Path, tmp_path: Path) -> None:
    """Containers and networks of the documents are removed, and no volume with users."""
    log = tmp_path / "log"
    script = f'echo "$@" >> {log}; [ "$1" = inspect ] && echo /api0 && echo microservices; exit 0'
    path = commands(tmp_path / "bin", docker=script)
    ask(sys.executable, "lab.py", "clean", folder=prepared, variables={"PATH": path})

    asked = [line for line in log.read_text().splitlines() if not line.startswith("inspect")]
    names = ("api0", "microservices")
    kinds = ("container rm --force", "network rm")
    assert asked == [f"{kind} {name}" for name in names for kind in kinds]
