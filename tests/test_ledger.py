"""The simulator's ledger beside the store's, through kills and restarts over SQLite, under load."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest
from conftest import Terminal, free_port, service_python, wait_until

from tools.processes import ROOT

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)
KILLS = 100 if "LAB_LONG" in os.environ else 10
WAYS = {"at a rate": ["--rate", "300"], "in bulk": ["--count", "1000000000", "--batch-size", "50"]}


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS.keys())
def test_the_ledger_equals_the_store(
    terminal: Callable[..., Terminal], http: httpx2.Client, tmp_path: Path, flags: list[str]
) -> None:
    """The API is killed again and again in the middle of writing, and started over the same file.

    In the end every user that it attempted is stored, with id, name and age as they were drawn,
    and nobody else is; but for those that it names as given up, who were on their way when it was
    stopped: they are stored so, or not at all.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    port, database = free_port(), tmp_path / "users.db"
    url = f"http://127.0.0.1:{port}"
    command = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(port)]
    command += ["--no-access-log"]
    flags = [*flags, "--seed", str(seed), "--output", "json"]
    folder = "data_ingestion_simulator"
    simulator = terminal(service_python(folder), "main.py", *flags, folder=folder, API_BASE_URL=url)

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
        rows = connection.execute("SELECT user_id, name, age FROM users")
        stored_users = {user_id: (name, age) for user_id, name, age in rows}
    connection.close()
    unknown: set[int] = set()
    for first, last in summary["outcome_unknown"]:
        unknown |= set(range(first, last + 1))
    drawn = users_drawn(seed, summary["attempted"])

    assert code == 0
    assert summary["event"] == "summary"
    assert summary["attempted"] == sum(settled) >= 100 * KILLS
    assert summary["already_there"] == summary["rejected"] == 0
    assert summary["given_up"] == len(unknown)
    assert unknown <= drawn.keys()
    assert drawn.items() >= stored_users.items()
    assert drawn.keys() - stored_users.keys() <= unknown


def answers(http: httpx2.Client, url: str) -> bool:
    """Return whether the API is there and can be asked."""
    try:
        return http.get(f"{url}/ready").status_code == 200
    except httpx2.TransportError:
        return False


def users_drawn(seed: int, count: int) -> dict[int, tuple[str, int]]:
    """Return name and age by id of the first users with a seed, as a dry run shows them."""
    dry_run = ["--dry-run", "--seed", str(seed), "--count", str(count), "--output", "json"]
    told = subprocess.run(
        [service_python("data_ingestion_simulator"), "main.py", *dry_run],
        cwd=ROOT / "data_ingestion_simulator",
        check=True,
        capture_output=True,
        text=True,
    )
    shown = [json.loads(line) for line in told.stdout.splitlines()[1:-1]]
    assert len(shown) == count
    return {user["user_id"]: (user["name"], user["age"]) for user in shown}
