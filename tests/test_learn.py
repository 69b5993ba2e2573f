"""`lab.py learn`: from the first look at a mission to PASS; bad programs; two at once; a kill."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Terminal, wait_until
from sabotage import without_privileges

from learn import runner
from learn.leftovers import processes
from learn.progress import lock
from learn.world import free_port
from tools.machine import ROOT
from tools.processes import OWN_GROUP

if sys.platform == "win32":
    pytest.skip(
        "these tests send POSIX signals, and type at a POSIX terminal", allow_module_level=True
    )

import pty

MISSIONS = ROOT / "learn" / "missions"
LOST = MISSIONS / "05_lost_response"


@pytest.fixture
def folder(checkout: Path) -> Path:
    """Return a new clone that uses the API's environment of this one."""
    (checkout / "api" / ".venv").symlink_to(ROOT / "api" / ".venv")
    return checkout


def learn(folder: Path, *words: object, seconds: float = 90) -> subprocess.CompletedProcess[str]:
    """Run `lab.py learn` to its end."""
    command = [sys.executable, "lab.py", "learn", *map(str, words)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder.parent)},  # the world of a check is there
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=seconds,
    )


class Learner(Terminal):
    """`lab.py learn` with a terminal as its input."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.lines = []
        self.keyboard, keys = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "lab.py", "learn", *words],
            cwd=folder,
            stdin=keys,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            **OWN_GROUP,
        )
        os.close(keys)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.keyboard, f"{text}\n".encode())


@pytest.fixture
def learner(folder: Path) -> Iterator[Callable[..., Learner]]:
    """Yield a function that starts `lab.py learn`; at the end all of them are closed."""
    opened: list[Learner] = []

    def start(*words: str) -> Learner:
        opened.append(Learner(folder, *words))
        return opened[-1]

    yield start
    for each in opened:
        each.kill()
        os.close(each.keyboard)


def below(pid: int) -> set[int]:
    """Return all processes below one."""
    found, rows = {pid}, processes()
    while more := {child for child, parent, _ in rows if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Return those of the processes that still run."""
    return pids & {pid for pid, _, _ in processes()}


def test_from_the_first_look_to_pass(learner: Callable[..., Learner], folder: Path) -> None:
    """A number is predicted, FAIL shows both values; PASS after a save; then the next mission."""
    first = learner("5")
    first.wait_for("Before the first run, predict: Of 100 requests")
    first.type("forty")
    first.wait_for("there is no number in 'forty'")
    first.type("hint")
    first.wait_for("Mission 5, hint 1 of 3")
    first.type("about 40")
    first.wait_for("FAIL")
    first.wait_for("You predicted: about 40")
    first.wait_for("Measured:")
    first.wait_for("people stored twice or more")
    first.type("solution")
    first.wait_for("I do not know 'solution' here")
    file = folder / ".lab/learn/05_lost_response.py"
    file.write_text(file.read_text(encoding="utf-8") + "\nbroken(", encoding="utf-8")
    first.wait_for("SyntaxError")
    file.write_text((LOST / "solution.py").read_text(encoding="utf-8"), encoding="utf-8")
    first.wait_for("PASS")
    first.wait_for("Why: The starter counts 56 of 100 requests as done")
    first.wait_for("data_ingestion_simulator/client.py:")
    first.wait_for("Next: mission 6, Retry storm: python3 lab.py learn 6")

    assert first.process.wait(10) == 0
    (record,) = json.loads(learn(folder, "report").stdout)
    assert (record["mission"], record["passed"], record["attempts"]) == (5, True, 3)
    assert (record["hints"], record["prediction"]) == (1, "about 40")
    assert record["seconds"] > 0
    second = learner()
    second.wait_for("[x]  5")
    second.wait_for("Mission 6: ")
    second.type("quit")
    assert second.process.wait(10) == 1


def test_hints_solution_and_reset(folder: Path) -> None:
    """Three hints; no solution before PASS unless given up; reset keeps the learner's files."""
    assert learn(folder, "hint").returncode == 2
    shown = [learn(folder, "hint", 5).stdout for _ in range(4)]
    assert [text.count("Mission 5, hint") for text in shown] == [1, 2, 3, 3]
    assert "There are no more hints" in shown[3]
    assert "There are no more hints" not in shown[2]
    refused = learn(folder, "solution")
    assert (refused.returncode, "solution 5 --give-up" in refused.stdout) == (2, True)
    solution = (LOST / "solution.py").read_text(encoding="utf-8")
    assert solution in learn(folder, "solution", "--give-up").stdout

    file = folder / ".lab/learn/05_lost_response.py"
    file.write_text(solution)
    assert learn(folder, "check").returncode == 0
    assert "which mission?" in learn(folder, "reset").stdout
    learn(folder, "reset", 5)
    assert file.read_bytes() == (LOST / "starter.py").read_bytes()
    assert "is the starter already" in learn(folder, "reset", 5).stdout
    file.write_text("print('mine')\n")
    learn(folder, "reset", 5)
    assert file.with_suffix(".old").read_text() == solution
    assert file.with_suffix(".old2").read_text() == "print('mine')\n"
    assert learn(folder, "solution").returncode == 0, "what is passed stays passed"


