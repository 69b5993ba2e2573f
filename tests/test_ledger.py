"""The simulator's ledger beside the store's, through kills and restarts over SQLite, under load."""

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest
from conftest import Terminal, free_port, service_python, wait_until

from tools.processes import WINDOWS

pytestmark = pytest.mark.skipif(WINDOWS, reason="these tests send POSIX signals")
KILLS = 100 if "LAB_LONG" in os.environ else 10
WAYS = {"at a rate": ["--rate", "300"], "in bulk": ["--count", "1000000000", "--batch-size", "50"]}


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS.keys())
def test_the_ledger_equals_the_store(
    terminal: Callable[..., Terminal], http: httpx2.Client, tmp_path: Path, flags: list[str]
) -> None:
    """The API is killed again and again in the middle of writing, and started over the same file.

    In the end every user that the simulator reports as created is stored, and nobody else is but
    those it names as given up, who were on their way when it was stopped.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    port, database = free_port(), tmp_path / "users.db"
    url = f"http://127.0.0.1:{port}"
    command = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(port)]
    command += ["--no-access-log"]
    simulator = terminal(
        service_python("data_ingestion_simulator"),
        "main.py",
        *flags,
        "--output",
        "json",
        folder="data_ingestion_simulator",
        API_BASE_URL=url,
    )

    def stored() -> int:
        return int(http.get(f"{url}/stats/ages").json()["total"])

    def has(users: int) -> bool:
        return stored() >= users

    for _ in range(KILLS):
        api = terminal(*command, folder="api", DATABASE_URL=f"sqlite:///{database}")
        wait_until("the API", lambda: answers(http, url))
        enough = stored() + 100
        wait_until("a hundred users more", partial(has, enough))
        time.sleep(dice.uniform(0, 0.2))  # so that it dies at any point of a write
        api.process.send_signal(signal.SIGKILL)
        api.process.wait()
    api = terminal(*command, folder="api", DATABASE_URL=f"sqlite:///{database}")
    wait_until("the API", lambda: answers(http, url))
    code = simulator.stop(signal.SIGINT)
    api.stop(signal.SIGTERM)

    summary = json.loads(simulator.lines[-1])
    settled = (summary[side] for side in ("created", "already_there", "rejected", "given_up"))
    with sqlite3.connect(database) as connection:
        ids = {row[0] for row in connection.execute("SELECT user_id FROM users")}
    connection.close()
    unknown = ids_in(summary["outcome_unknown"])

    assert code == 0
    assert summary["event"] == "summary"
    assert summary["attempted"] == sum(settled) >= 100 * KILLS
    assert summary["already_there"] == summary["rejected"] == 0
    assert summary["given_up"] == len(unknown)
    assert len(ids - unknown) == summary["created"]


def answers(http: httpx2.Client, url: str) -> bool:
    """Return whether the API is there and can be asked."""
    try:
        return http.get(f"{url}/ready").status_code == 200
    except httpx2.TransportError:
        return False


def ids_in(told: str) -> set[int]:
    """Return the ids that ranges such as "1-3, 7" stand for."""
    ids: set[int] = set()
    for part in filter(None, told.split(", ")):
        first, _, last = part.partition("-")
        ids |= set(range(int(first), int(last or first) + 1))
    return ids
