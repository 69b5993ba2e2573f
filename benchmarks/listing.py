"""All users at once: how long it takes, whom it keeps waiting, and the memory that users take."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.contenders import FIRST, OURS, first_version, ours
from benchmarks.load import HERE, LOAD_CORE, Server, on_core, output_of, serving
from benchmarks.ratios import Chart, Result, Row, Table, in_turn
from tools.processes import LabError, say

SIZES = (100_000, 1_000_000)
TIMES_FASTER = 20
LONGEST_WAIT_MS = 25
EXTRA_MEMORY_MB = 10
BYTES_A_USER = 205  # at the largest size


@dataclass(frozen=True)
class Listing:
    """What a listing showed."""

    ms: float
    sent_mb: float
    longest_wait_ms: float  # of somebody who asked for /health meanwhile


def measure(quick: bool) -> Result:
    """Compare listings of the API and of the first version."""
    rounds, sizes = (2, SIZES[:1]) if quick else (3, SIZES)
    rows, lines = [], []
    ms: dict[str, list[float]] = {OURS: [], FIRST: []}
    for size in sizes:
        say(f"{size:,} users, {rounds} rounds")
        bytes_a_user, figures, extra_mb = compare(size, rounds)
        rows += judge(size, figures, extra_mb[OURS], bytes_a_user)
        for name, each in figures.items():
            ms[name].append(each.ms)
            cells = (each.ms, each.sent_mb, each.longest_wait_ms, extra_mb[name])
            lines.append([f"{name}, {size:,} users", *(f"{cell:,.1f}" for cell in cells)])
    head = ["", "ms", "MB sent", "ms /health waits", "MB extra memory"]
    groups = [f"{size:,} users" for size in sizes]
    return Result(
        how=f"{rounds} listings each, read to the end while somebody else asks for /health",
        rows=rows,
        tables=[Table("Listings", head, lines)],
        charts=[Chart("A listing of all users", "milliseconds", "bars", groups, ms)],
    )


def judge(
    size: int, figures: Mapping[str, Listing], extra_mb: float, bytes_a_user: float
) -> list[Row]:
    """Return the rows that have a bar."""
    users, mine = f"{size:,} users", figures[OURS]
    most_bytes = BYTES_A_USER if size == max(SIZES) else None
    wait = mine.longest_wait_ms
    return [
        Row(f"{users}: {FIRST}", figures[FIRST].ms / mine.ms, TIMES_FASTER),
        Row(f"{users}: longest wait for /health", wait, LONGEST_WAIT_MS, "at most", "ms"),
        Row(f"{users}: extra memory", extra_mb, EXTRA_MEMORY_MB, "at most", "MB"),
        Row(f"{users}: memory of one", bytes_a_user, most_bytes, "at most", "bytes"),
    ]


def compare(size: int, rounds: int) -> tuple[float, dict[str, Listing], dict[str, float]]:
    """Return the API's bytes for a user, the medians of listings, and the MB that they took."""
    with serving([ours(), first_version(USERS=str(size))]) as servers:
        empty = servers[OURS].memory_bytes()
        servers[OURS].fill_in_batches(size)
        # Before the first listing: what that one frees, the next ones find.
        held = {name: each.memory_bytes() for name, each in servers.items()}
        for server in servers.values():
            server.forget_peak()
        same_users(servers)
        runs = in_turn(rounds, {name: partial(once, each) for name, each in servers.items()})
        peak = {name: each.memory_bytes("VmHWM") for name, each in servers.items()}
    extra_mb = {name: (peak[name] - held[name]) / 1e6 for name in servers}
    medians = {name: median(listings) for name, listings in runs.items()}
    return (held[OURS] - empty) / size, medians, extra_mb


def same_users(servers: Mapping[str, Server]) -> None:
    """Raise LabError unless all list the same users."""
    listings = [json.loads(server.ask("GET", "/users/")[1]) for server in servers.values()]
    if any(listing != listings[0] for listing in listings):
        raise LabError(f"bench: {', '.join(servers)} do not list the same users")


def once(server: Server) -> Listing:
    """Read one listing while somebody else asks for /health."""
    client = [*on_core(LOAD_CORE), sys.executable, "reader.py"]
    with subprocess.Popen(
        [*client, "ping", str(server.port)],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as ping:
        if ping.stdout is None or ping.stdout.readline() != "ready\n":
            raise LabError(f"bench: {server.name} does not answer /health")
        seconds, sent = output_of([*client, "list", str(server.port)]).split()
        longest_wait_seconds = ping.communicate()[0]
    return Listing(
        ms=float(seconds) * 1000,
        sent_mb=int(sent) / 1e6,
        longest_wait_ms=float(longest_wait_seconds) * 1000,
    )


def median(listings: Sequence[Listing]) -> Listing:
    """Return the median of each figure."""
    names = Listing.__annotations__
    return Listing(*(statistics.median(getattr(each, name) for each in listings) for name in names))
