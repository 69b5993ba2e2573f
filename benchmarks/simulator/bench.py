"""The simulator's speed beside that of others, in ratios: `python bench.py --help`.

Contenders run in turn, several times, in alternating order; medians are compared, and only what was
measured in the same run. The server has a core of its own, the client another.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BIN = "Scripts" if sys.platform == "win32" else "bin"
CONNECTIONS = 8
SLACK = 0.8  # the machine may be shared: a ratio fails when it is 20 % below its bar

DEFAULT_FAKER = "from faker import Faker; name = Faker().name"
OUR_NAMES = "import random, generator; name = generator.names(random.Random(1), 'en_US')"
PER_SECOND = """
import timeit
count, seconds = timeit.Timer('name()', {setup!r}).autorange()
print(count / seconds)
"""


@dataclass
class Row:
    """One comparison: ours by theirs, and the least that it shall be."""

    what: str
    bar: float
    ratio: float | None = None
    skipped: str = ""


def main() -> int:
    """Run all comparisons; 1 if a ratio is more than 20 % below its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the ratios there as well")
    options = parser.parse_args()
    rows = [*names(options.quick), *creates(options.quick), *batches(options.quick)]
    print(f"{'ours by theirs':<60} {'ratio':>8} {'at least':>9}")
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "skipped"
        print(f"{row.what:<60} {ratio:>8} {row.bar:>9}  {row.skipped}".rstrip())
    if options.json:
        table = json.dumps([asdict(row) for row in rows], indent=2) + "\n"
        options.json.write_text(table, encoding="utf-8")
    return int(any(row.ratio is not None and row.ratio < row.bar * SLACK for row in rows))


def names(quick: bool) -> Iterator[Row]:
    """Names per second against Faker as it comes."""

    def measure(setup: str) -> float:
        command = [*core(1), simulator_python(), "-c", PER_SECOND.format(setup=setup)]
        return float(output(command, ROOT / "data_ingestion_simulator"))

    ours, theirs = alternate(
        3 if quick else 5, lambda: measure(OUR_NAMES), lambda: measure(DEFAULT_FAKER)
    )
    yield Row("names per second: default Faker", 10, ours / theirs)


def creates(quick: bool) -> Iterator[Row]:
    """Single creates per second and client core, to a server that does next to nothing."""
    seconds, scale = (3, 1) if quick else (6, 3)
    with serving([sys.executable, "-m", "uvicorn", "server:app"], HERE) as address:

        def rate(*command: str, folder: Path = HERE) -> float:
            tally(address)
            output([*core(1), *command], folder)
            return tally(address)

        def simulator() -> float:
            flags = f"--count {12_000 * scale} --batch-size 1 --concurrency {CONNECTIONS}".split()
            flags += ["--output", "quiet", "--api-base-url", address]
            folder = ROOT / "data_ingestion_simulator"
            return rate(simulator_python(), "main.py", *flags, folder=folder)

        def session() -> float:
            return rate(sys.executable, "session.py", address, str(2_000 * scale))

        def locust() -> float:
            flags = f"--headless --only-summary -u {CONNECTIONS} -r 100 -t {seconds}s".split()
            return rate(sys.executable, "-m", "locust", *flags, "--host", address)

        def wrk() -> float:
            return rate(
                "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", "create.lua", address
            )

        contenders = [simulator, session, locust, *([wrk] if shutil.which("wrk") else [])]
        ours, *theirs = alternate(3 if quick else 5, *contenders)
    rows = [
        Row("creates per second and core: one requests.Session", 9),
        Row("creates per second and core: Locust FastHttpUser", 1.5),
        Row("creates per second and core: wrk", 0.4, skipped="there is no wrk on this machine"),
    ]
    for row, their in zip(rows, theirs, strict=False):
        row.ratio, row.skipped = ours / their, ""
    yield from rows


def batches(quick: bool) -> Iterator[Row]:
    """Users through batches against single posts, to the real API; a million unless quick."""
    row = Row("users per second: batches by single posts", 15)
    python = ROOT / "api" / ".venv" / BIN / "python"
    if not python.exists():
        row.skipped = "api/.venv is not there: python3 lab.py test makes it"
        yield row
        return

    def rate(count: int, batch_size: int) -> float:
        command = [str(python), "-m", "uvicorn", "main:app", "--no-access-log"]
        with serving(command, ROOT / "api") as address:
            flags = f"--count {count} --batch-size {batch_size} --output json".split()
            ours = [*core(1), simulator_python(), "main.py", *flags, "--api-base-url", address]
            summary = json.loads(output(ours, ROOT / "data_ingestion_simulator").splitlines()[-1])
            if summary["created"] != count:
                raise SystemExit(f"bench: not everybody was created: {summary}")
            return float(summary["users_per_second"])

    many, few = (50_000, 4_000) if quick else (1_000_000, 20_000)
    in_batches, singly = alternate(3, lambda: rate(many, 1_000), lambda: rate(few, 1))
    row.ratio = in_batches / singly
    yield row


def alternate(rounds: int, *contenders: Callable[[], float]) -> list[float]:
    """Let them run in turn, every other round in reverse; the median of each."""
    figures: dict[Callable[[], float], list[float]] = {each: [] for each in contenders}
    for number in range(rounds):
        for each in contenders if number % 2 == 0 else reversed(contenders):
            figures[each].append(each())
    return [statistics.median(measured) for measured in figures.values()]


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[str]:
    """A server on the first core and a free port, until it is not needed any more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        options = ["--port", str(port), "--log-level", "warning"]
        command = [*core(0), *command, *options]
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for(f"{address}/health")
            yield address
        finally:
            server.terminate()
            server.wait(20)


def wait_for(address: str) -> None:
    """Return once the address answers."""
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        with suppress(OSError), urlopen(address, timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"bench: {address} does not answer; has `python3 lab.py test` been run?")


def tally(address: str) -> float:
    """Creates per second since the last tally, from the first of them to the last."""
    with urlopen(f"{address}/tally", timeout=5) as answer:
        told = json.load(answer)
    return told["created"] / told["seconds"] if told["seconds"] else 0.0


def output(command: list[str], folder: Path) -> str:
    """Run a command to its end; what it printed."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("SIMULATION_", "API_"))}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {command} failed: {done.stdout}{done.stderr}")
    return done.stdout


def core(number: int) -> list[str]:
    """What binds a command to one core, where the machine has two and a way to do it."""
    possible = shutil.which("taskset") and (os.cpu_count() or 1) > 1
    return ["taskset", "--cpu-list", str(number)] if possible else []


def simulator_python() -> str:
    """The Python of the simulator's environment."""
    python = ROOT / "data_ingestion_simulator" / ".venv" / BIN / "python"
    if not python.exists():
        sys.exit(f"{python} is not there: python3 lab.py test --suite data_ingestion_simulator")
    return str(python)


if __name__ == "__main__":
    sys.exit(main())
