"""The listing of all users: its time, the delay of other requests, and the memory of users."""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.contenders import FIRST, OURS, first_version, ours
from benchmarks.load import output_of
from benchmarks.ratios import Result, Row, Table, in_turn
from benchmarks.servers import HERE, LOAD_CORE, Server, on_core, serving
from tools.processes import LabError, say

SIZES = (100_000, 1_000_000)
TIMES_FASTER = 20
LONGEST_WAIT_MS = {100_000: 15, 1_000_000: 100}
BYTES_A_USER = 205  # at the largest size


@dataclass(frozen=True)
class Listing:
    """The figures of one listing."""

    ms: float
    sent_mb: float
    longest_wait_ms: float  # of requests for /health at the same time


def measure(quick: bool) -> Result:
    """Compare listings of the API and of the first version."""
    rounds, sizes = (2, SIZES[:1]) if quick else (3, SIZES)
    rows, lines = [], []
    for size in sizes:
        say(f"{size:,} users, {rounds} rounds")
        bytes_a_user, figures, extra_mb = compare(size, rounds)
        rows += judge(size, figures, extra_mb[OURS], bytes_a_user)
        for name, each in figures.items():
            cells = (each.ms, each.sent_mb, each.longest_wait_ms, extra_mb[name])
            lines.append([f"{name}, {size:,} users", *(f"{cell:,.1f}" for cell in cells)])
    head = ["", "ms", "MB sent", "ms /health waits", "MB extra memory"]
    return Result(
        how=f"{rounds} listings each, read to the end while another client asks for /health",
        rows=rows,
        tables=[Table("Listings", head, lines)],
    )


def judge(
    size: int, figures: Mapping[str, Listing], extra_mb: float, bytes_a_user: float
) -> list[Row]:
    """Return the rows of one size."""
    users, mine = f"{size:,} users", figures[OURS]
    most_bytes = BYTES_A_USER if size == max(SIZES) else None
    wait, most_ms = mine.longest_wait_ms, LONGEST_WAIT_MS[size]
    return [
        Row(f"{users}: {FIRST}", figures[FIRST].ms / mine.ms, TIMES_FASTER),
        Row(f"{users}: longest wait for /health", wait, most_ms, "at most", "ms"),
        Row(f"{users}: extra memory", extra_mb, unit="MB"),
        Row(f"{users}: memory of one", bytes_a_user, most_bytes, "at most", "bytes"),
    ]


def compare(size: int, rounds: int) -> tuple[float, dict[str, Listing], dict[str, float]]:
    """Return the API's bytes per user, the medians of the listings, and their extra MB."""
    with serving([ours(), first_version(USERS=str(size))]) as servers:
        empty = servers[OURS].memory_bytes()
        servers[OURS].fill_in_batches(size)
        # Read before the first listing: later ones use again the memory that it frees.
        held = {name: each.memory_bytes() for name, each in servers.items()}
        for server in servers.values():
            server.reset_peak()
        same_users(servers)
        runs = in_turn(rounds, {name: partial(once, each) for name, each in servers.items()})
        peak = {name: each.memory_bytes("VmHWM") for name, each in servers.items()}
    extra_mb = {name: (peak[name] - held[name]) / 1e6 for name in servers}
    medians = {name: median(listings) for name, listings in runs.items()}
    return (held[OURS] - empty) / size, medians, extra_mb


def same_users(servers: Mapping[str, Server]) -> None:
    """Raise LabError if the servers list different users."""
    listings = [json.loads(server.ask("GET", "/users/")[1]) for server in servers.values()]
    if any(listing != listings[0] for listing in listings):
        raise LabError(f"bench: {', '.join(servers)} do not list the same users")


def once(server: Server) -> Listing:
    """Read one listing while another client asks for /health."""
    with asking_for_health(server) as waits_ms:
        command = [*on_core(LOAD_CORE), sys.executable, "reader.py", "list", str(server.port)]
        seconds, sent = output_of(command).split()
    return Listing(float(seconds) * 1000, int(sent) / 1e6, waits_ms[0])


@contextlib.contextmanager
def asking_for_health(server: Server) -> Iterator[list[float]]:
    """Ask for /health inside a with statement; then the list has the longest wait, in ms."""
    waits_ms: list[float] = []
    with subprocess.Popen(
        [*on_core(LOAD_CORE), sys.executable, "reader.py", "ping", str(server.port)],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as ping:
        if ping.stdout is None or ping.stdout.readline() != "ready\n":
            raise LabError(f"bench: {server.name} does not respond to /health")
        yield waits_ms
        waits_ms.append(float(ping.communicate()[0]) * 1000)


def median(listings: Sequence[Listing]) -> Listing:
    """Return the median of each figure."""
    names = Listing.__annotations__
    return Listing(*(statistics.median(getattr(each, name) for each in listings) for name in names))
