"""One request a tick for everybody, the last good answer kept, and nobody held up."""

import threading
import time

from conftest import DEADLINE_SECONDS, Api, Clock, ask, until

from faults import ApiUnreachable
from feed import TICK_SECONDS, Feed, is_due
from schema import AgeCounts
from settings import Settings

SOME = AgeCounts(users_by_age={30: 1})


def test_forty_looks_cost_one_request(api: Api, clock: Clock) -> None:
    """All who look within a tick, at once or in turn, share one answer to one request."""
    api.counts({30: 1})
    feed = Feed(api.settings, ask)
    clock.stand_still()
    views = []
    viewers = [
        threading.Thread(target=lambda: views.append(feed.latest(DEADLINE_SECONDS)))
        for _ in range(20)
    ]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    views += [feed.latest(DEADLINE_SECONDS) for _ in range(20)]
    assert [view.answer for view in views] == [SOME] * 40
    assert api.paths == ["/stats/ages"]


def test_the_next_tick_asks_again(api: Api, clock: Clock) -> None:
    """A new user is seen within a tick, and the answer's age starts anew."""
    api.counts({30: 1})
    feed = Feed(api.settings, ask)
    feed.latest(DEADLINE_SECONDS)
    api.counts({30: 2})
    clock.next_tick()
    assert feed.latest(DEADLINE_SECONDS).answer == AgeCounts(users_by_age={30: 2})
    assert feed.latest(0).seconds_old < TICK_SECONDS


def test_whoever_asks_often_asks_for_those_who_ask_seldom(api: Api, clock: Clock) -> None:
    """A period begins for all at once, and an answer to anybody in it is an answer to all."""
    api.counts({30: 1})
    feed = Feed(api.settings, ask)
    clock.stand_still()
    clock.pass_by(60 - clock() % 60)
    feed.latest(DEADLINE_SECONDS, 30)
    for _ in range(14):
        clock.pass_by(2)
        feed.latest(DEADLINE_SECONDS, 30)
    assert len(api.paths) == 1
    feed.latest(DEADLINE_SECONDS, 2)
    assert len(api.paths) == 2
    clock.pass_by(2)
    feed.latest(DEADLINE_SECONDS, 2)
    feed.latest(DEADLINE_SECONDS, 30)
    assert len(api.paths) == 3
    clock.pass_by(3600)
    feed.latest(DEADLINE_SECONDS, float("inf"))
    assert len(api.paths) == 3


def test_an_answer_that_comes_in_the_next_period(clock: Clock) -> None:
    """It belongs to the period that it was asked for in: the next one has one of its own."""
    clock.stand_still()
    clock.next_tick()

    def slow(_: Settings) -> AgeCounts:
        clock.pass_by(TICK_SECONDS)
        return SOME

    assert is_due(Feed(Settings(), slow).latest(DEADLINE_SECONDS).seen_at, TICK_SECONDS)


def test_the_last_good_answer_outlives_the_api(api: Api) -> None:
    """While the API is away the answer stays and grows old; when it is back, all is forgotten."""
    api.counts({30: 1})
    feed = Feed(api.settings, ask)
    assert feed.latest(DEADLINE_SECONDS).fault is None
    api.stop()
    until(lambda: feed.latest(DEADLINE_SECONDS).fault is not None)
    first, then = feed.latest(0), feed.latest(0)
    assert isinstance(first.fault, ApiUnreachable)
    assert first.answer == SOME
    assert first.seconds_old < then.seconds_old
    api.start()
    until(lambda: feed.latest(DEADLINE_SECONDS).fault is None)
    assert feed.latest(0).answer == SOME


def test_a_request_that_hangs_holds_nobody_up(clock: Clock) -> None:
    """A look waits no longer than it says, and no second request joins one that hangs."""
    released = threading.Event()
    requests = []

    def hang(_: Settings) -> AgeCounts:
        requests.append(1)
        released.wait(DEADLINE_SECONDS)
        return SOME

    feed = Feed(Settings(), hang)
    started_at = time.monotonic()
    view = feed.latest(0.05)
    assert time.monotonic() - started_at < 1
    assert (view.answer, view.fault) == (None, None)
    clock.next_tick()
    feed.latest(0)
    assert len(requests) == 1
    released.set()
    until(lambda: feed.latest(0).answer == SOME)


def test_a_mistake_of_our_own_is_a_fault_like_any_other() -> None:
    """An error that nobody foresaw is shown and logged, and the next tick tries again."""
    outcomes = [MemoryError()]

    def stumble(_: Settings) -> AgeCounts:
        if outcomes:
            raise outcomes.pop()
        return SOME

    feed = Feed(Settings(), stumble)
    fault = feed.latest(DEADLINE_SECONDS).fault
    assert fault is not None
    assert fault.reason == "The dashboard itself failed while it read the answer."
    until(lambda: feed.latest(DEADLINE_SECONDS).fault is None)


def test_a_fault_does_not_keep_the_answer_in_memory(api: Api) -> None:
    """What is remembered of a bad answer is why it was bad, not the answer."""
    api.counts({30: 1})
    api.answers["/stats/ages"] = api.answers["/nowhere"] = lambda exchange: exchange.write(b"no")
    fault = Feed(api.settings, ask).latest(DEADLINE_SECONDS).fault
    assert fault is not None
    assert (fault.__traceback__, fault.__cause__, fault.__context__) == (None, None, None)
