"""No acknowledged write is lost when a process is killed: each one is on the disk before."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Terminal, wait_until
from served import READY_SECONDS, Api, Postgres
from writers import MIN_ACKNOWLEDGED_PER_CYCLE, WRITERS, Load

from tools.processes import ROOT

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)

CYCLES = 200 if "LAB_LONG" in os.environ else 20


@pytest.mark.parametrize("killed", ["SQLite's API", "PostgreSQL's API", "PostgreSQL"])
def test_no_acknowledged_write_is_lost_by_sigkill(
    terminal: Callable[..., Terminal],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    killed: str,
) -> None:
    """Killed under load again and again, a store keeps every acknowledged write and right counts.

    A write without a response happened completely or not at all. The API is ready soon after its
    start, or after the start of its database.
    """
    url = f"sqlite:///{tmp_path / 'users.db'}"
    postgres: Postgres | None = None
    if killed != "SQLite's API":
        postgres = request.getfixturevalue("postgres")
        url = postgres.url
    api, load, seconds = Api(terminal, url), Load(), []
    victim = postgres if postgres and killed == "PostgreSQL" else api
    api.start()

    def kill() -> None:
        time.sleep(load.dice.uniform(0.1, 0.4))
        victim.kill()

    for _ in range(CYCLES):
        load.run(api.port, kill)
        started = time.monotonic()
        victim.start()
        api.wait_until_ready()
        seconds.append(time.monotonic() - started)
        load.check(api.port)
    print(
        f"{killed}: {CYCLES} cycles, {load.acknowledged} acknowledged writes,"
        f" ready after {sorted(seconds)[len(seconds) // 2]:.2f} s (slowest {max(seconds):.2f} s)"
    )

    assert load.acknowledged >= MIN_ACKNOWLEDGED_PER_CYCLE * CYCLES, "void: too little traffic"
    # One in ten may be late: the machine may have other work.
    assert sorted(seconds)[CYCLES * 9 // 10 - 1] <= READY_SECONDS


TRACED = "trace=read,recvfrom,recvmsg,write,writev,sendto,sendmsg,fsync,fdatasync"
TRACED_WRITES = 25  # of each writer
RECEIVED = re.compile(r"\bread(?:\(| resumed).*(?i:x-request-id): ([0-9]+-[0-9]+)\\r")
RESPONDED = re.compile(r"(?:write|writev|sendmsg)\(.*HTTP/1\.1 2.*x-request-id: ([0-9]+-[0-9]+)\\r")
SYNC = re.compile(r"^(\d+) +(?:fsync|fdatasync)\(\d+<[^>]*(?:-wal|/pg_wal/)[^>]*>")
SYNC_ENDS = re.compile(r"^(\d+) +<\.\.\. (?:fsync|fdatasync) resumed>")


def strace_command(trace: Path) -> list[str]:
    """Return a command that writes system calls to a file; skip if strace does not work here."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("strace does not work here")
    return ["strace", "-I", "2", "-f", "-y", "-s", "400", "-qq", "-e", TRACED, "-o", str(trace)]


def replace_in(folder: Path, was: str, becomes: str) -> None:
    """Replace a text in the one module of a folder that contains it."""
    [module] = [each for each in folder.glob("*.py") if was in each.read_text(encoding="utf-8")]
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(was, becomes), encoding="utf-8")


def may_attach(pid: int) -> bool:
    """Return whether strace may attach to a process that it did not start."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        strace = ["strace", "-qq", "-o", os.devnull, "-p", str(pid)]
        subprocess.run(strace, timeout=1, stderr=subprocess.DEVNULL)
        return False
    return True


def not_synced(trace: str) -> tuple[int, list[str]]:
    """Return the number of acknowledged writes, and the ids of those without a sync before.

    A sync counts if it began after the request was received and ended before the response was sent.
    """
    received: dict[str, int] = {}
    running: dict[str, int] = {}  # thread -> the line where its sync began
    latest_begin = -1  # of all syncs that have ended
    acknowledged, missed = 0, []
    for number, line in enumerate(trace.splitlines()):
        if sync := SYNC.match(line):
            running[sync[1]] = number
            if "<unfinished" not in line:
                latest_begin = max(latest_begin, running.pop(sync[1]))
        elif (sync := SYNC_ENDS.match(line)) and sync[1] in running:
            latest_begin = max(latest_begin, running.pop(sync[1]))
        elif response := RESPONDED.search(line):
            acknowledged += 1
            if latest_begin < received[response[1]]:
                missed.append(response[1])
        elif request := RECEIVED.search(line):
            received[request[1]] = number
    return acknowledged, missed


@pytest.mark.parametrize(
    ("store", "mode", "durable"),
    [
        ("sqlite", "synchronous = FULL", True),
        ("sqlite", "synchronous = NORMAL", False),
        ("sqlite", "synchronous = OFF", False),
        ("postgresql", "synchronous_commit=on", True),
        ("postgresql", "synchronous_commit=off", False),
    ],
)
def test_each_acknowledgement_comes_after_a_sync(
    terminal: Callable[..., Terminal],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    mode: str,
    durable: bool,
) -> None:
    """The database's log was synced to the disk between a write's request and its response.

    SIGKILL cannot test that: the system keeps the data that a process wrote, synced or not. So this
    test reads the system calls. With a database that does not wait, it finds the missing syncs.
    """
    trace = tmp_path / "trace"
    strace = strace_command(trace)
    folder = tmp_path / "api"
    shutil.copytree(ROOT / "api", folder, ignore=shutil.ignore_patterns(".venv", ".mypy_cache"))
    if store == "sqlite":
        url = f"sqlite:///{tmp_path / 'users.db'}"
        replace_in(folder, "PRAGMA synchronous = FULL", f"PRAGMA {mode}")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = f"{postgres.url}&options=-c%20{mode.replace('=', '%3D')}"
        strace += ["-p", str(postgres.pid)]  # and its later child processes
        if not may_attach(postgres.pid):
            pytest.skip("strace may only trace its own children here (kernel.yama.ptrace_scope)")
    api = Api(terminal, url)
    api.folder, api.prefix = folder, strace
    api.start()
    load = Load()
    load.run(
        api.port,
        lambda: wait_until("the writes", lambda: load.acknowledged >= WRITERS * TRACED_WRITES, 60),
    )
    api.kill()  # strace ends too; it has written each line at once
    acknowledged, missed = not_synced(trace.read_text(encoding="utf-8", errors="replace"))
    print(f"{store}, {mode}: {acknowledged} acknowledged, {len(missed)} without a sync")

    assert acknowledged == load.acknowledged
    assert not missed if durable else len(missed) > acknowledged / 2
