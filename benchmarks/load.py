"""The load: one call of the API, repeated by wrk, and what it costs the server."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.servers import CORES, HERE, INHERITED, LOAD_CORE, Server, on_core
from tools.processes import LabError, Stopped, stop_requested

CONNECTIONS = 64
KNOWN_USERS = 1_000  # for get and update, unless a part has more users
first_ids = count(10**8, 10**8)  # each run creates users with new ids


@dataclass(frozen=True)
class Run:
    """The figures of one short run of wrk."""

    answered: int
    cpu_us: float  # of the server's processes, per request
    per_second: float
    p99_ms: float


def wrk(
    server: Server,
    call: str,
    seconds: int = 1,
    connections: int = CONNECTIONS,
    known_users: int = KNOWN_USERS,
    pause_ms: float = 0,
) -> Run:
    """Measure one call for some seconds. Raises LabError if a response was an error.

    With a pause, each connection waits between two requests, `pause_ms` on average.
    """
    first_id = next(first_ids)
    cores = [LOAD_CORE] if server.pinned else CORES
    command = [*on_core(*cores), "wrk", "--threads=1", f"--connections={connections}"]
    command += [f"--duration={seconds}s", "--timeout=10s", "--script=calls.lua"]
    command += [f"http://127.0.0.1:{server.port}", "--", call, str(first_id)]
    command += [str(known_users), f"{pause_ms:.3f}"]
    cpu_before = server.cpu_seconds()
    report = json.loads(output_of(command, HERE / "api").splitlines()[-1])
    return judged(server.name, call, report, server.cpu_seconds() - cpu_before)


def judged(name: str, call: str, report: Mapping[str, Any], cpu_seconds: float) -> Run:
    """Return the figures of wrk's report. Raises LabError if it has errors or no responses."""
    if report["refused"] or report["broken"] or not report["answered"]:
        raise LabError(
            f"bench: the run is invalid: {name}, {call}: of {report['answered']} responses"
            f" {report['refused']} were errors, {report['broken']} connections broke"
        )
    return Run(
        answered=report["answered"],
        cpu_us=cpu_seconds * 1e6 / report["answered"],
        per_second=report["answered"] / report["seconds"],
        p99_ms=report["p99_ms"],
    )


def output_of(command: Sequence[str], folder: Path = HERE, **variables: str) -> str:
    """Run a client to its end and return its output. Raises LabError if it failed."""
    done = subprocess.run(
        command, cwd=folder, env=INHERITED | variables, capture_output=True, text=True
    )
    if stop_requested.wait(0):
        raise Stopped
    if done.returncode:
        raise LabError(f"bench: {' '.join(command)} failed: {done.stdout}{done.stderr}")
    return done.stdout


def need_tools() -> None:
    """Raise LabError, in one sentence, if this machine cannot make the load or measure it."""
    if not Path("/proc/self/stat").exists():
        raise LabError("bench: needs Linux, where /proc shows a server's CPU time")
    if not shutil.which("wrk"):
        raise LabError("bench: needs wrk, which makes the load (apt-get install wrk)")
