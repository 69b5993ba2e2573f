"""Start processes, show their output, and end them so that no child process is left."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tools.machine import DIRECT, ROOT, TABLES, WINDOWS, LabError, clean_environment, run_quietly

STOP_SIGNAL = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)  # CTRL_BREAK_EVENT on Windows
UV_RUN = os.getppid() if "UV_RUN_RECURSION_DEPTH" in os.environ else 0  # what started us
BEGAN_AT = time.monotonic()
GRACE_SECONDS = 5  # between the stop signal and SIGKILL
WAIT_SECONDS, HOPELESS_SECONDS = 5, 90  # for a service that does not respond
# The terminal's Ctrl-C then reaches only this program, which stops the services in order.
OWN_GROUP: dict[str, Any] = {"start_new_session": not WINDOWS}
OWN_GROUP["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
PIPED: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
PIPED |= {"stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}

Stopped = KeyboardInterrupt  # Ctrl-C, or another request to end this program


class StopRequest:
    """A request to end, made by a signal handler: a threading.Event could block on its own lock."""

    _made = queue.SimpleQueue[bool]()  # handlers may call its `put`

    def set(self) -> None:
        """Request the end of the program."""
        self._made.put(True)

    def wait(self, seconds: float) -> bool:
        """Wait for the request, at most `seconds`; return whether it was made."""
        with contextlib.suppress(queue.Empty):
            self._made.put(self._made.get(timeout=seconds))  # for the next one who asks
            return True
        # An editor's stop button kills the `uv run` that started us, and not us.
        return UV_RUN not in (0, os.getppid())

    def check(self, seconds: float) -> None:
        """Wait for the request, at most `seconds`. Raises Stopped if it was made."""
        if self.wait(seconds):
            raise Stopped


stop_requested = StopRequest()
guard: subprocess.Popen[bytes] | None = None


class System:
    """Starts the services in order, watches them, and stops them."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[subprocess.Popen[str], threading.Thread]] = {}

    def start(self, name: str, folder: str, python: str, *options: str, **variables: str) -> None:
        """Start a service in its folder; print its name before each line of its output."""
        command = [python, *TABLES["mark"], *TABLES["start"][name], *options]
        more = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **variables}
        process = launch(command, ROOT / folder, **PIPED, env={**clean_environment(), **more})
        reader = threading.Thread(target=show, args=(process, name), daemon=True)
        self._running[name] = process, reader
        reader.start()

    def wait_for(self, name: str, url: str) -> None:
        """Return when `url` responds. Raises LabError if it never does, or Stopped."""
        started_at, told = time.monotonic(), 0
        while True:
            try:
                DIRECT.open(url, timeout=1).close()
                say(f"{name} responds, {time.monotonic() - BEGAN_AT:.1f} s after the start")
                return
            except (OSError, HTTPException) as error:
                why = str(error)
            self.pause(0.1)
            seconds = time.monotonic() - started_at
            state = f"{name} has not responded at {url} for {seconds:.0f} s ({why})"
            if seconds > HOPELESS_SECONDS:
                raise LabError(f"{state}: its own lines may say why")
            if seconds > WAIT_SECONDS * (told + 1):
                told += 1
                say(f"waiting: {state}")

    def pause(self, seconds: float) -> None:
        """Wait. Raises Stopped on a stop request, and LabError when a service has ended."""
        stop_requested.check(seconds)
        for name, (process, _) in list(self._running.items()):
            code = process.poll()
            if (name, code) == ("simulator", 0):
                end(self._running.pop(name)[0])
                say("the simulator has sent its users: the others go on")
            elif code is not None:
                ours = (code or 1) if code >= 0 else 128 - code  # a signal, as in a shell
                raise LabError(f"{name} ended with exit code {code}: the others were stopped", ours)

    def stop(self) -> None:
        """End every service; the simulator first, because it needs the API."""
        for name in sorted(self._running, reverse=True):
            process, reader = self._running[name]
            end(process)
            reader.join(timeout=1)  # it prints the last lines


def launch(command: list[str], folder: Path, **options: Any) -> "subprocess.Popen[str]":
    """Start a process in its own group; the guard ends this group if our process is killed."""
    global guard
    if guard is None or guard.poll() is not None:
        program = [sys.executable, "-I", "-S", str(ROOT / "tools" / "guard.py")]
        silent: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        guard = subprocess.Popen(program, stdin=subprocess.PIPE, **silent, **OWN_GROUP)
    options = {"env": clean_environment(), **OWN_GROUP, **options}
    if not WINDOWS:  # the child reports itself before it runs the command: no moment is unguarded
        options["preexec_fn"] = lambda: tell_guard("+", os.getpid())
    process = subprocess.Popen(command, cwd=folder, **options)
    tell_guard("+", process.pid)
    return process


def tell_guard(sign: str, pid: int) -> None:
    """Report a process that started (+) or ended (-)."""
    if guard and guard.stdin:
        with contextlib.suppress(OSError):  # somebody killed the guard
            os.write(guard.stdin.fileno(), f"{sign}{pid}\n".encode())


def run(command: list[str], folder: Path = ROOT, label: str = "", **options: Any) -> int:
    """Run a command and return its exit code; with a label, report the time. Raises Stopped."""
    # On Windows it stays in our group and receives Ctrl-C itself: there we could not send it.
    process, ticks = launch(command, folder, creationflags=0, **options), 0
    try:
        while process.poll() is None:
            if stop_requested.wait(0.1):
                if not WINDOWS:
                    process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)  # meanwhile pytest ends the processes of its tests
                raise Stopped
            ticks += 1
            if label and ticks % (10 * WAIT_SECONDS) == 0:
                say(f"{label}: {ticks // 10} s")
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


def show(process: "subprocess.Popen[str]", name: str) -> None:
    """Print the lines of a process, each after a name, until its output ends."""
    with process.stdout or contextlib.nullcontext(()) as lines:
        for line in lines:
            say(line.rstrip(), name)


def watch_signals() -> None:
    """Set `stop_requested` when a signal asks this program to end."""
    for name in {"SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP"} & set(dir(signal)):
        number = getattr(signal, name)
        if name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, lambda *_: stop_requested.set())


def say(line: str, name: str = "lab") -> None:
    """Print a name and a line."""
    label = f"{name:<10}"
    # There is no stdout if the parent process closed it; then `print` does nothing.
    if sys.stdout and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{TABLES['colors'][name]}m{label}\033[0m"
    try:
        print(f"{label}{line}\n", end="", flush=True)  # in one piece: several threads print
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # as after Ctrl-C in `lab.py up | tee log`
            print(f"The output cannot be written: {error.strerror}", file=sys.stderr)
        stop_requested.set()
