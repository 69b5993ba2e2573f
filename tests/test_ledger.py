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
from typing import Any

import httpx2
import pytest
from conftest import Terminal, service_python, wait_until
from served import Api, Value, sqlite_users

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
    api = Api(terminal, f"sqlite:///{tmp_path / 'users.db'}")
    api.options = ["--no-access-log"]
    url, folder = f"http://127.0.0.1:{api.port}", "data_ingestion_simulator"
    command = [service_python(folder), "main.py", *flags, "--seed", str(seed), "--output", "json"]
    simulator = terminal(*command, folder=folder, API_BASE_URL=url)

    def stored() -> int:
        return int(http.get(f"{url}/stats/ages").json()["total"])

    def wait_for_users(count: int) -> None:
        wait_until("a hundred more users", lambda: stored() >= count)

    for _ in range(KILLS):
        api.start()
        wait_for_users(stored() + 100)
        time.sleep(dice.uniform(0, 0.2))  # it is killed at any point of a write
        api.kill()
    api.start()
    code = simulator.stop(signal.SIGINT)
    api.terminal.stop(signal.SIGTERM)
    check_summary(json.loads(simulator.lines[-1]), seed, sqlite_users(tmp_path / "users.db"))

    assert code == 0


def check_summary(summary: dict[str, Any], seed: int, stored: dict[int, Value]) -> None:
    """Assert that the accounts add up, and that the store has the users that they say."""
    settled = (summary[side] for side in ("created", "already_there", "rejected", "given_up"))
    ranges = summary["outcome_unknown"]
    unknown = {user_id for first, last in ranges for user_id in range(first, last + 1)}
    generated = generated_users(seed, summary["attempted"])

    assert summary["event"] == "summary"
    assert summary["attempted"] == sum(settled) >= 100 * KILLS
    assert summary["already_there"] == summary["rejected"] == 0
    assert summary["given_up"] == len(unknown)
    assert unknown <= generated.keys()
    assert generated.items() >= stored.items()
    assert generated.keys() - stored.keys() <= unknown


def generated_users(seed: int, count: int) -> dict[int, Value]:
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
