"""The simulator as a process, watched through its pipes."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from fake_api import until

LINE = re.compile(r"\d\d:\d\d:\d\d (.*)")
# All that a line about a user can hold: neither a name nor an age.
USER_LINE = re.compile(
    r"(?P<outcome>created|already there|rejected|given up) +user (?P<user_id>\d{16})"
    r"  (?P<status>\d{3})  [\d,]+ ms(?P<reason>  .*)?"
)
SUMMARY = re.compile(
    r"(?:Stopped|Done) after \d+\.\d s: ([\d,]+) attempted = ([\d,]+) created"
    r" \+ ([\d,]+) already there \+ ([\d,]+) rejected \+ ([\d,]+) given up"
    r"(?: \(outcome unknown: user ([-, 0-9]+)\))?"
)


class SimulatorProcess:
    """`python main.py` with these flags and variables; `said` are its lines, without their time."""

    def __init__(self, *flags: str, **variables: str) -> None:
        self._flags = flags
        self._environ = {**os.environ, **variables}
        self._environ.pop("PYTHONUNBUFFERED", None)  # lines must show at once without its help
        self.said: list[str] = []
        self.complaints = ""

    async def __aenter__(self) -> Self:
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "main.py",
            *self._flags,
            env=self._environ,
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            creationflags=flags,
        )
        self._reading = asyncio.gather(self._read_lines(), self._read_complaints())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self._reading
        await self.process.wait()

    async def _read_lines(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            match = LINE.fullmatch(line.decode().rstrip())
            assert match, line
            self.said.append(match[1])

    async def _read_complaints(self) -> None:
        assert self.process.stderr
        self.complaints = (await self.process.stderr.read()).decode()

    async def until_said(self, pattern: str) -> str:
        """Wait for a line that begins with the pattern, and return it."""
        await until(lambda: any(re.match(pattern, line) for line in self.said))
        return next(line for line in self.said if re.match(pattern, line))

    def tell(self, number: signal.Signals) -> None:
        """Send a signal: on Windows, which knows no other between processes, Ctrl-Break."""
        # Not by send_signal, which checks whether it has ended, and then takes its exit code.
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, getattr(signal, "CTRL_BREAK_EVENT", number))

    async def end(self) -> int:
        """Wait for the end that comes by itself; returns the exit code."""
        async with asyncio.timeout(20):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal, after which the process ends soon: without an error or a traceback."""
        self.tell(number)
        async with asyncio.timeout(5):
            assert await self.process.wait() == 0
            await self._reading
        assert self.complaints == ""

    def accounts(self) -> tuple[list[int], str | None]:
        """The five numbers of the summary, and the id in flight; asserts that they add up."""
        match = SUMMARY.fullmatch(self.said[-1])
        assert match, self.said
        numbers = [int(match[place].replace(",", "")) for place in range(1, 6)]
        assert numbers[0] == sum(numbers[1:])
        return numbers, match[6]
