"""The life of the process: its pace, its lines, its accounts and its end."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fake_api
import pytest
from fake_api import FakeApi, respond, until
from simulator_process import USER_LINE, SimulatorProcess

STATES = ["loading libraries", "waiting for the API", "hanging", "backing off", "pausing"]
SIGNALS = [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGINT]


def simulator(api: FakeApi, interval_seconds: float) -> SimulatorProcess:
    return SimulatorProcess(API_BASE_URL=api.url, SIMULATION_INTERVAL=str(interval_seconds))


async def test_one_line_for_the_configuration_and_one_for_each_user() -> None:
    """The lines come through a pipe as they happen; they hold outcome, id, status and time, and
    neither a name nor an age; the summary accounts for every user.
    """
    async with FakeApi() as api, simulator(api, 0.05) as process:
        await until(lambda: len(process.said) >= 6)
        await process.stop()

        assert process.said[0] == f"Simulator: users, one every 0.05 s, to {api.url}"
        lines = [USER_LINE.fullmatch(line) for line in process.said[1:-3]]
        said_created = [int(line["user_id"]) for line in lines if line]
        assert len(said_created) == len(lines)
        assert said_created == list(api.users)
        numbers, in_flight = process.accounts()
        assert (numbers[0], numbers[1], in_flight) == (len(api.users), len(api.users), None)
        for user in api.users.values():
            assert not any(word in "".join(process.said) for word in user["name"].split())


async def test_a_taken_id_is_drawn_again_but_not_for_ever() -> None:
    """A user whose id is taken is sent under another; an API that takes every id away has rejected
    the user, and the pace is kept.
    """
    async with FakeApi() as api, simulator(api, 0.3) as process:
        api.next_handlers["create"].extend([respond(200, {"error": "No"})] * 5)
        line = await process.until_said("rejected")
        await process.until_said("created")
        await process.stop()

        assert line.endswith("  5 ids in a row were taken")
        people = [(request.params["name"], request.params["age"]) for request in api.seen("create")]
        ids = {request.params["user_id"] for request in api.seen("create")}
        assert len(set(people[:5])) == 1
        assert people[5] != people[4]
        assert len(ids) == len(people)
        assert process.accounts()[0][2:] == [0, 1, 0]


async def test_a_rejected_user_is_reported_without_a_name() -> None:
    """The API's reason stands in the line of the user, who stays unnamed; the run goes on."""

    async def reject(_: FakeApi, request: Any, writer: asyncio.StreamWriter) -> None:
        name, age = request.params["name"], request.params["age"]
        await fake_api.send(writer, 422, {"detail": [{"msg": f"{name} ({age}) is not wanted"}]})

    async with FakeApi() as api, simulator(api, 0.1) as process:
        api.next_handlers["create"].append(reject)
        line = await process.until_said("rejected")
        await process.until_said("created")
        await process.stop()

        reason = r' ms  [0-9a-f]{16}  \[{"msg": "(\*\*\* )+\(\*\*\*\) is not wanted"}\]'
        assert re.search(reason, line)
        assert api.seen("create")[0].params["name"] not in "".join(process.said)


async def in_state(state: str, api: FakeApi, process: SimulatorProcess) -> None:
    """Wait until the process is in the state that its API was prepared for."""
    match state:
        case "loading libraries":
            await process.until_said("Simulator: ")
        case "waiting for the API":
            await process.until_said("The API responded with 503")
        case "hanging":
            await until(lambda: bool(api.seen("create")))
        case "backing off":
            await process.until_said("The API responded with 500")
        case "pausing":
            await process.until_said("created")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("state", STATES)
async def test_a_signal_ends_it(state: str, number: signal.Signals) -> None:
    """In whatever state, SIGTERM and Ctrl-C end the process at once, though it would wait for much
    longer, with a summary that names the user in flight.
    """
    async with FakeApi() as api, simulator(api, 60) as process:
        waits = respond(503, {}, {"Retry-After": "30"})
        api.next_handlers["health"].extend([waits] if state == "waiting for the API" else [])
        handlers = {"hanging": fake_api.hang, "backing off": respond(500, {}, {"Retry-After": "9"})}
        api.next_handlers["create"].extend([handlers[state]] if state in handlers else [])
        await in_state(state, api, process)
        await process.stop(number)

        numbers, in_flight = process.accounts()
        if state in handlers:
            assert numbers == [1, 0, 0, 0, 1]
            assert in_flight == api.seen("create")[0].params["user_id"]
        else:
            assert (sum(numbers[2:]), in_flight) == (0, None)


async def test_a_stop_waits_a_moment_for_a_response() -> None:
    """If the response comes within half a second, the user counts as created."""

    async def slow(*arguments: Any) -> None:
        await asyncio.sleep(0.3)
        await fake_api.contract(*arguments)

    async with FakeApi() as api, simulator(api, 60) as process:
        api.next_handlers["create"].append(slow)
        await until(lambda: bool(api.seen("create")))
        await process.stop()

        assert process.accounts() == ([1, 1, 0, 0, 0], None)


