"""Killed, restarted and replaced replicas: clients see no error, and no user is lost."""

import json
import os
import time

import pytest
from production import Caller, Load, Production

# The documented loop restarts three replicas each time, under about 5,000 requests.
ROLLING_RESTARTS = 20 if "LAB_LONG" in os.environ else 3


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
    """Under load, all replicas restart one after the other: no client has to retry.

    The clients keep their connections to the load balancer, which closes none of them.
    """
    load = Load(either.port, retry=False)
    restarts = ROLLING_RESTARTS if either.command == ["docker-compose"] else 1
    restart_all(either, load, restarts)

    assert load.connections == load.CLIENTS
    load.check(either.port)


@pytest.mark.usefixtures("native_engine")
def test_a_replica_that_stops_closes_its_connections_itself(production: Production) -> None:
    """Without the load balancer, too, restarts fail no request of clients that keep connections.

    As with a Service of Kubernetes, a connection stays with its replica. While the replica drains,
    `Connection: close` in its responses sends each client to another one.
    """
    with production.service() as port:
        load = Load(port, retry=False)
        restart_all(production, load, ROLLING_RESTARTS)
        load.check(port)
    assert load.connections >= ROLLING_RESTARTS * 3


def restart_all(production: Production, load: Load, times: int) -> None:
    """Restart all replicas as documented, some times, under a load that may see no failure."""
    started = production.started("api")
    with load.running():
        for _ in range(times):
            production.run_documented("Restart, one replica after the other")
    requests = load.statuses.total()
    print(f"{3 * times} restarts, {requests:,} requests, failed: {load.failures.total()}")
    print(load.failures)

    assert not started & production.started("api")
    assert load.failures == {}
    assert requests >= 1_000 * times, "void: too little traffic"


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
