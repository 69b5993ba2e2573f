"""The simulator's speed beside other clients: a part of `python3 lab.py bench`."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import ours
from benchmarks.load import output_of
from benchmarks.ratios import Result, Row, in_turn, medians
from benchmarks.servers import LOAD_CORE, Contender, Server, children_seconds, on_core, serving
from tools.environments import environment
from tools.processes import ROOT, LabError, say

HERE = Path(__file__).parent
SIMULATOR = ROOT / "data_ingestion_simulator"
CONNECTIONS = 8
DEFAULT_FAKER = "from faker import Faker; name = Faker().name"
# `names` is the only function that the benchmark calls in a service: no command prints names alone.
OUR_NAMES = "import random, generator; name = generator.names(random.Random(1), 'en_US')"
PER_SECOND = """
import timeit
count, seconds = timeit.Timer('name()', {setup!r}).autorange()
print(count / seconds)
"""


class Creates(NamedTuple):
    """How many users a client created in a second, and in a second of processor time."""

    per_second: float
    per_cpu_second: float


def measure(quick: bool) -> Result:
    """Run all comparisons."""
    return Result(
        how=f"{'2 or 3' if quick else '3 or 5'} rounds; {CONNECTIONS} connections; the client has a"
        " core, and the server of single creates only counts",
        rows=[names(quick), *creates(quick), batches(quick)],
    )


def names(quick: bool) -> Row:
    """Names per second, beside Faker's default."""
    say("names")
    setups = {"ours": OUR_NAMES, "Faker": DEFAULT_FAKER}
    turns = {who: partial(names_per_second, setup) for who, setup in setups.items()}
    rate = medians(in_turn(3 if quick else 5, turns))
    return Row("names per second: default Faker", rate["ours"] / rate["Faker"], 10)


def names_per_second(setup: str) -> float:
    """Names per second and core."""
    program = PER_SECOND.format(setup=setup)
    return float(output([python_of(SIMULATOR), "-c", program], SIMULATOR))


def creates(quick: bool) -> list[Row]:
    """Single creates per second and client core, to a server that only counts them."""
    say("single creates")
    seconds, scale = (3, 1) if quick else (6, 3)
    python = python_of(HERE)
    uvicorn = ["-m", "uvicorn", "server:app", "--log-level", "warning", "--port", "{port}"]
    with serving([Contender("server", (python, *uvicorn), HERE)]) as servers:
        address = f"http://127.0.0.1:{servers['server'].port}"
        count = f"--count {12_000 * scale} --batch-size 1 --concurrency {CONNECTIONS}".split()
        simulator = (python_of(SIMULATOR), "main.py", *count, "--output", "quiet")
        locust = (
            f"-m locust --headless --only-summary -u {CONNECTIONS} -r 100 -t {seconds}s".split()
        )
        wrk = f"wrk -t1 -c{CONNECTIONS} -d{seconds}s -s create.lua {address}".split()
        commands: dict[str, tuple[Sequence[str], Path]] = {
            "ours": ((*simulator, "--api-base-url", address), SIMULATOR),
            "session": ((python, "session.py", address, str(2_000 * scale)), HERE),
            "locust": ((python, *locust, "--host", address), HERE),
            "wrk": (wrk, HERE),
        }
        turns = {n: partial(created, servers["server"], *each) for n, each in commands.items()}
        measured = in_turn(2 if quick else 5, turns)
    rate = medians({who: [run.per_second for run in runs] for who, runs in measured.items()})
    cpu = medians({who: [run.per_cpu_second for run in runs] for who, runs in measured.items()})
    return [
        Row("creates per second and core: one requests.Session", rate["ours"] / rate["session"], 5),
        Row("creates per second and core: Locust FastHttpUser", rate["ours"] / rate["locust"], 1),
        Row("creates per second and core: wrk", rate["ours"] / rate["wrk"]),
        Row("creates per second of the client's CPU: wrk", cpu["ours"] / cpu["wrk"]),
    ]


def created(server: Server, command: Sequence[str], folder: Path) -> Creates:
    """Run a client to its end; return creates per second, as the server counted them.

    The processor time includes the client's start.
    """
    server.ask("GET", "/tally")  # this also resets the tally
    before = children_seconds()  # of those that have ended, so not of the server
    output(command, folder)
    cpu_seconds = children_seconds() - before
    tally = json.loads(server.ask("GET", "/tally")[1])
    if not tally["created"]:
        raise LabError(f"bench: {' '.join(command)} created no user")
    return Creates(tally["created"] / tally["seconds"], tally["created"] / cpu_seconds)


def batches(quick: bool) -> Row:
    """Users in batches beside single posts, to the real API; a million unless quick."""
    say("batches")
    many, few = (50_000, 4_000) if quick else (1_000_000, 20_000)
    turns = {"batches": partial(sent, many, 1_000), "single posts": partial(sent, few, 1)}
    rate = medians(in_turn(2 if quick else 3, turns))
    return Row("users per second: single posts", rate["batches"] / rate["single posts"], 15)


def sent(count: int, batch_size: int) -> float:
    """Send users to a new API; return users per second, as the simulator reports them."""
    with serving([ours()]) as servers:
        flags = f"--count {count} --batch-size {batch_size} --output json".split()
        address = f"http://127.0.0.1:{servers['ours'].port}"
        command = (python_of(SIMULATOR), "main.py", *flags, "--api-base-url", address)
        summary = json.loads(output(command, SIMULATOR).splitlines()[-1])
    if summary["created"] != count:
        raise LabError(f"bench: not every user was created: {summary}")
    return float(summary["users_per_second"])


def output(command: Sequence[str], folder: Path) -> str:
    """Run a client on the load's core to its end; return its output."""
    return output_of([*on_core(LOAD_CORE), *command], folder)


def python_of(folder: Path) -> str:
    """Return the Python of a folder's environment."""
    return environment(folder, "requirements.txt")
