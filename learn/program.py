"""A program that a check starts: the learner's, or a service of the world around it."""

import asyncio
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from learn import leftovers
from learn.verdict import Fail
from tools.machine import WINDOWS
from tools.processes import STOP_SIGNAL

# Not the settings of our services: a check has the same world for everybody.
KEPT_VARIABLES = ["PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR"]
KEPT_VARIABLES += ["SYSTEMROOT", "TEMP", "TMP", "USERPROFILE"]  # of Windows
# On macOS and Windows, urllib asks the system for a proxy, also for this machine.
SET_VARIABLES = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "NO_PROXY": "127.0.0.1,localhost"}
KEPT_BYTES = 128 * 1024  # of the output, at its end
# Lines that do not help: of http.server for each request, and marks below a line of code.
NOISE = re.compile(r'127\.0\.0\.1 - - \[.*"(GET|POST|PUT|DELETE) |[ ^~]+$')


class Program:
    """A running program and the end of its output. `file` is the learner's file, for messages."""

    def __init__(self, process: asyncio.subprocess.Process, file: Path) -> None:
        self.process, self.file = process, file
        self._tail = b""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout  # noqa: S101 - it is a pipe
        while data := await self.process.stdout.read(65536):
            self._tail = (self._tail + data)[-KEPT_BYTES:]

    @property
    def output(self) -> str:
        """The end of what it has printed."""
        return self._tail.decode(errors="replace")

    @property
    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.returncode

    def stop(self) -> None:
        """Ask it to stop: SIGTERM, or Ctrl-Break on Windows."""
        if self.code is None:
            self.process.send_signal(STOP_SIGNAL)

    def kill(self) -> None:
        """End it at once: SIGKILL."""
        if self.code is None:
            self.process.kill()

    async def ended(self, seconds: float) -> int:
        """Return its exit code. Raises Fail if it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.code is None:  # not `wait`, which also waits for children with our pipe
            if time.monotonic() > deadline:
                raise Fail(
                    "the program ends",
                    f"it still ran after {seconds:g} s",
                    self.last_line(),
                    f"{self.file.name}: a loop without an end, or a call without a timeout",
                )
            await asyncio.sleep(0.02)
        await asyncio.wait({self._reader}, timeout=0.5)
        return self.code

    async def succeeded(self, seconds: float) -> None:
        """Return when it has ended with exit code 0. Raises Fail otherwise."""
        code = await self.ended(seconds)
        if code:
            raise self.crash(f"it ended with {said(code)}")

    def crash(self, seen: str) -> Fail:
        """Return the error that says where the program stopped."""
        error = "".join(self.last_lines(1)) or "it printed nothing"
        look = f"the output of {self.file.name}"
        if found := re.findall(rf'{re.escape(self.file.name)}", line (\d+)', self.output):
            look = f"{self.file.name}, line {found[-1]}"
        return Fail("the program runs without an error", seen, error, look)

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines of its output that help; of a traceback, those of its own file."""
        kept, is_foreign = [], False
        for line in self.output.splitlines():
            if line.startswith('  File "'):
                is_foreign = self.file.name not in line
            elif not line.startswith("    "):
                is_foreign = False
            if line.strip() and not is_foreign and not NOISE.match(line):
                kept.append(line[:200])
        return kept[-count:]

    def last_line(self) -> str:
        """Return the last line of its output, in a sentence."""
        return "".join(f"its last line of output is {line!r}" for line in self.last_lines(1))


def said(code: int) -> str:
    """Return an exit code in words."""
    if code < 0 and not WINDOWS:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


async def start(command: list[str], file: Path, folder: Path, **variables: str) -> Program:
    """Start a command in a folder; its output and errors are one text."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    new_group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows: for Ctrl-Break
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**kept, **SET_VARIABLES, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        creationflags=new_group,
        start_new_session=not WINDOWS,  # `kill 0` of a learner's program must not kill the check
    )
    leftovers.groups.add(process.pid)
    return Program(process, file)
