"""`lab.py`: `up` starts and stops the whole system; `test`, environments and messages."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from conftest import Lab, Terminal, free_port, wait_until

import lab
from tools.machine import LabError, refuse_taken_port
from tools.processes import ROOT

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)

ENDINGS = ["SIGINT", "SIGTERM", "SIGHUP"]


def is_open(port: int) -> bool:
    """Return whether something listens on a local port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ps(*options: str) -> str:
    """Return the process table; -ww prints long lines completely."""
    return subprocess.run(["ps", "-ww", *options], capture_output=True, text=True).stdout


def children_of(pid: int) -> list[int]:
    """Return all processes below one, from Linux's and macOS's process table."""
    rows = [row.split() for row in ps("-Ao", "pid=,ppid=").splitlines()]
    parents = {int(child): int(parent) for child, parent in rows}
    below = [pid]
    for parent in below:
        below += [child for child, its_parent in parents.items() if its_parent == parent]
    return below[1:]


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    return ps("-o", "state=", "-p", str(pid)).strip() not in ("", "Z")


@pytest.fixture
def hangup() -> Iterator[None]:
    """Do not ignore SIGHUP in the test's processes, even if these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("ending", ENDINGS)
def test_up_and_down(terminal: Callable[..., Terminal], http: httpx2.Client, ending: str) -> None:
    """Users arrive, both pages work; then one signal leaves no process and no open port."""
    lab = Lab(terminal, SIMULATION_INTERVAL="0.2")
    wait_until(
        "three users", lambda: http.get(f"{lab.api_url}/stats/ages").json()["total"] >= 3, 30
    )
    assert http.get(lab.dashboard_url).status_code == 200
    assert http.get(f"{lab.api_url}/docs").status_code == 200
    children = children_of(lab.terminal.process.pid)
    assert len(children) >= 3

    assert lab.terminal.stop(signal.Signals[ending]) == 0

    wait_until("the end of all", lambda: not any(map(is_alive, children)), 2)
    assert not is_open(lab.api_port)
    assert not is_open(lab.dashboard_port)


INTERRUPTED = """
import os, signal, time
from tools.processes import stop_requested
signal.signal(signal.SIGUSR1, lambda *_: stop_requested.set())
us = os.getpid()
if os.fork() == 0:
    for _ in range(2_000):
        time.sleep(0.001)
        os.kill(us, signal.SIGUSR1)
    os._exit(0)
while not os.waitpid(-1, os.WNOHANG)[0]:
    for _ in range(1_000):
        stop_requested.wait(0)
"""


def test_a_signal_at_the_worst_moment() -> None:
    """A signal at any moment of a wait is noticed, and never causes a deadlock."""
    command = [sys.executable, "-c", INTERRUPTED]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.usefixtures("hangup")
def test_nohup(terminal: Callable[..., Terminal], http: httpx2.Client) -> None:
    """Started by `nohup` it continues when its terminal is closed."""
    ports = [str(free_port()), str(free_port())]
    up = ["lab.py", "up", "--api-port", ports[0], "--dashboard-port", ports[1]]
    lab = terminal("nohup", sys.executable, *up, SIMULATION_INTERVAL="0.1")
    lab.wait_for("Ctrl-C stops everything")
    sent = lab.count("POST /users/ 201")
    lab.process.send_signal(signal.SIGHUP)

    lab.wait_for("POST /users/ 201", times=sent + 5)
    assert http.get(f"http://localhost:{ports[1]}").status_code == 200
    assert lab.stop() == 0


def test_a_simulator_that_has_sent_its_users(
    terminal: Callable[..., Terminal], http: httpx2.Client
) -> None:
    """With a count it ends when all users are created; the other services continue."""
    lab = Lab(terminal, SIMULATION_COUNT="5")
    lab.terminal.wait_for("the simulator has sent its users: the others go on")

    assert len(http.get(f"{lab.api_url}/users/").json()) == 5
    assert http.get(lab.dashboard_url).status_code == 200
    assert lab.terminal.stop() == 0


def test_without_an_output() -> None:
    """With a closed stdout it prints no message, and the exit code is the same."""
    up = '"$0" lab.py up --api-port 7 --dashboard-port 7 >&-'
    command = ["sh", "-c", up, sys.executable]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (2, "")


@pytest.mark.parametrize("port", ["0", "65536", "٣", "²", "8000.0", "-1", "000080", "http", ""])
def test_an_invalid_port_is_refused(port: str) -> None:
    """One sentence says what a port is; the exit code is 2."""
    command = [sys.executable, "lab.py", "up", f"--api-port={port}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 2
    assert "a port is a number from 1 to 65535" in ended.stderr


def test_each_line_has_the_name_of_its_service(terminal: Callable[..., Terminal]) -> None:
    """Each line begins with a service's name; it prints both addresses; no colour in a pipe."""
    lab = Lab(terminal, SIMULATION_INTERVAL="0.1")
    lab.terminal.wait_for("POST /users/ 201", times=3)
    lab.terminal.stop()

    assert lab.terminal.count(f"http://localhost:{lab.dashboard_port}") >= 1
    assert lab.terminal.count(f"http://localhost:{lab.api_port}/docs") >= 1
    names = {line.split(maxsplit=1)[0] for line in lab.terminal.lines if line}
    assert names == {"lab", "api", "simulator", "dashboard"}
    assert "\033" not in "".join(lab.terminal.lines)