def test_the_mission_that_was_used_last(folder: Path) -> None:
    """Without a number a command means the mission that was used last, and says its number."""
    for number in (5, 7, 5):
        assert learn(folder, "hint", number).returncode == 0

    assert "Mission 5, hint 3 of 3" in learn(folder, "hint").stdout
    assert "mission 5: checking" in learn(folder, "check").stdout


def test_check_for_machines(folder: Path) -> None:
    """`check --file --json` prints the verdict; exit code 0 or 1; the seed repeats the run."""
    checked = learn(folder, "check", 5, "--file", LOST / "solution.py", "--seed", 7, "--json")
    assert checked.returncode == 0
    verdict = json.loads(checked.stdout)
    assert (verdict["mission"], verdict["verdict"], verdict["seed"]) == (5, "PASS", 7)

    runs = [
        learn(folder, "check", 5, "--file", LOST / "starter.py", "--seed", 7, "--json")
        for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [1, 1]
    first, second = (json.loads(run.stdout) for run in runs)
    assert {"expected", "seen", "example", "look"} <= first.keys()
    assert first["measured"] == second["measured"]
    assert not (folder / ".lab" / "learn").exists()
    assert "does not count" in learn(folder, "check", 5, "--file", LOST / "starter.py").stdout
    absent = learn(folder, "check", 5, "--file", "absent.py")
    assert (absent.returncode, "there is no file absent.py" in absent.stdout) == (2, True)


def test_verify_finds_a_broken_mission(folder: Path) -> None:
    """A solution that fails, or a mistake that passes, makes `verify` fail, and is named."""
    mission = folder / "learn/missions/05_lost_response"
    good, mistake = mission / "solution.py", mission / "wrong" / "never_retries.py"
    mistake.write_text('"""A mistake.\n\nSeen: no\n"""\n' + good.read_text(encoding="utf-8"))
    (mission / "solution.py").write_text((mission / "starter.py").read_text(encoding="utf-8"))
    done = learn(folder, "verify", 5, "--seeds", 1)

    assert done.returncode == 1
    assert re.search(r"5 solution +PASS 0 of 1", done.stdout)
    assert re.search(r"5 wrong/never_retries +FAIL 0 of 1", done.stdout)
    assert "2 of the verdicts are wrong" in done.stdout


FORKS = """
import os, subprocess, sys
wait = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(600)"
for _ in range(3):
    subprocess.Popen([sys.executable, "-c", wait], start_new_session=True, env={})
for _ in range(3):
    os.fork()
"""
BAD = {
    "a syntax error": ("def (", "SyntaxError: invalid syntax"),
    "no such module": ("import nothing", "it ended with exit code 1"),
    "an error": ("1 / 0", "it ended with exit code 1"),
    "a megabyte": ("print('x' * 2**20, flush=True); raise SystemExit(3)", "exit code 3"),
    "no end": ("while True: pass", "it still ran after 20 s"),
    "prints without end": ("while True: print('x' * 10_000)", "it still ran after 20 s"),
    "no end, and deaf": (
        "import signal as s, time\nfor n in (1, 2, 15): s.signal(n, s.SIG_IGN)\ntime.sleep(600)",
        "it still ran after 20 s",
    ),
    "forks": (FORKS, "people who are not stored: 40"),
    "kills its group": ("import os; os.killpg(0, 9)", "it ended with exit code -9"),
    "kills its parent": (
        "import os, time; os.kill(os.getppid(), 9); time.sleep(600)",
        "the check itself failed: it ended without a verdict",
    ),
    "zeros": ("\0\0", "null bytes"),
    "an empty file": ("", "people who are not stored: 40"),
}


def test_the_output_that_helps(folder: Path, tmp_path: Path) -> None:
    """A crash shows the line of the learner's file, also below many lines of a library."""
    file = tmp_path / "bad.py"
    file.write_text("import json\n\njson.loads('{' + 20 * '[')  # mine\n", encoding="utf-8")
    verdict = json.loads(learn(folder, "check", 5, "--file", file, "--json").stdout)

    assert verdict["look"] == "bad.py, line 3"
    assert "# mine" in verdict["output"]
    assert "json/decoder.py" not in verdict["output"]


def test_a_proxy_of_the_system_is_not_asked(folder: Path, tmp_path: Path) -> None:
    """A learner's urllib connects to this machine directly, whatever the system's settings say."""
    file = tmp_path / "asks.py"
    text = (
        "from urllib.request import proxy_bypass as p\nraise SystemExit(f'{p(\"127.0.0.1\")=}')\n"
    )
    file.write_text(text, encoding="utf-8")
    verdict = json.loads(learn(folder, "check", 5, "--file", file, "--json").stdout)

    assert verdict["example"].endswith("=True")


def test_two_checks_never_take_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port is reserved while its check runs, also before the program listens on it."""
    first = free_port()
    wished = iter([first, *range(first + 1, first + 100)])
    monkeypatch.setattr("learn.world.random.randrange", lambda *_: next(wished))

    assert free_port() != first
    with socket.create_server(("127.0.0.1", first)):
        pass  # the program can listen


@pytest.mark.parametrize("name", BAD)
def test_a_bad_program(folder: Path, tmp_path: Path, name: str) -> None:
    """The verdict is a sentence, within the mission's time limit; no process is left."""
    text, seen = BAD[name]
    file = tmp_path / "bad.py"
    file.write_text(text, encoding="utf-8")
    started = time.monotonic()
    done = learn(folder, "check", 5, "--file", file, "--json")

    assert seen in json.loads(done.stdout)["seen"]
    assert done.returncode == (3 if name == "kills its parent" else 1)
    assert time.monotonic() - started < 30 + 20
    assert left_in(tmp_path) == []
    assert "Traceback" not in done.stderr


def left_in(folder: Path) -> list[str]:
    """Return the processes whose working folder is in a folder (Linux only)."""
    found = []
    for pid, _, _ in processes() if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                found.append(Path(f"/proc/{pid}/cmdline").read_text())
    return found


def test_two_at_once(learner: Callable[..., Learner], folder: Path) -> None:
    """The second `learn` says that one runs already; hint and check still work beside it."""
    first = learner("5")
    first.wait_for("Type a number")
    second = learn(folder)

    assert second.returncode == 2
    assert "`lab.py learn` runs already in another terminal" in second.stdout
    assert learn(folder, "hint").returncode == 0
    first.process.kill()
    first.process.wait(10)
    again = learner("5")
    again.wait_for("Type a number")


def test_one_makes_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While `learn` looks at the environment, and perhaps makes it, another process waits."""

    def another_may_enter(*_: object) -> str:
        with runner.LOCK.open("a") as file:
            return str(lock(file))

    monkeypatch.setattr(runner, "LOCK", tmp_path / "environment.lock")
    monkeypatch.setattr(runner, "environment", another_may_enter)
    assert runner.api_python.__wrapped__() == "False"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_one_leaves_no_process(folder: Path, name: str) -> None:
    """However `learn` ends, its check, the programs and their ports end, too."""
    file = MISSIONS / "04_timeout" / "starter.py"
    command = [sys.executable, "lab.py", "learn", "check", "4", "--file", str(file)]
    running = subprocess.Popen(command, cwd=folder, **OWN_GROUP)
    try:
        wait_until("check, API and program run", lambda: len(below(running.pid)) >= 3, 30)
        started = below(running.pid)
        running.send_signal(getattr(signal, name))
        assert running.wait(20) in (-9, 130)
        wait_until("all processes have ended", lambda: not alive(started), 20)
    finally:
        running.kill()


@pytest.mark.parametrize("place", [".lab", ".lab/learn", ".lab/learn/progress.lock"])
def test_a_folder_that_cannot_be_written(folder: Path, place: str) -> None:
    """Where nothing can be written, one sentence says so; a check of a file still works."""
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if place.endswith("lock") else path.write_text("a file")
    for words in (("hint", 5), ("5",)):
        done = learn(folder, *words)

        assert done.returncode == 2
        assert "cannot write to " in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
    assert learn(folder, "check", 5, "--file", LOST / "solution.py").returncode == 0


def test_a_read_only_folder(folder: Path) -> None:
    """Without the right to write, one sentence says so."""
    (folder / ".lab" / "learn").mkdir(mode=0o555, parents=True)
    command = [sys.executable, "lab.py", "learn", "hint", "5"]
    done = subprocess.run(
        command, cwd=folder, preexec_fn=without_privileges, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "cannot write to " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_damaged_progress(folder: Path) -> None:
    """An unreadable progress file is kept under another name, and said; nothing else is lost."""
    assert learn(folder, "hint", 5).returncode == 0
    progress = folder / ".lab/learn/progress.json"
    for text in ("{", '["x"]', '[{"mission": {}}]', "\0"):
        progress.write_text(text)
        done = learn(folder, "hint", 5)

        assert (done.returncode, "was damaged" in done.stdout) == (0, True)
        assert progress.with_suffix(".broken").read_text() == text


@pytest.mark.parametrize(
    "words",
    [("99",), ("check", "0"), ("hint", "5", "6"), ("dance",), ("check", "five"), ("5", "hint")],
)
def test_a_wrong_command(folder: Path, words: tuple[str, ...]) -> None:
    """One sentence and exit code 2."""
    done = learn(folder, *words)

    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
