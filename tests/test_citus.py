"""The API over Citus, a PostgreSQL that is distributed over machines; see tests/citus/README.md."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from cluster import DISTRIBUTE, NOT_INSTALLED, Citus
from conftest import Terminal, service_python
from served import Api, Caller, Postgres
from test_linearizability import check_counts, run_clients
from writers import MIN_ACKNOWLEDGED_PER_CYCLE, Load

from history import violations
from tools.processes import ROOT

if sys.platform == "win32":
    pytest.skip(NOT_INSTALLED, allow_module_level=True)

KILLS = 20 if "LAB_LONG" in os.environ else 3  # of each kind of node
RECOVERY_SECONDS = 10
# A listing reads each machine at another moment, so these two do not hold; docs/scaling.md says so.
NO_SNAPSHOT = "not test_a_snapshot_is_one_state and not test_snapshots_are_independent"


@pytest.fixture(scope="module")
def citus() -> Iterator[Citus]:
    """Yield a cluster, or skip without Citus."""
    cluster = Citus()
    yield cluster
    cluster.remove()


@pytest.fixture
def apis(citus: Citus, terminal: Callable[..., Terminal]) -> list[Api]:
    """Return two APIs over the cluster, with empty tables that are distributed."""
    citus.coordinator.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")
    apis = [Api(terminal, citus.url) for _ in range(2)]
    apis[0].start()
    citus.distribute()
    apis[1].start()
    return apis


@pytest.mark.parametrize("suite", ["stores", "batch", "contract", "model"])
def test_the_suites_of_the_stores_pass(citus: Citus, suite: str) -> None:
    """What every store has to do, a distributed one does, except for a snapshot of all machines."""
    command = [service_python("api"), "-m", "pytest", "-q", f"tests/test_{suite}.py"]
    variables = {"LAB_CLUSTER": citus.url, "LAB_DISTRIBUTE": str(DISTRIBUTE)}
    done = subprocess.run(
        [*command, "-k", f"(postgresql or of_one_store) and {NO_SNAPSHOT}"],
        cwd=ROOT / "api",
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=1_800,
    )

    assert done.returncode == 0, done.stdout[-4_000:]


def test_it_is_linearizable(apis: list[Api]) -> None:
    """16 clients use two APIs in turn: their results have an order in which a dict gives them."""
    seed = random.randrange(2**32)
    history = run_clients([api.port for api in apis], seed)
    unknown = sum(operation.status == 0 for operation in history)
    print(f"seed {seed}, {len(history)} operations, {unknown} unknown")

    assert violations(history) == []
    assert unknown <= len(history) / 50, "void: too many unknown outcomes"
    for api in apis:
        check_counts(api.port)


@pytest.mark.parametrize("killed", ["worker", "coordinator"])
def test_a_cluster_loses_no_acknowledged_write(citus: Citus, apis: list[Api], killed: str) -> None:
    """After the restart of a node, every acknowledged write is there, and the counts are right."""
    api, load, seconds = apis[0], Load(), []
    for _ in range(KILLS):
        node: Postgres = citus.coordinator
        if killed == "worker":
            node = load.dice.choice(citus.workers)

        def kill(node: Postgres = node) -> None:
            time.sleep(load.dice.uniform(0.5, 1.5))
            node.kill()

        load.run(api.port, kill)
        node.start()
        started = time.monotonic()
        api.wait_until_ready()
        citus.wait_until_recovered()
        seconds.append(time.monotonic() - started)
        load.check(api.port)
    print(
        f"{killed}: {KILLS} kills, {load.acknowledged} acknowledged, slowest {max(seconds):.2f} s"
    )

    assert load.acknowledged >= MIN_ACKNOWLEDGED_PER_CYCLE * KILLS, "void: too little traffic"
    assert max(seconds) <= RECOVERY_SECONDS


def test_a_dead_worker_is_not_ready(citus: Citus, apis: list[Api]) -> None:
    """Readiness asks every machine: without one of them it is 503, and then 200 again."""
    caller = Caller(apis[0].port)
    citus.workers[0].kill()
    dead = [caller.call("GET", "/ready") for _ in range(3)]
    citus.workers[0].start()
    apis[0].wait_until_ready()
    caller.close()

    assert [response and response.status for response in dead] == [503] * 3
