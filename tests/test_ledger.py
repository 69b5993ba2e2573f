"""The simulator's ledger and the store agree, through kills and restarts of the API."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from conftest import Terminal, free_port, service_python, wait_until
from served import sqlite_users

from tools.processes import ROOT

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)
KILLS = 100 if "LAB_LONG" in os.environ else 10
WAYS = {"at a rate": ["--rate", "300"], "in bulk": ["--count", "1000000000", "--batch-size", "50"]}


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS.keys())
def test_the_ledger_equals_the_store(
    terminal: Callable[..., Terminal], http: httpx2.Client, tmp_path: Path, flags: list[str]
) -> None:
    """The API is killed again and again while it writes, and restarted with the same file.

    In the end every attempted user is stored, with the generated id, name and age, and no other
    user is. Only the users that the summary lists as given up may be missing: their requests were
    in flight when the simulator was stopped.
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

    def wait_for_users(count: int) -> None:
        wait_until("a hundred more users", lambda: stored() >= count)

    for _ in range(KILLS):
        api = terminal(*command, folder="api", DATABASE_URL=f"sqlite:///{database}")
        wait_until("the API", lambda: is_ready(http, url))
        wait_for_users(stored() + 100)
        time.sleep(dice.uniform(0, 0.2))  # it is killed at any point of a write
        api.process.send_signal(signal.SIGKILL)
        api.process.wait()
    api = terminal(*command, folder="api", DATABASE_URL=f"sqlite:///{database}")
    wait_until("the API", lambda: is_ready(http, url))
    code = simulator.stop(signal.SIGINT)
    api.stop(signal.SIGTERM)

    summary = json.loads(simulator.lines[-1])
    settled = (summary[side] for side in ("created", "already_there", "rejected", "given_up"))
    stored_users = sqlite_users(database)
    unknown: set[int] = set()
    for first, last in summary["outcome_unknown"]:
        unknown |= set(range(first, last + 1))
    generated = generated_users(seed, summary["attempted"])

    assert code == 0
    assert summary["event"] == "summary"
    assert summary["attempted"] == sum(settled) >= 100 * KILLS
    assert summary["already_there"] == summary["rejected"] == 0
    assert summary["given_up"] == len(unknown)
    assert unknown <= generated.keys()
    assert generated.items() >= stored_users.items()
    assert generated.keys() - stored_users.keys() <= unknown


def is_ready(http: httpx2.Client, url: str) -> bool:
    """Return whether the API is ready."""
    try:
        return http.get(f"{url}/ready").status_code == 200
    except httpx2.TransportError:
        return False


def generated_users(seed: int, count: int) -> dict[int, tuple[str, int]]:
    """Return name and age by id of the first users of a seed, from a dry run."""
    dry_run = ["--dry-run", "--seed", str(seed), "--count", str(count), "--output", "json"]
    done = subprocess.run(
        [service_python("data_ingestion_simulator"), "main.py", *dry_run],
        cwd=ROOT / "data_ingestion_simulator",
        check=True,
        capture_output=True,
        text=True,
    )
    shown = [json.loads(line) for line in done.stdout.splitlines()[1:-1]]
    assert len(shown) == count
    return {user["user_id"]: (user["name"], user["age"]) for user in shown}
