"""Ends every process that this one has started, whatever a learner's program has done.

On Linux, orphans become children of this process, so they are found in any session. On macOS,
orphans that have left the program's process group are not found; on Windows, no orphans are.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.machine import run_quietly

BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in <sys/prctl.h>
groups: set[int] = set()  # the process groups of the programs that were started


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)


def processes() -> list[tuple[int, int, int]]:
    """Return process id, parent and process group of all processes."""
    if sys.platform != "linux":
        rows = [line.split() for line in run_quietly("ps", "-Ao", "pid=,ppid=,pgid=").splitlines()]
        return [(int(pid), int(parent), int(group)) for pid, parent, group in rows]
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found.append((int(path.parent.name), int(fields[1]), int(fields[2])))
    return found


def descendants() -> list[int]:
    """Return the processes below this one, and those in the groups of its programs."""
    rows, ours = processes(), {os.getpid()}
    ours |= {pid for pid, _, group in rows if group in groups}
    while more := {pid for pid, parent, _ in rows if parent in ours} - ours:
        ours |= more
    return sorted(ours - {os.getpid()})


def kill_descendants(seconds: float = 5.0) -> None:
    """Kill all descendants; first stop them, so that they start no others meanwhile."""
    if sys.platform == "win32":
        for pid in children_on_windows():
            run_quietly("taskkill", "/F", "/T", "/PID", pid)
        return
    deadline = time.monotonic() + seconds
    while (found := descendants()) and time.monotonic() < deadline:
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, signum)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def children_on_windows() -> list[str]:
    """Return the process ids of this process's children."""
    query = f"(Get-CimInstance Win32_Process -Filter 'ParentProcessId={os.getpid()}').ProcessId"
    command = ["powershell", "-NoProfile", "-Command", query]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(command, capture_output=True, text=True, timeout=15)  # noqa: S603
        return listed.stdout.split()
    return []
