"""Killed, restarted and replaced replicas: clients see no error, and no user is lost."""

import json
import os
import time

from production import Caller, Load, Production

ROLLING_RESTARTS = 50 if "LAB_LONG" in os.environ else 5


def test_without_a_replica(production: Production, caller: Caller) -> None:
    """The load balancer responds with 503 in the contract's shape, and with Retry-After."""
    production.compose("stop", "api")
    status, body, headers = caller.call("GET", "/users/")
    production.compose("start", "api")
    production.wait_for_replicas()

    assert (status, json.loads(body)) == (503, {"detail": "No replica is ready"})
    assert headers["Retry-After"] == "1"
    assert headers["X-Request-ID"]


def test_clients_that_retry_see_no_error(production: Production) -> None:
    """A replica is killed, one is paused, the database restarts: no error, and no lost user."""
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


def test_rolling_restarts_fail_no_request(either: Production) -> None:
    """Under load, all replicas restart one after the other: no client has to retry."""
    load = Load(either.port, retry=False)
    started = either.started("api")
    with load.running():
        for _ in range(ROLLING_RESTARTS if either.command == ["docker-compose"] else 1):
            either.run_documented("Restart, one replica after the other")
    print(load.failures)

    assert not started & either.started("api")
    assert load.failures == {}
    load.check(either.port)


def test_a_new_version_fails_no_request(either: Production) -> None:
    """Under load, replicas of a new image replace the old ones, one by one."""
    version = f"# {time.time_ns()}"
    settings = either.folder / "api" / "settings.py"
    settings.write_text(f"{settings.read_text()}{version}\n")
    load = Load(either.port, retry=False)
    old = set(either.containers("api"))
    with load.running():
        either.run_documented("A new version")
    new = set(either.containers("api"))
    print(load.failures)

    assert len(new) == 3
    assert not old & new
    for replica in new:
        assert either.docker("exec", replica, "tail", "-1", "settings.py") == version
    assert load.failures == {}
    load.check(either.port)
