"""Production on one machine: replicas, an edge, secrets, restarts that nobody notices."""

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from conftest import GENERATIONS, Docker, available
from production import Caller, Load, Production

pytestmark = pytest.mark.usefixtures("postgres_image", "haproxy_image")

LONG = "LAB_LONG" in os.environ
ROLLING_RESTARTS = 50 if LONG else 5


@pytest.fixture(scope="module")
def production(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Yield the system with three replicas, brought up from nothing."""
    folder = tmp_path_factory.mktemp("production") / "clone"
    production = Production(folder, available("compose-1"), docker)
    try:
        production.up()
        yield production
    finally:
        production.down()


@pytest.fixture
def caller(production: Production) -> Iterator[Caller]:
    """Yield a client of the edge."""
    with contextlib.closing(Caller(production.port)) as caller:
        yield caller


# ------------------------------------------------------------------------------------- replicas


def test_each_replica_serves(production: Production) -> None:
    """Of the requests of a few clients, each of three replicas answers at least a fifth."""
    with contextlib.ExitStack() as stack:
        callers = [
            stack.enter_context(contextlib.closing(Caller(production.port))) for _ in range(6)
        ]
        answers = [caller.call("GET", "/stats/ages") for _ in range(100) for caller in callers]
    replicas = Counter(headers["X-Replica"] for _, _, headers in answers)
    print(replicas)

    assert {status for status, _, _ in answers} == {200}
    assert len(replicas) == 3
    assert min(replicas.values()) >= 600 / 5


def test_users_are_the_same_whoever_is_asked(caller: Caller) -> None:
    """What one replica stored, each of them shows at once, from a store that outlives them."""
    created, _, _ = caller.call("POST", "/users/?user_id=9000&name=Alice&age=30")
    shown = {
        (headers["X-Replica"], body)
        for _, body, headers in (caller.call("GET", "/users/9000") for _ in range(20))
    }
    _, ready, _ = caller.call("GET", "/ready")

    assert created == 201
    assert len(shown) == 3
    assert {body for _, body in shown} == {b'{"user_id":9000,"name":"Alice","age":30}'}
    assert json.loads(ready) == {"status": "ready", "store": "postgresql", "durable": True}


# --------------------------------------------------------------------------------------- faults


def test_clients_that_retry_see_no_error(production: Production) -> None:
    """A replica killed, one paused, the database restarted: all clients get on, no user is lost."""
    docker, load = production.docker, Load(production.port, retry=True)
    killed, paused, _ = production.containers("api")
    [database] = production.containers("postgres")
    with load.running():
        time.sleep(1)
        docker("kill", killed)
        time.sleep(3)
        docker("start", killed)
        docker("pause", paused)
        time.sleep(8)
        docker("unpause", paused)
        docker("restart", "-t", "60", database)
        time.sleep(3)
    production.wait_for_replicas()
    print(load.failures)

    assert load.failures == {}
    load.check(production.port)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_rolling_restarts_fail_no_request(production: Production, generation: str) -> None:
    """All replicas restarted in turn, again and again, under load: nobody has to retry anything."""
    production.command = available(generation)
    load = Load(production.port, retry=False)
    started = production.started("api")
    with load.running():
        for _ in range(ROLLING_RESTARTS if generation == "compose-1" else 1):
            production.run_documented("Restart, one replica after the other")
    print(load.failures)

    assert not started & production.started("api")
    assert load.failures == {}
    load.check(production.port)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_new_version_fails_no_request(production: Production, generation: str) -> None:
    """Replicas of a new image take the place of the old ones, one by one, under load."""
    production.command = available(generation)
    changed = production.folder / "api" / "settings.py"
    changed.write_text(f"{changed.read_text()}# {generation}\n")
    load = Load(production.port, retry=False)
    old = set(production.containers("api"))
    with load.running():
        production.run_documented("A new version")
    new = set(production.containers("api"))
    print(load.failures)

    assert len(new) == 3
    assert not old & new
    for replica in new:
        assert generation in production.docker("exec", replica, "tail", "-1", "settings.py")
    assert load.failures == {}
    load.check(production.port)
