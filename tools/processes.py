"""Start processes, show their output, and end them so that no child process is left."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tools.machine import clean_environment, run_quietly

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = os.name == "nt"
COLORS = {"api": 36, "simulator": 33, "dashboard": 35, "lab": 32}
STOP_SIGNAL = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)  # CTRL_BREAK_EVENT on Windows
GRACE_SECONDS = 5  # between the stop signal and SIGKILL
# The `uv run` that started us. It ends without us if it is killed, for example by an editor.
UV_RUN = os.getppid() if "UV_RUN_RECURSION_DEPTH" in os.environ else 0
WAIT_SECONDS, HOPELESS_SECONDS = 5, 90  # for a service that does not respond
# A process group for each service: the terminal's Ctrl-C then reaches only this program, which
# stops the services in the right order.
OWN_GROUP: dict[str, Any] = {
    "start_new_session": not WINDOWS,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}
PIPED: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "encoding": "utf-8",
    "errors": "replace",
}


class StopRequest:
    """A flag that a signal handler sets to end this program.

    Not a threading.Event: its lock is not reentrant. A handler that interrupts `wait` would block
    on a lock that its own thread holds.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Request the end of the program."""
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether the end was requested."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait for the request, at most `seconds`; return whether it was made."""
        deadline = time.monotonic() + seconds
        while not self._is_set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        return self._is_set


stop_requested = StopRequest()
guard: subprocess.Popen[bytes] | None = None
printing = threading.Lock()


class LabError(Exception):
    """An error that the user can correct; the message says how."""


class Stopped(Exception):
    """Ctrl-C, or another request to end this program."""


class ServiceEnded(Exception):
    """A service ended unexpectedly."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(name, code)
        self.name, self.code = name, code


class System:
    """Starts the services in order, watches them, and stops them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []

    def start(self, name: str, folder: str, *command: str, **variables: str) -> None:
        """Start a service in its folder; print its name before each line of its output."""
        more = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **variables}
        process = launch([*command], ROOT / folder, **PIPED, env={**clean_environment(), **more})
        self._running[name] = process
        self._readers.append(read_lines(process, lambda line: say(line, name)))

    def wait_for(self, name: str, url: str) -> None:
        """Return when `url` of a service responds; meanwhile say what is waited for.

        Raises LabError after HOPELESS_SECONDS, ServiceEnded if a service ends earlier, or Stopped.
        """
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        started_at, told = time.monotonic(), 0
        while True:
            try:
                opener.open(url, timeout=1).close()
                return
            except (OSError, HTTPException) as error:
                why = str(error)
            self.pause(0.1)
            seconds = time.monotonic() - started_at
            if seconds > HOPELESS_SECONDS:
                raise LabError(
                    f"{url} did not respond for {seconds:.0f} s ({why}): {name} is stuck"
                )
            if seconds > WAIT_SECONDS * (told + 1):
                told += 1
                say(f"waiting for {name} at {url} for {seconds:.0f} s ({why})")

    def pause(self, seconds: float) -> None:
        """Wait. Raises Stopped on a stop request, and ServiceEnded when a service ended.

        A simulator that has sent all its users is no error: the other services continue.
        """
        if stop_requested.wait(seconds) or UV_RUN not in (0, os.getppid()):
            raise Stopped
        for name, process in list(self._running.items()):
            code = process.poll()
            if (name, code) == ("simulator", 0):
                end(self._running.pop(name))
                say("the simulator has sent its users: the others go on")
            elif code is not None:
                raise ServiceEnded(name, code)

    def stop(self) -> None:
        """End every service; the simulator first, because it needs the API."""
        for name in ("simulator", "dashboard", "api"):
            if name in self._running:
                end(self._running[name])
        for reader in self._readers:
            reader.join(timeout=1)  # it prints the last lines


def launch(command: list[str], folder: Path, **options: Any) -> "subprocess.Popen[str]":
    """Start a process in its own group; the guard ends this group if our process is killed."""
    global guard
    if guard is None or guard.poll() is not None:
        program = [sys.executable, "-I", "-S", str(ROOT / "tools" / "guard.py")]
        none = subprocess.DEVNULL
        guard = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=none, stderr=none, **OWN_GROUP
        )
    # The child itself reports to the guard before it runs the command: no moment is unguarded.
    options = {"env": clean_environment(), **OWN_GROUP, **options}
    if WINDOWS:
        process = subprocess.Popen(command, cwd=folder, **options)
        tell_guard("+", process.pid)
        return process
    options["preexec_fn"] = lambda: tell_guard("+", os.getpid())
    return subprocess.Popen(command, cwd=folder, **options)


def tell_guard(sign: str, pid: int) -> None:
    """Report a process that started (+) or ended (-)."""
    if guard and guard.stdin:
        with contextlib.suppress(OSError):  # somebody killed the guard
            os.write(guard.stdin.fileno(), f"{sign}{pid}\n".encode())


def run(command: list[str], folder: Path = ROOT) -> int:
    """Run a command in the foreground and return its exit code. Raises Stopped."""
    # On Windows it stays in our group and receives Ctrl-C itself: there we could not send it.
    process = launch(command, folder, creationflags=0)
    try:
        while process.poll() is None:
            if stop_requested.wait(0.1):
                if not WINDOWS:
                    process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)  # meanwhile pytest ends the processes of its tests
                raise Stopped
        return process.returncode
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Stop a process; after at most GRACE_SECONDS, kill what is left of its process group."""
    if process.poll() is None:
        with contextlib.suppress(OSError):  # on Windows, if the process has no group
            process.send_signal(STOP_SIGNAL)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"process {process.pid} did not stop within {GRACE_SECONDS} s: killing it")
    if sys.platform == "win32":
        run_quietly("taskkill", "/F", "/T", "/PID", str(process.pid))
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    tell_guard("-", process.pid)


def read_lines(process: subprocess.Popen[str], handle: Callable[[str], None]) -> threading.Thread:
    """Call `handle` with each line that a process prints, in a new thread."""

    def read() -> None:
        with process.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                handle(line.rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def watch_signals() -> None:
    """Set `stop_requested` when a signal asks this program to end."""
    names = ["SIGINT", "SIGTERM", "SIGBREAK"]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        names.append("SIGHUP")  # nohup ignores it: then it stays ignored
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop_requested.set())


def say(line: str, name: str = "lab", overwrite: bool = False) -> None:
    """Print a name and a line; with `overwrite`, replace the current line of the terminal."""
    if sys.stdout is None:  # the parent process closed it
        return
    label = f"{name:<10}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{COLORS[name]}m{label}\033[0m"
    with printing:
        start, ending = ("\r\033[K", "") if overwrite else ("", "\n")
        try:
            print(f"{start}{label}{line}", end=ending, flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):  # as after Ctrl-C in `lab.py up | tee log`
                print(f"The output cannot be written: {error.strerror}", file=sys.stderr)
            stop_requested.set()
