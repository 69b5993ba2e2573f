"""While PostgreSQL is away: fast error responses, and recovery without help."""

import signal
import sys
import time
from collections.abc import Callable

import pytest
from conftest import Terminal, wait_until
from served import GRACE_SECONDS, LOST_SECONDS, READY_SECONDS, Api, Caller, Postgres, ask_all

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_a_lost_database_gives_errors_until_it_is_back(
    terminal: Callable[..., Terminal], postgres: Postgres, how: str
) -> None:
    """While the database is away, each call that needs it gets 503 within two seconds.

    The process is alive but not ready. When the database is back, the API recovers by itself.
    """
    api = Api(terminal, postgres.url)
    api.start()
    caller = Caller(api.port)
    assert caller.write("create", 1, ("a", 1)) == 201
    (postgres.stop if how == "stopped" else postgres.pause)()
    try:
        rounds = [ask_all(api.port) for _ in range(3)]
    finally:
        (postgres.start if how == "stopped" else postgres.resume)()
    started = time.monotonic()
    api.wait_until_ready()
    seconds = time.monotonic() - started
    wait_until("a write", lambda: caller.write("create", 3, ("d", 4)) in (201, 409), 10)
    later = ask_all(api.port)
    caller.close()
    print(
        f"{how}: slowest response {max(s for r in rounds for _, s in r.values()):.2f} s, {seconds=}"
    )

    for responses in rounds:
        health, health_seconds = responses.pop("health")
        assert health is not None
        assert health.status == 200
        assert health_seconds < 1
        for name, (response, response_seconds) in responses.items():
            assert response is not None, name
            assert (response.status, response.headers.get("retry-after")) == (503, "1"), name
            assert response_seconds <= LOST_SECONDS, name
    assert seconds <= READY_SECONDS
    assert not [name for name, (each, _) in later.items() if not each or each.status == 503]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_paused_database_does_not_delay_a_stop(
    terminal: Callable[..., Terminal], postgres: Postgres, signum: int
) -> None:
    """With PostgreSQL paused during a write, the API still ends in time."""
    api = Api(terminal, postgres.url)
    api.start()
    postgres.pause()
    try:
        caller = Caller(api.port)
        response = caller.call("POST", "/users/?user_id=1&name=a&age=1")
        caller.close()
        api.terminal.process.send_signal(signum)
        api.terminal.process.wait(GRACE_SECONDS)
    finally:
        postgres.resume()

    assert response is not None
    assert response.status == 503
