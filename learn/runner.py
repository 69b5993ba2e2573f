"""Starts a check in a process of its own, and returns its verdict, whatever happens to it."""

import contextlib
import json
import subprocess
import threading
import time
from collections import deque
from functools import cache
from pathlib import Path

from learn.leftovers import adopt_orphans, kill_descendants
from learn.missions import Loaded
from learn.progress import lock
from learn.verdict import BROKEN, Verdict
from tools.environments import environment
from tools.machine import ROOT
from tools.processes import OWN_GROUP, Stopped, end, stop_requested

LOCK = ROOT / ".lab" / "environment.lock"
CLEANING_SECONDS = 25  # after an interrupt: longer than the check itself needs
GRACE_SECONDS = 20  # beyond the mission's limit, for the start of the check and its end


@cache
def api_python() -> str:
    """Return the Python of the API's environment; create it if needed, one process at a time."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that cannot be written: go on without
            LOCK.parent.mkdir(exist_ok=True)
            file = stack.enter_context(LOCK.open("a", encoding="utf-8"))
            while not lock(file):
                stop_requested.check(0.1)
        return environment(ROOT / "api", "requirements.txt")


def check(loaded: Loaded, file: Path, seed: int, faults: bool = True) -> Verdict:
    """Check a file. Raises Stopped on Ctrl-C; no process is left."""
    command = [api_python(), "-m", "learn.check", str(loaded.number), str(file.resolve())]
    command += [str(seed), *([] if faults else ["no-op"])]
    adopt_orphans()
    process = subprocess.Popen(  # noqa: S603 - our own program
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,  # the check ends when this pipe does
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        **OWN_GROUP,
    )
    printed: deque[str] = deque(maxlen=20)
    reader = threading.Thread(target=lambda: printed.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        wait_for(process, loaded.mission.limit_seconds + GRACE_SECONDS)
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(CLEANING_SECONDS)
        end(process)
        reader.join(5)
        process.stdout.close()  # type: ignore[union-attr]
    with contextlib.suppress(ValueError, TypeError, IndexError):
        return Verdict(**json.loads(printed[-1]))
    kill_descendants()  # a program has killed its check: what it had started is ours now
    last = next(filter(str.strip, reversed(printed)), "it printed nothing").strip()
    return Verdict("VOID", seed=seed, seen=f"{BROKEN}: it ended without a verdict ({last[:300]})")


def wait_for(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait for the end of a process, at most `seconds`. Raises Stopped."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if stop_requested.wait(0.05):
            raise Stopped
