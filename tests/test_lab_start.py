"""`lab.py up` on machines with obstacles: foreign packages and variables, sudden ends."""

import ast
import contextlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, Terminal, free_port, is_open, wait_until
from sabotage import ask, fake_uv, free_ports, posix, without_privileges

from tools.machine import TABLES, clean_environment
from tools.processes import ROOT, LabError, System

# An invalid use of `lab.py`: all its imports have succeeded when it prints this.
USE = ("up", "--api-port=7", "--dashboard-port=7")
ANSWER = "lab       --api-port and --dashboard-port must differ\n"


@pytest.mark.parametrize("name", ["tools", "benchmarks", "argparse", "signal", "pathlib", "xml"])
@pytest.mark.parametrize("safe", ["", "1"])
def test_foreign_packages_in_the_path(tmp_path: Path, name: str, safe: str) -> None:
    """A folder in PYTHONPATH may have a package with one of our names, or of the library's."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    variables = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": safe}
    ended = ask(sys.executable, str(ROOT / "lab.py"), *USE, folder=tmp_path, variables=variables)

    assert (ended.returncode, ended.stdout, ended.stderr) == (2, ANSWER, "")


FOREIGN = """
import sys, types
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tools", "benchmarks"):
            raise ImportError("the wrong package")
sys.meta_path.insert(0, Finder())
sys.modules["tools"] = types.ModuleType("tools")
sys.modules["tools.processes"] = types.ModuleType("tools.processes")
"""


def test_foreign_packages_in_the_users_python(tmp_path: Path) -> None:
    """Packages, import hooks and imported modules of the user's Python do not replace ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "theirs"], check=True)
    (site,) = (tmp_path / "theirs").glob("[Ll]ib/**/site-packages")
    (site / "tools").mkdir()
    (site / "tools" / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    (site / "hook.py").write_text(FOREIGN)
    (site / "hook.pth").write_text("import hook\n")
    (python,) = (tmp_path / "theirs").glob("*/python.exe" if os.name == "nt" else "bin/python")
    ended = ask(str(python), str(ROOT / "lab.py"), *USE)

    assert (ended.returncode, ended.stdout, ended.stderr) == (2, ANSWER, "")


INTERRUPTED = """
import os, runpy, signal, sys
moment = int(sys.argv.pop(1))
def runs_ours():
    frame = sys._getframe(1)
    while frame and not frame.f_code.co_filename.endswith("lab.py"):
        frame = frame.f_back
    return frame
def interrupt(event, _):
    global moment
    if event == "import" and runs_ours():
        moment -= 1
        if moment < 0:
            moment = 10_000
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
sys.argv = ["lab.py", "up", "--api-port=7", "--dashboard-port=7"]
runpy.run_path("lab.py", run_name="__main__")
"""


@posix
@pytest.mark.parametrize("moment", [0, 1, 2, 5, 10, 20, 40, 80, 120, 160])
def test_ctrl_c_in_the_first_milliseconds(moment: int) -> None:
    """An interrupt at any import ends the program without a traceback."""
    ended = ask(sys.executable, "-c", INTERRUPTED, str(moment))

    assert ended.stderr == ""
    assert ended.returncode in (-2, 130, 2)


def ours(port: int) -> str:
    """Return the processes of the `lab.py up` that has this port."""
    rows = subprocess.run(["ps", "-ww", "-Ao", "pid,args"], capture_output=True, text=True).stdout
    return "\n".join(row for row in rows.splitlines() if re.search(rf"port[= ]{port}\b", row))


@posix
@pytest.mark.parametrize("part", range(4))
def test_sigkill_leaves_no_process_behind(terminal: Callable[..., Terminal], part: int) -> None:
    """When `lab.py` is killed, at whatever moment, its services end too."""
    rng = random.Random(seed := time.time_ns())
    ports = [free_port(), free_port()]
    up = [f"--api-port={ports[0]}", f"--dashboard-port={ports[1]}"]
    lab = terminal(sys.executable, "lab.py", "up", *up)
    if part == 3:
        lab.wait_for("Ctrl-C stops everything")
    else:
        time.sleep(moment := part + rng.random())
        print(f"killed after {moment:.3f} s, seed {seed}")
    lab.process.kill()
    lab.process.wait()

    wait_until("the end of all", lambda: not any(map(ours, ports)), 10)
    assert not any(is_open("127.0.0.1", port) for port in ports)


@posix
def test_uv_run(terminal: Callable[..., Terminal]) -> None:
    """`uv run lab.py up` works; when an editor kills this uv, everything ends."""
    ports = [free_port(), free_port()]
    up = [f"--api-port={ports[0]}", f"--dashboard-port={ports[1]}"]
    uv = [str(ROOT / ".venv" / "bin" / "uv"), "run", "--offline", "--python", sys.executable]
    lab = terminal(*uv, "lab.py", "up", *up)
    lab.wait_for("Ctrl-C stops everything")
    lab.process.kill()

    wait_until("the end of all", lambda: not any(map(ours, ports)), 10)


@posix
def test_sigkill_during_an_installation(
    terminal: Callable[..., Terminal], tmp_path: Path, checkout: Path
) -> None:
    """When `lab.py` is killed, the installer that it has started ends too."""
    report = tmp_path / "pid"
    path = fake_uv(tmp_path, f"echo $$ > {report}; exec sleep 300")
    lab = terminal(sys.executable, "lab.py", "up", *free_ports(), folder=checkout, PATH=path)
    wait_until("the installer's start", lambda: report.exists() and report.read_text().strip())
    lab.process.kill()

    def gone() -> bool:
        return not ask("ps", "-o", "args=", "-p", report.read_text().strip()).stdout.strip()

    wait_until("the installer's end", gone, 10)


HOSTILE: dict[str, Any] = {
    "PIP_USER": "1",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_TARGET": "/nowhere",
    "PYTHONOPTIMIZE": "2",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "STREAMLIT_SERVER_BASE_URL_PATH": "elsewhere",
    "STREAMLIT_SERVER_ADDRESS": "192.0.2.1",
    "UVICORN_PORT": "1",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "UVICORN_HOST": "192.0.2.1",
    "WEB_CONCURRENCY": "4",
    "UV_NO_BINARY": "1",
}


def test_variables_of_the_user_are_not_passed_on(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """The system starts with variables that would change its pip, Python, Streamlit or uvicorn."""
    for name in ("uvicorn", "streamlit", "faker", "typing"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong package')\n")
    lab = Lab(terminal, PYTHONPATH=str(tmp_path), **HOSTILE)

    lab.terminal.wait_for("created        user")
    assert lab.terminal.stop() == 0


def test_variables_that_say_where_packages_are_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror, a proxy, a certificate and our own variables reach what we start."""
    kept = {
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "PIP_CERT": "/ca.pem",
        "UV_INDEX_URL": "https://mirror.example/simple",
        "UV_INDEX_OURS_PASSWORD": "secret",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SIMULATION_INTERVAL": "1",
        "PIPELINE": "7",
    }
    for name, value in {**kept, **HOSTILE}.items():
        monkeypatch.setenv(name, value)
    found = clean_environment()

    assert kept.items() <= found.items()
    assert not HOSTILE.keys() & found.keys()


@pytest.mark.parametrize("name", ["with a question?", "a#b", "per%20cent", "ümläut 日本"])
def test_sqlite_in_a_folder_of_any_name(
    terminal: Callable[..., Terminal], checkout: Path, name: str
) -> None:
    """`--store sqlite` works in a folder whose name a URL cannot contain."""
    if os.name == "nt" and "?" in name:
        pytest.skip("Windows has no such names")
    folder = checkout.rename(checkout.with_name(name))
    for service in ("api", "data_ingestion_simulator", "frontend"):
        (folder / service / ".venv").symlink_to(ROOT / service / ".venv")
    command = [sys.executable, "lab.py", "up", "--store=sqlite", *free_ports()]
    lab = terminal(*command, folder=folder)

    lab.wait_for("store=sqlite")
    lab.wait_for("created        user")
    assert lab.stop() == 0
    assert (folder / "users.db").exists()


@posix
@pytest.mark.parametrize("protected", ["the folder", "users.db"])
def test_sqlite_that_cannot_be_written(checkout: Path, protected: str) -> None:
    """`--store sqlite` where nothing can be stored is refused with one sentence."""
    file = checkout / "users.db"
    if protected == "users.db":
        file.touch()
    (file if protected == "users.db" else checkout).chmod(0o555)
    up = [sys.executable, "lab.py", "up", "--store=sqlite", *free_ports()]
    ended = ask(*up, folder=checkout, preexec_fn=without_privileges)
    checkout.chmod(0o755)

    assert (ended.returncode, ended.stderr) == (2, "")
    expected = f"lab       {file} cannot be written: use --store memory, or copy this folder\n"
    assert ended.stdout == expected


# `uv`, without a network: it makes environments of this Python, and installs nothing. It waits for
# the API before it installs the dashboard.
SLOW_UV = """
for last; do :; done
case "$1 $2" in
"venv --python")
    mkdir -p $last/bin $last/lib/python/site-packages; ln -s {python} $last/bin/python;;
"pip install") case "$*" in *frontend*)
    for _ in $(seq 300); do [ -e {started} ] && exit 0; sleep 0.1; done; exit 1;; esac;;