async def test_signals_may_come_again_and_again() -> None:
    """An impatient second, third and fourth signal change nothing: no traceback, exit code 0."""
    async with FakeApi() as api, simulator(api, 60) as process:
        api.next_handlers["create"].append(fake_api.hang)
        await until(lambda: bool(api.seen("create")))
        while process.process.returncode is None:
            process.tell(SIGNALS[-1])
            await asyncio.sleep(0.01)
        await process.__aexit__()

        assert (process.process.returncode, process.complaints) == (0, "")
        assert process.accounts()[0] == [1, 0, 0, 0, 1]


async def test_a_silent_name_server_does_not_hold_back_the_end(tmp_path: Path) -> None:
    """A host name look-up cannot be cancelled: the end does not wait for it either."""
    silence = "import socket, time\nsocket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
    (tmp_path / "sitecustomize.py").write_text(silence)
    process = SimulatorProcess(API_BASE_URL="http://api0:8000", PYTHONPATH=str(tmp_path))
    async with process:
        await process.until_said("The API gave no connection within 3 s")
        await process.stop()


@asynccontextmanager
async def writing_to(
    output: int, api: FakeApi, *flags: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a simulator with this stdout; in the end it must say on stderr what it has sent."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "main.py", *flags),
        env={**os.environ, "API_BASE_URL": api.url},
        stdout=output,
        stderr=subprocess.PIPE,
    )
    os.close(output)
    yield process
    _, complaints = await process.communicate()
    accounts, reason = complaints.decode().splitlines()
    created = len(api.users)
    assert process.returncode == 1
    assert reason.startswith("The output cannot be written: ")
    assert accounts.startswith(f"{created} attempted = {created} created + 0 already there")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that breaks like this")
async def test_a_closed_pipe_ends_it_with_one_sentence() -> None:
    """If the reader closes its stdout, stderr has the reason and the accounts; it exits with 1."""
    reading, writing = os.pipe()
    async with FakeApi() as api, writing_to(writing, api, "--interval", "0.01"):
        await until(lambda: len(api.users) > 2)
        os.close(reading)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("flags", [[], ["--output", "quiet"]], ids=["at once", "at the end"])
async def test_a_full_disk_does_not_take_the_accounts(flags: list[str]) -> None:
    """If stdout cannot be written, stderr has the reason and the accounts."""
    full = os.open("/dev/full", os.O_WRONLY)
    async with FakeApi(batches=True) as api, writing_to(full, api, "--count", "30", *flags):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors by a POSIX shell")
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "2>&- </dev/null"])
async def test_it_runs_without_stderr(closed: str) -> None:
    """Users are sent, and a mistake is printed on stdout."""
    async with FakeApi(batches=True) as api:
        for flags, code in (("--count 30", 0), ("--count 0", 2)):
            process = await asyncio.create_subprocess_shell(
                f"'{sys.executable}' main.py {flags} {closed}",
                env={**os.environ, "API_BASE_URL": api.url},
                stdout=subprocess.PIPE,
            )
            said, _ = await process.communicate()
            assert process.returncode == code
            if ">&- 2" not in closed:
                assert (b"30 created" if code == 0 else b"--count must be") in said
        assert len(api.users) == 30


INTERRUPTS = """
import os, sys

class Interrupt:
    left = int(os.environ["INTERRUPT_AT"])
    main_runs = False

    def find_spec(self, name, *_):
        self.main_runs |= name == "signal"  # the first module that main.py loads
        self.left -= self.main_runs
        if self.left == 0:
            os.kill(os.getpid(), 2)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal to itself")
def test_ctrl_c_while_modules_are_loaded(tmp_path: Path) -> None:
    """At whatever import Ctrl-C comes, there is no traceback, and the exit code is 0."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for number in [1, 2, 3, *random.Random(seed).sample(range(4, 260), 12)]:
        ended = subprocess.run(
            [sys.executable, "main.py", "--dry-run", "--count", "1"],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPT_AT": str(number)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, ""), number
        assert number > 3 or not ended.stdout


@pytest.mark.parametrize("name", ["httptools", "faker"])
@pytest.mark.parametrize("code", ["", "raise ImportError('wrong ELF class')", "import absent"])
def test_a_broken_or_foreign_library_is_said_in_one_sentence(
    tmp_path: Path, name: str, code: str
) -> None:
    """Another package of this name, or one for another Python: what to do, and exit code 1."""
    (tmp_path / f"{name}.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, "main.py", "--count", "1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "API_BASE_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    what = {"": name, "import absent": "absent"}.get(code, "wrong ELF class")
    told = f"{what} is missing or broken: run pip install -r requirements.txt\n"
    assert (ended.returncode, ended.stderr.replace("faker.providers", "faker")) == (1, told)


def test_a_missing_library_is_said_in_one_sentence() -> None:
    """Outside the virtual environment the process says what to do, and exits with 1."""
    ended = subprocess.run(
        [sys.executable, "-S", "main.py"], capture_output=True, text=True, timeout=60, check=False
    )

    sentence = "httptools is missing or broken: run pip install -r requirements.txt\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)
