"""One request per tick for all viewers, and no viewer waits for a slow one."""

import threading
import time

from conftest import DEADLINE_SECONDS, Api, Clock, until

from ages import AgeCounts
from api_client import TICK_SECONDS, ApiClient, ApiError, Poller
from monitor import fetch_counts

SOME = AgeCounts({30: 1})


def poller_of(api: Api) -> Poller[AgeCounts]:
    client: ApiClient = api.client
    return Poller(lambda: fetch_counts(client))


def test_forty_looks_cost_one_request(api: Api) -> None:
    """All who look within a tick, at once or in turn, share one response to one request."""
    api.counts({30: 1})
    poller = poller_of(api)
    views = []
    viewers = [
        threading.Thread(target=lambda: views.append(poller.latest(DEADLINE_SECONDS)))
        for _ in range(20)
    ]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    views += [poller.latest(DEADLINE_SECONDS) for _ in range(20)]
    assert [view.value for view in views] == [SOME] * 40
    assert api.paths == ["/stats/ages"]


def test_no_viewer_waits_for_a_request_that_hangs(clock: Clock) -> None:
    """A look waits no longer than it says, and no second request joins one that hangs."""
    released = threading.Event()
    requests = []

    def hang() -> AgeCounts:
        requests.append(1)
        released.wait(DEADLINE_SECONDS)
        return SOME

    poller = Poller(hang)
    started_at = time.monotonic()
    view = poller.latest(0.05)
    assert time.monotonic() - started_at < DEADLINE_SECONDS / 2
    assert (view.value, view.error) == (None, None)
    clock.pass_by(TICK_SECONDS)
    poller.latest(0)
    assert len(requests) == 1
    released.set()
    until(lambda: poller.latest(0).value == SOME)


def test_retry_after_is_respected(clock: Clock) -> None:
    """An API that asks for time gets it."""
    requests = []

    def busy() -> AgeCounts:
        requests.append(1)
        raise ApiError("API error", "", "Busy.", status=503, retry_after_seconds=30)

    poller = Poller(busy)
    for seconds, expected in ((0, 1), (2, 1), (27, 1), (1, 2)):
        clock.pass_by(seconds)
        poller.latest(DEADLINE_SECONDS)
        assert len(requests) == expected


def test_an_unexpected_exception_is_an_error_like_any_other() -> None:
    """It is shown and logged, and the next tick tries again."""
    outcomes = [MemoryError()]

    def fail_once() -> AgeCounts:
        if outcomes:
            raise outcomes.pop()
        return SOME

    poller = Poller(fail_once)
    error = poller.latest(DEADLINE_SECONDS).error
    assert error is not None
    assert error.reason == "The dashboard failed to read the response."
    until(lambda: poller.latest(DEADLINE_SECONDS).error is None)


def test_a_patient_viewer_leaves_the_request_to_others(clock: Clock) -> None:
    """It sees their responses, and asks only when nobody else does."""
    requests = []
    poller = Poller(lambda: requests.append(1))
    poller.latest(DEADLINE_SECONDS)
    for seconds, expected in ((2, 1), (1, 1), (1, 2)):
        clock.pass_by(seconds)
        poller.latest(DEADLINE_SECONDS, patience_seconds=2)
        assert len(requests) == expected
