"""How the process ends: at once, or after DRAIN_SECONDS in which it still serves requests."""

import signal
import sys
import time
from collections.abc import Callable

import httpx2
import pytest
from conftest import Served

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")


def test_sigterm_withdraws_readiness_before_the_end(serve: Callable[..., Served]) -> None:
    """For DRAIN_SECONDS /ready is 503, everything else works, and no connection is kept."""
    served = serve(DRAIN_SECONDS="1")
    with served.client() as client:
        before = client.get("/ready")
        served.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 0.9
        while (ready := client.get("/ready")).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.01)
        during = [
            ready,
            client.get("/health"),
            client.post("/users/?user_id=1&name=Al&age=1"),
            client.get("/users/"),
            client.get("/static/favicon.png"),
            client.get("/nowhere"),
            client.get("/users/", headers={"host": "evil.example"}),
        ]

    assert before.status_code == 200
    assert "connection" not in before.headers
    assert ready.json() == {"detail": "The process is stopping"}
    assert [each.status_code for each in during] == [503, 200, 201, 200, 200, 404, 400]
    assert {each.headers.get("connection") for each in during} == {"close"}
    assert served.process.wait(timeout=60) in (0, -signal.SIGTERM)
    with pytest.raises(httpx2.ConnectError), served.client() as client:
        client.get("/health")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_without_drain_seconds_the_process_ends_at_once(
    serve: Callable[..., Served], signum: int
) -> None:
    """By default, and always on Ctrl-C, the process ends soon, with or without idle clients."""
    served = serve()
    with served.client() as client:
        client.get("/health")
        served.process.send_signal(signum)
        started = time.monotonic()
        code = served.process.wait(timeout=60)

    assert code in (0, -signum)
    assert time.monotonic() - started < 5