esac
"""
SERVER = """
import http.server, pathlib, re, sys
class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
port = re.search(r"port=(\\d+)", " ".join(sys.argv))[1]
server = http.server.HTTPServer(("127.0.0.1", int(port)), Fine)
pathlib.Path({started!r}).touch()
server.serve_forever()
"""


@posix
def test_the_steps_of_a_first_start(
    terminal: Callable[..., Terminal], tmp_path: Path, checkout: Path
) -> None:
    """The API starts while the dashboard's libraries are installed. The simulator starts when the
    API responds, without waiting for the dashboard. A line with its seconds ends each step.
    """
    started = str(tmp_path / "started")
    path = fake_uv(tmp_path, SLOW_UV.format(python=sys.executable, started=started))
    (checkout / "api" / "uvicorn.py").write_text(SERVER.format(started=started))
    (checkout / "frontend" / "streamlit.py").write_text(SERVER.format(started=started))
    main = "import time\nprint('a tiny simulator', flush=True)\ntime.sleep(600)\n"
    (checkout / "data_ingestion_simulator" / "main.py").write_text(main)
    lab = terminal(sys.executable, "lab.py", "up", *free_ports(), folder=checkout, PATH=path)
    lab.wait_for("Ctrl-C stops everything")
    lab.wait_for("a tiny simulator")

    steps = [line.removeprefix("lab").strip() for line in lab.lines if line.startswith("lab ")]
    patterns = [
        r"api: virtual environment: done in [\d.]+ s",
        r"api: installing: done in [\d.]+ s",
        r"frontend: virtual environment: done in [\d.]+ s",
        r"frontend: installing: done in [\d.]+ s",
        r"data_ingestion_simulator: virtual environment: done in [\d.]+ s",
        r"data_ingestion_simulator: installing: done in [\d.]+ s",
        r"the API responds, [\d.]+ s after the start",
        r"the dashboard responds, [\d.]+ s after the start",
    ]
    left = iter(steps)  # these tiny environments are made again at each look
    for pattern in patterns:
        assert any(re.fullmatch(pattern, step) for step in left), steps
    assert lab.stop() == 0


def test_public_addresses(terminal: Callable[..., Terminal]) -> None:
    """Services accept the addresses of a proxy or port forwarder, and these are printed."""
    ports = [free_port(), free_port()]
    up = [f"--api-port={ports[0]}", f"--dashboard-port={ports[1]}"]
    up += [
        "--public=https://api.example/lab, http://one.example:8080",
        "--public=https://b.example",
    ]
    lab = terminal(sys.executable, "lab.py", "up", *up)
    lab.wait_for("Ctrl-C stops everything")

    for address in ("https://api.example/lab", "http://one.example:8080", "https://b.example"):
        assert lab.count(f"Public address     {address}") == 1
    statuses = {}
    for host in ("api.example", "one.example:8080", "b.example", "other.example"):
        with contextlib.closing(HTTPConnection("127.0.0.1", ports[0])) as connection:
            connection.request("GET", "/users/", headers={"Host": host})
            statuses[host] = connection.getresponse().status
    assert statuses == {
        "api.example": 200,
        "one.example:8080": 200,
        "b.example": 200,
        "other.example": 400,
    }
    assert lab.stop() == 0


@pytest.mark.parametrize(
    "wrong", ["lab.example", "https://a b", "https://a,", "https://u@h", "ftp://a", ""]
)
def test_a_public_address_that_is_none(wrong: str) -> None:
    """Nothing is started; one sentence says what an address is, and the exit code is 2."""
    ended = ask(sys.executable, "lab.py", "up", *free_ports(), "--public", wrong)

    assert (ended.returncode, ended.stdout) == (2, "")
    rule = "addresses are such as https://lab.example/api, separated by commas"
    assert ended.stderr.splitlines()[-1].endswith(f"--public: {rule}, not {wrong!r}")


def test_a_service_that_never_responds(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says what it waits for, and gives up with a sentence when that is hopeless."""
    monkeypatch.setattr("tools.processes.WAIT_SECONDS", 0.3)
    monkeypatch.setattr("tools.processes.HOPELESS_SECONDS", 1)
    system, url = System(), f"http://127.0.0.1:{free_port()}/health"
    monkeypatch.setitem(TABLES["start"], "api", ["-c", "import time; time.sleep(60)"])
    system.start("api", "api", sys.executable)
    try:
        with pytest.raises(LabError, match=r"not responded .* for 1 s .*: its own lines"):
            system.wait_for("the API", url)
    finally:
        system.stop()

    assert f"waiting: the API has not responded at {url}" in capfd.readouterr().out


def test_no_test_needs_a_signal_at_its_import() -> None:
    """The tests can be imported on Windows, which lacks most signals."""
    known = {"SIGINT", "SIGTERM", "SIGABRT", "Signals", "signal", "getsignal"}
    files = [path for path in ROOT.glob("**/tests/*.py") if ".venv" not in path.parts]
    assert len(files) > 50
    for path in files:
        nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                nodes += node.decorator_list
                continue
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "signal" or node.attr in known, f"{path}: {node.attr}"
            nodes += ast.iter_child_nodes(node)
