"""What one hostile body may cost: the memory of the API, and the time that other requests wait."""

import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks.contenders import API, OURS, ours
from benchmarks.listing import asking_for_health
from benchmarks.load import output_of
from benchmarks.ratios import Result, Row, Table
from benchmarks.servers import serving
from tools.environments import environment
from tools.processes import LabError, say

MOST_MIB = 300
LONGEST_WAIT_MS = 300
# The bodies of the API's own test: each is expensive for a decoder in another way.
WRITE_BODIES = """
import pathlib, random, sys
from test_limits import shapes
for name, body in shapes(random.Random(sys.argv[2])):
    pathlib.Path(sys.argv[1], name).write_bytes(body)
"""


def measure(quick: bool) -> Result:
    """Send each body to an API without users, while another client asks for /health."""
    rounds = 1 if quick else 3
    statuses: dict[str, int] = {}
    waits_ms: dict[str, list[float]] = defaultdict(list)
    most_mib: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as name, serving([ours()]) as servers:
        server, folder = servers[OURS], Path(name)
        for seed in range(rounds):
            write_bodies(folder, seed)
            say(f"{len(list(folder.iterdir()))} bodies, round {seed + 1} of {rounds}")
            for file in sorted(folder.iterdir()):
                body = file.read_bytes()
                server.reset_peak()
                with asking_for_health(server) as waits:
                    statuses[file.name], response = server.ask("POST", "/users/batch", body)
                if statuses[file.name] not in (200, 413, 422):
                    raise LabError(f"bench: {file.name}: {statuses[file.name]} {response[:100]!r}")
                waits_ms[file.name] += waits
                mib = server.memory_bytes("VmHWM") / 2**20
                most_mib[file.name] = max(most_mib[file.name], mib)
    wait_ms = {name: median(waits) for name, waits in waits_ms.items()}
    longest_ms = max(wait_ms.values())
    lines = [
        [name, str(statuses[name]), f"{most_mib[name]:.0f}", f"{wait_ms[name]:.0f}"]
        for name in sorted(wait_ms, key=lambda name: -wait_ms[name])
    ]
    return Result(
        how=f"{rounds} rounds; each body has nearly 8 MiB, and no user is stored at the start",
        rows=[
            Row("largest memory", max(most_mib.values()), MOST_MIB, "at most", "MiB"),
            Row("longest wait for /health", longest_ms, LONGEST_WAIT_MS, "at most", "ms"),
        ],
        tables=[Table("Bodies", ["", "status", "most MiB", "ms /health waits"], lines)],
    )


def write_bodies(folder: Path, seed: int) -> None:
    """Write each body of the API's test into a file with its name."""
    python = environment(API, "requirements.txt", "requirements-test.txt")
    command = [python, "-c", WRITE_BODIES, str(folder), str(seed)]
    output_of(command, API / "tests", PYTHONPATH=str(API))
