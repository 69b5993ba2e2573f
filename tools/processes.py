"""Processes: started, listened to, and ended so that nothing of them is left."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = os.name == "nt"
COLORS = {"api": 36, "simulator": 33, "dashboard": 35, "lab": 32}
STOP_SIGNAL = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)  # the former on Windows
GRACE_SECONDS = 5  # for a process to stop by itself before it is killed
# A group of its own: the terminal's Ctrl-C is for us to pass on, in the right order.
OWN_GROUP: dict[str, Any] = {
    "start_new_session": not WINDOWS,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}


class StopRequest:
    """The wish to end this program, which a signal's handler may tell of.

    No threading.Event: where the handler interrupts a wait, that one's lock waits for itself.
    """

    def __init__(self) -> None:
        self._asked = False

    def set(self) -> None:
        """Ask."""
        self._asked = True

    def is_set(self) -> bool:
        """Return whether anybody asked."""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until somebody asks; return whether anybody did."""
        ends_at = time.monotonic() + seconds
        while not self._asked and (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        return self._asked


asked_to_stop = StopRequest()
printing = threading.Lock()


class LabError(Exception):
    """Something the reader can mend; the message says what."""


class Stopped(Exception):
    """Ctrl-C, or a request to terminate."""


class ServiceEnded(Exception):
    """A service ended that nobody had asked to."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(name, code)
        self.name, self.code = name, code


class System:
    """The running services: started in order, watched, stopped."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []

    def start(self, name: str, folder: str, *command: str, **variables: str) -> None:
        """Start a service in its folder; its lines come out under its name."""
        process = subprocess.Popen(
            command,
            cwd=ROOT / folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            **OWN_GROUP,
        )
        self._running[name] = process
        self._readers.append(forward(process, lambda line: say(line, name)))

    def wait_for(self, url: str) -> None:
        """Return when `url` answers; raise ServiceEnded if a service ends before."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(url, timeout=1).close()
                return
            except OSError:
                self.pause(0.1)

    def pause(self, seconds: float) -> None:
        """Wait a little. Raises Stopped when asked to stop, ServiceEnded when a service ended.

        A simulator that has sent all it was to send is only told of.
        """
        if asked_to_stop.wait(seconds):
            raise Stopped
        for name, process in list(self._running.items()):
            code = process.poll()
            if (name, code) == ("simulator", 0):
                end(self._running.pop(name))
                say("the simulator has sent its users: the others go on")
            elif code is not None:
                raise ServiceEnded(name, code)

    def stop(self) -> None:
        """End every service, the simulator before the API it speaks to."""
        for name in ("simulator", "dashboard", "api"):
            if name in self._running:
                end(self._running[name])
        for reader in self._readers:
            reader.join(timeout=1)  # their last words


def run(command: list[str], folder: Path = ROOT) -> int:
    """Run a command to its end in the foreground and return its exit code."""
    # On Windows in our group: there it hears the terminal's Ctrl-C, and could be sent none.
    process = subprocess.Popen(command, cwd=folder, start_new_session=not WINDOWS)
    try:
        while process.poll() is None:
            if asked_to_stop.wait(0.1):
                if not WINDOWS:
                    process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)  # pytest takes down what its tests have started
                raise Stopped
        return process.returncode
    finally:
        if process.poll() is None:
            end(process)


def run_quietly(*command: str) -> str:
    """Return what a command prints, or nothing if it is not there."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to stop, insist after GRACE_SECONDS, and leave nothing of its group behind."""
    if process.poll() is None:
        with contextlib.suppress(OSError):  # Windows', of a process that has no group of its own
            process.send_signal(STOP_SIGNAL)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"process {process.pid} did not stop within {GRACE_SECONDS} s: killing it")
    if WINDOWS:
        run_quietly("taskkill", "/F", "/T", "/PID", str(process.pid))
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def forward(process: subprocess.Popen[str], take: Callable[[str], None]) -> threading.Thread:
    """Hand each line that a process writes to `take`, from a thread of its own."""

    def read() -> None:
        for line in process.stdout or ():
            take(line.rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def watch_signals() -> None:
    """Turn every wish to end this program into `asked_to_stop`."""
    names = ["SIGINT", "SIGTERM", "SIGBREAK"]
    if not WINDOWS and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        names.append("SIGHUP")
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: asked_to_stop.set())


def say(line: str, name: str = "lab", again: bool = False) -> None:
    """Print a line under a name; `again` overwrites the line before, where that is possible."""
    if sys.stdout is None:  # closed by whoever started us
        return
    label = f"{name:<10}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{COLORS[name]}m{label}\033[0m"
    with printing:
        end = "" if again else "\n"
        try:
            print(f"\r\033[K{label}{line}" if again else f"{label}{line}", end=end, flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):  # as of Ctrl-C in `lab.py up | tee log`
                print(f"The output cannot be written: {error.strerror}", file=sys.stderr)
            asked_to_stop.set()