def test_a_closed_pipe(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """In `lab.py up | tee log`, Ctrl-C ends `tee` too: everything stops without a traceback."""
    ports = [free_port(), free_port()]
    up = f"{sys.executable} lab.py up --api-port {ports[0]} --dashboard-port {ports[1]}"
    log = tmp_path / "stderr"
    piped = terminal("bash", "-c", f"{up} 2> {log} | tee", SIMULATION_INTERVAL="0.1")
    piped.wait_for("POST /users/ 201")
    children = children_of(piped.process.pid)
    commands = {ps("-o", "args=", "-p", str(pid)).strip(): pid for pid in children}
    os.kill(commands["tee"], signal.SIGKILL)
    try:
        piped.process.wait(20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(commands[up], signal.SIGTERM)

    assert log.read_text() == ""
    wait_until("the end of all", lambda: not any(map(is_alive, children)), 2)
    assert not any(map(is_open, ports))


def test_the_first_crash_stops_the_others(terminal: Callable[..., Terminal]) -> None:
    """When one service ends, the others are stopped, it is named, and the exit code is not 0."""
    lab = Lab(terminal)
    children = children_of(lab.terminal.process.pid)
    commands = {pid: ps("-o", "args=", "-p", str(pid)) for pid in children}
    (api,) = [pid for pid, command in commands.items() if "uvicorn" in command]
    os.kill(api, signal.SIGKILL)

    assert lab.terminal.process.wait(20) not in (0, None)
    lab.terminal.wait_for("api ended with exit code -9")
    wait_until("the end of all", lambda: not any(map(is_alive, children)), 2)
    assert not is_open(lab.dashboard_port)


def test_a_wrong_setting_stops_everything(
    terminal: Callable[..., Terminal],
) -> None:
    """The service's sentence about the wrong value is printed, and its exit code returned."""
    ports = ["--api-port", str(free_port()), "--dashboard-port", str(free_port())]
    lab = terminal(sys.executable, "lab.py", "up", *ports, SIMULATION_INTERVAL="abc")

    assert lab.process.wait(60) == 2
    lab.wait_for("SIMULATION_INTERVAL must be")
    assert not lab.count("Traceback")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("flag", ["--api-port", "--dashboard-port"])
def test_a_taken_port_is_named_with_its_holder(
    terminal: Callable[..., Terminal], flag: str, host: str
) -> None:
    """Before the start, a message names the program that uses the port, and the right option."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with server as holder:
        port = holder.getsockname()[1]
        ports = {"--api-port": free_port(), "--dashboard-port": free_port(), flag: port}
        words = [str(word) for pair in ports.items() for word in pair]
        lab = terminal(sys.executable, "lab.py", "up", *words)

        assert lab.process.wait(10) == 2
        lab.wait_for(f"port {port} is taken by ")
        lab.wait_for(f"(process {os.getpid()}): stop it, or choose another with {flag}")
    assert len(lab.lines) == 1


def test_a_port_taken_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on all addresses is found, even on a system that lets us bind one of them."""
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(socket.socket, "bind", lambda *_: None)  # as on macOS and Windows

        with pytest.raises(LabError, match=rf"port {port} is taken by .*: stop it, or choose"):
            refuse_taken_port(port, "--api-port")
    refuse_taken_port(port, "--api-port")


SUITE = """
import pytest

def test_right(): pass
def test_wrong(): assert False
def test_missing(): pytest.skip("no browser")
"""


@pytest.mark.parametrize(
    ("suites", "selected", "strict", "code", "ending"),
    [
        (["api"], "right", True, 0, "=+ 1 passed.* in .*s =+\n"),
        (["api"], "wrong", False, 1, "=+ 1 failed.* in .*s =+\nlab +not passed: api\n"),
        (["api"], "missing", False, 0, "=+ 1 skipped.* in .*s =+\n"),
        (["api"], "missing", True, 1, "=+ 1 skipped.* in .*s =+\nlab +not passed: api\n"),
        (["api"], "unmatched", False, 5, "lab +not passed: no test was selected\n"),
        (["api", "frontend"], "right or once", True, 0, "=+ 1 passed in .*s =+\n"),
        (["api", "frontend"], "wrong or once", False, 1, "=+ 1 passed.*\nlab +not passed: api\n"),
        (["api", "frontend"], "missing or once", True, 1, "=+ 1 passed.*\nlab +not passed: api\n"),
        (["api", "frontend"], "once", False, 0, "=+ 1 passed in .*s =+\n"),
        (["api", "frontend"], "once", True, 1, "=+ 1 passed.*\nlab +not passed: api\n"),
    ],
)
def test_when_the_suites_have_passed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    suites: list[str], selected: str, strict: bool, code: int, ending: str,
) -> None:  # fmt: skip
    """One failed suite is enough; a skipped test or an empty suite is a failure if strict.

    If all is well, the last line is pytest's closing line.
    """
    for name, text in (("api", SUITE), ("frontend", "def test_once(): pass")):
        (tmp_path / name / "tests").mkdir(parents=True)
        (tmp_path / name / "tests" / "test_it.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(lab, "environment", lambda *_: sys.executable)

    assert lab.test(suites, strict, False, False, "", ["-k", selected]) == code
    printed = capfd.readouterr().out
    assert re.search(f"{ending}$", printed), printed
    assert (code == 1) == ("not passed: api" in printed)


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.10"])
def test_an_old_python_is_refused(version: str) -> None:
    """One sentence says which version it needs; the exit code is 2."""
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not found:
        # Without an old Python, this one pretends to be older.
        older = version.replace(".", ", ")
        program = f"import sys; sys.version_info = ({older}); exec(open('lab.py').read())"
        command = [sys.executable, "-c", program, "up"]
    else:
        command = [str(found[0]), "lab.py", "up"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)

    assert ended.returncode == 2
    assert re.fullmatch(r"lab: needs Python 3\.11 or newer, this is [\d.]+\n", ended.stderr)


def test_environments_are_updated_when_the_lock_changes(checkout: Path) -> None:
    """It installs into an environment at first, and again when the lock has changed.

    An environment of another Python version is created again.
    """
    program = (
        "import pathlib\n"
        "from tools.environments import environment\n"
        "print('python', environment(pathlib.Path('service'), 'requirements.txt'))\n"
    )
    service = checkout / "service"
    service.mkdir()

    def prepare() -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    (service / "requirements.txt").write_text("# no packages\n")
    first, second = prepare(), prepare()
    (service / "requirements.txt").write_text("# no packages, in other words\n")
    third = prepare()
    (library,) = (service / ".venv" / "lib").iterdir()
    library.rename(library.with_name("python3.10"))
    fourth = prepare()

    assert "virtual environment: done" in first
    assert "installing: done" in first
    assert len(second.splitlines()) == 1
    assert "virtual environment" not in third
    assert "installing: done" in third
    assert "virtual environment: done" in fourth
    assert "installing: done" in fourth


def test_a_failed_installation_says_why(terminal: Callable[..., Terminal], checkout: Path) -> None:
    """When pip fails, the end of its output is printed, and the exit code is 2."""
    (checkout / "api" / "requirements.txt").write_text("./there-is-no-such-package\n")
    ports = ["--api-port", str(free_port()), "--dashboard-port", str(free_port())]
    lab = terminal(sys.executable, "lab.py", "up", *ports, folder=checkout)

    assert lab.process.wait(60) == 2
    lab.wait_for("api: installing failed")
    lab.wait_for("there-is-no-such-package")
