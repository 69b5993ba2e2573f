"""The time from the start of a process to its first good response, and its memory then."""

import time
from functools import partial

from benchmarks.contenders import FIRST, OURS, STOCK, first_version, on_uvicorn, ours
from benchmarks.ratios import Result, Row, Table, in_turn, medians
from benchmarks.servers import Contender, Server

SETTLE_SECONDS = 0.5
READY = 0.75  # of the time of the first version
MEMORY = 0.76  # of the memory of the first version


def measure(quick: bool) -> Result:
    """Compare starts, one server at a time."""
    rounds = 3 if quick else 7
    contenders = [ours(), first_version(), on_uvicorn(STOCK, "stock")]
    for contender in contenders:
        start_once(contender)  # so that later starts find byte-compiled files
    starts = in_turn(rounds, {each.name: partial(start_once, each) for each in contenders})
    ready = medians({name: [seconds for seconds, _ in each] for name, each in starts.items()})
    memory = medians({name: [mb for _, mb in each] for name, each in starts.items()})
    lines = [[name, f"{ready[name] * 1000:.0f}", f"{memory[name]:.0f}"] for name in ready]
    return Result(
        how=f"{rounds} starts each, in turn, one server at a time",
        rows=[
            Row("start to ready: first version", ready[OURS] / ready[FIRST], READY, "at most"),
            Row("idle memory: first version", memory[OURS] / memory[FIRST], MEMORY, "at most"),
        ],
        tables=[Table("Starts", ["", "ready after ms", "idle memory MB"], lines)],
        figures={"ready_seconds": ready, "idle_mb": memory},
    )


def start_once(contender: Contender) -> tuple[float, float]:
    """Return the seconds until the first good response, and the memory in MB shortly after."""
    server = Server(contender)
    try:
        seconds = server.wait()
        time.sleep(SETTLE_SECONDS)
        return seconds, server.memory_bytes() / 1e6
    finally:
        server.close()
