"""When users are sent, and what becomes of a batch; on a virtual clock."""

import asyncio
import json
import tracemalloc
from collections.abc import Coroutine, Sequence
from typing import Any

import fake_api
import pytest
from fake_api import FakeApi, Handler, Request, lost, respond
from virtual_clock import run_virtually, virtual_loop

from client import Client, Response, Result
from connection import Connection
from generator import User, Users
from ledger import Ledger, RetryBudget
from report import Report
from scheduler import Batches, BatchResult, Scheduler

OTHER_USER = {"name": "Somebody Else", "age": 0}


class Run:
    """So many users, to a fake API on a network in memory."""

    def __init__(self, count: int | None, **options: Any) -> None:
        self.api = virtual_loop().api = FakeApi(**options)
        self.ledger = Ledger(clock=virtual_loop().time)
        self.stop = asyncio.Event()
        self.said: list[str] = []
        exchange = Connection("http://memory").exchange
        budget = RetryBudget(exchange, None, 4)
        client = Client(budget.exchange, budget.wait_seconds, self.said.append, self.ledger.errors)
        self.batches = Batches(client)
        report = Report("quiet").users
        self.scheduler = Scheduler(client.create, Users(1), count, self.ledger, report, self.stop)

    def in_bulk(self, batch_size: int, concurrency: int = 4) -> Coroutine[Any, Any, None]:
        return self.scheduler.in_bulk(self.batches, batch_size, concurrency)

    def settled(self) -> list[int]:
        """How many were created, already there, rejected and given up; asserts that they add up."""
        assert self.ledger.balances()
        return list(self.ledger.settled.values())


def users(count: int) -> list[User]:
    drawn = Users(1)
    return [next(drawn) for _ in range(count)]


def as_stored(*users: User) -> dict[int, dict[str, Any]]:
    return {user.user_id: {"name": user.name, "age": user.age} for user in users}


def test_ticks_lie_on_a_grid() -> None:
    """Users are sent exactly a period apart, however long the responses take."""

    async def story() -> None:
        for at_a_rate in (False, True):
            run = Run(5, delay_seconds=0.3)
            scheduler, start = run.scheduler, virtual_loop().time()
            await (scheduler.at_rate(1.0, 8) if at_a_rate else scheduler.at_interval(1.0))

            times = [request.at - start for request in run.api.requests]
            assert times == pytest.approx([0, 1, 2, 3, 4])
            assert (run.ledger.dropped, run.settled()) == (0, [5, 0, 0, 0])

    run_virtually(story())


def test_at_an_interval_ticks_that_pass_are_left_out() -> None:
    """If a response takes 2.5 periods, a user is sent at every third tick: nothing is caught up."""

    async def story() -> None:
        run = Run(4, delay_seconds=2.5)
        await run.scheduler.at_interval(1.0)

        assert [request.at for request in run.api.requests] == pytest.approx([0, 3, 6, 9])
        assert (run.ledger.dropped, run.settled()) == (0, [4, 0, 0, 0])

    run_virtually(story())


def serves(per_second: float) -> Handler:
    """A handler that serves one request after another, so many a second."""
    turn = asyncio.Lock()

    async def handler(*arguments: Any) -> None:
        async with turn:
            await asyncio.sleep(1 / per_second)
            await fake_api.contract(*arguments)

    return handler


def test_an_overloaded_api_does_not_slow_the_schedule() -> None:
    """An API that serves twenty a second still gets the hundred a second of the schedule, and the
    latency is that of a growing queue: no coordinated omission.
    """

    async def story() -> None:
        run = Run(200)
        handler = serves(per_second=20)
        run.api.choose_handler = lambda _: handler
        await run.scheduler.at_rate(0.01, 200)

        times = [request.at for request in run.api.requests]
        assert times == pytest.approx([number * 0.01 for number in range(200)])
        assert (run.ledger.dropped, run.settled()) == (0, [200, 0, 0, 0])
        assert run.ledger.latencies.percentile_seconds(50) == pytest.approx(4.0, rel=0.02)
        assert run.ledger.latencies.percentile_seconds(99) == pytest.approx(7.95, rel=0.02)

    run_virtually(story())


def test_a_dropped_tick_uses_up_one_of_the_count() -> None:
    """If the concurrency is too low the schedule still ends in time, and dropped users count."""

    async def story() -> None:
        run = Run(600)
        handler = serves(per_second=5)
        run.api.choose_handler = lambda _: handler
        await run.scheduler.at_rate(0.1, 10)

        times = [request.at for request in run.api.requests]
        assert 59 < times[-1] < 60
        assert (run.ledger.attempted + run.ledger.dropped, run.ledger.late) == (600, 0)
        assert 280 < run.ledger.dropped < 310
        assert run.ledger.failed_share() == run.ledger.dropped / 600

    run_virtually(story())


def test_a_pause_of_the_machine_is_not_caught_up() -> None:
    """A tick that is more than a second late is counted as late, not as dropped; a smaller delay
    is a part of the user's latency.
    """

    async def story() -> None:
        run = Run(130)
        loop = virtual_loop()
        loop.call_later(1.05, lambda: setattr(loop.selector, "now", 10.05))
        await run.scheduler.at_rate(0.1, concurrency=100)

        assert (run.ledger.late, run.ledger.dropped, run.settled()) == (80, 0, [50, 0, 0, 0])
        assert run.ledger.latencies.percentile_seconds(99) == pytest.approx(0.95, abs=0.1)

    run_virtually(story())


@pytest.mark.parametrize("way", ["at_interval", "at_rate", "in_bulk"])
def test_users_that_are_given_up_have_a_latency(way: str) -> None:
    """An API that never responds does not look fast."""

    async def story() -> None:
        run = Run(3, batches=True)
        run.api.choose_handler = lambda _: fake_api.hang
        arguments = {"at_interval": (1.0,), "at_rate": (0.5, 8), "in_bulk": (run.batches, 10, 4)}
        sending = asyncio.create_task(getattr(run.scheduler, way)(*arguments[way]))
        await asyncio.sleep(5.0)
        sending.cancel()
        await asyncio.wait({sending})
        run.ledger.close()

        assert run.settled() == [0, 0, 0, run.ledger.attempted]
        assert run.ledger.latencies.percentile_seconds(100) == pytest.approx(5.0, rel=0.01)

    run_virtually(story())


def test_a_bulk_goes_by_batches() -> None:
    """The first user finds out that the API takes batches, and the others are sent in them."""

    async def story() -> None:
        run = Run(1_000, batches=True)
        await run.in_bulk(100)

        assert [request.kind for request in run.api.requests] == ["batch"] * 11
        assert run.api.users == as_stored(*users(1_000))
        assert run.settled() == [1_000, 0, 0, 0]

    run_virtually(story())


@pytest.mark.parametrize("status", [200, 404, 405, 501])
def test_without_batches_users_are_sent_one_by_one(status: int) -> None:
    """An API that has no batches is asked once, and that is said once."""

    async def story() -> None:
        run = Run(50)
        run.api.next_handlers["batch"].append(respond(status, {"error": "No"}))
        await run.in_bulk(10)

        assert len(run.api.seen("batch")) == 1
        assert run.said == ["The API takes no batches: users are sent one by one"]
        assert len(run.api.seen("create")) == len(run.api.users) == 50
        assert (run.settled(), run.ledger.errors) == ([50, 0, 0, 0], {})

    run_virtually(story())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_rejected_batch_does_not_end_batches(status: int) -> None:
    """If the API rejects only the first user, the others are still sent in batches."""

    async def story() -> None:
        run = Run(51, batches=True)
        run.api.next_handlers["batch"].append(respond(status, {"detail": "No"}))
        run.api.next_handlers["create"].append(respond(status, {"detail": "No"}))
        await run.in_bulk(10)

        assert len(run.api.seen("batch")) == 6
        assert (run.settled(), run.said) == ([50, 0, 1, 0], [])

    run_virtually(story())


LOST: dict[str, Handler] = {
    "reset": fake_api.reset,
    "half a body": fake_api.half,
    "500": respond(500, {}),
    "a wrong number": respond(200, {"created": 7, "existing": []}),
    "a strange id": respond(200, {"created": 9, "existing": [1], "conflicting": []}),
    "no ids": respond(200, {"created": 10}),
}


@pytest.mark.parametrize("handler", LOST.values(), ids=LOST.keys())
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
@pytest.mark.parametrize("old", [False, True], ids=["new API", "old API"])
def test_a_lost_response_to_a_batch_is_resolved(handler: Handler, stored: bool, old: bool) -> None:
    """The batch is sent again; users that exist then, and are equal, are ours: created, once."""

    async def story() -> None:
        run = Run(11, batches=True, old=old)
        handlers = [fake_api.contract, lost(handler) if stored else handler]
        run.api.next_handlers["batch"].extend(handlers)
        await run.in_bulk(10)

        assert run.api.users == as_stored(*users(11))
        assert run.settled() == [11, 0, 0, 0]
        asked_alone = 10 if stored and old else 0
        assert len(run.api.seen("create")) == len(run.api.seen("read")) == asked_alone

    run_virtually(story())


@pytest.mark.parametrize(
    "body",
    [
        {"created": 10, "existing": {}},
        {"created": 10, "existing": [], "conflicting": [7]},
        {"created": 9, "existing": [[]]},
        ["created"],
    ],
    ids=str,
)
def test_three_batch_responses_that_do_not_fit_end_batches(body: object) -> None:
    """That is said once, and each user is sent alone: all are stored, and the accounts are right."""

    async def story() -> None:
        run = Run(21, batches=True)
        handlers = [fake_api.contract, *[lost(respond(200, body))] * 9]
        run.api.next_handlers["batch"].extend(handlers)
        await run.in_bulk(10, concurrency=1)

        assert len(run.api.seen("batch")) == 4
        sentence = "The API responded to a batch with numbers that do not add up"
        assert run.said[-1] == f"{sentence}: users are sent one by one"
        assert (run.settled(), run.api.users) == ([21, 0, 0, 0], as_stored(*users(21)))

    run_virtually(story())


@pytest.mark.parametrize("old", [False, True], ids=["new API", "old API"])
def test_users_that_were_stored_before_a_batch(old: bool) -> None:
    """An equal user was already there; a user whose id another user has gets a new id. A new API
    tells which is which, so that only the second is sent again.
    """

    async def story() -> None:
        run = Run(11, batches=True, old=old)
        equal, other = users(11)[4:6]
        run.api.users = {**as_stored(equal), other.user_id: OTHER_USER}
        await run.in_bulk(10)

        assert run.settled() == [10, 1, 0, 0]
        assert run.api.users[other.user_id] == OTHER_USER
        assert len(run.api.users) == 12
        assert {"name": other.name, "age": other.age} in run.api.users.values()
        # under an old API both are sent alone first; then the other one with its new id
        assert len(run.api.seen("create")) == (3 if old else 2)

    run_virtually(story())


def test_the_same_seed_again_costs_no_single_posts() -> None:
    """All users of a second run are already there, and the batches tell so."""

    async def story() -> None:
        run = Run(2_501, batches=True)
        run.api.users = as_stored(*users(2_501))
        await run.in_bulk(500)

        assert run.settled() == [0, 2_501, 0, 0]
        assert {request.kind for request in run.api.requests} == {"batch"}

    run_virtually(story())


def test_a_full_store_is_filled() -> None:
    """A batch without room is sent one by one: the first users get the room there is, users that
    are stored already are found, and each of the others is rejected.
    """

    async def story() -> None:
        run = Run(31, batches=True)
        run.api.users = as_stored(*users(31)[25:28])

        def check_room(request: Request) -> Handler | None:
            ids = set(map(int, json.loads(request.body or b"{}")))
            ids |= {int(request.params["user_id"])} if request.kind == "create" else set()
            full = len(run.api.users.keys() | ids) > 18
            return respond(507, {"detail": "Full"}) if full and ids - run.api.users.keys() else None

        run.api.choose_handler = check_room
        await run.in_bulk(10, concurrency=1)

        assert run.settled() == [15, 3, 13, 0]
        assert run.ledger.errors == {"rejected a user with 507": 13}

    run_virtually(story())


def test_a_rejected_batch_is_sent_one_by_one() -> None:
    """If a batch is too large, or one of its users is not valid, each user gets its own response."""

    async def story() -> None:
        run = Run(21, batches=True)
        handlers = [fake_api.contract, respond(413, {"detail": "Too large"})]
        run.api.next_handlers["batch"].extend(handlers)
        run.api.next_handlers["create"].append(respond(422, {"detail": "Not that one"}))
        await run.in_bulk(10, concurrency=1)

        assert run.settled() == [20, 0, 1, 0]
        assert run.ledger.errors == {"rejected a user with 422": 1}
        assert [request.kind for request in run.api.requests[:3]] == ["batch", "batch", "create"]
        assert run.api.requests[-1].kind == "batch"

    run_virtually(story())


@pytest.mark.parametrize("status", [401, 403])
def test_without_the_right_token_a_batch_is_rejected(status: int) -> None:
    """Its users are not sent one by one."""

    async def story() -> None:
        run = Run(21, batches=True)
        run.api.choose_handler = lambda _: respond(status, {"detail": "Who are you?"})
        await run.in_bulk(10)

        assert run.settled() == [0, 0, 21, 0]
        assert len(run.api.requests) == 3

    run_virtually(story())


def test_a_bulk_without_batches_stops_when_told() -> None:
    """Also if nothing is waited for, as in a dry run."""

    async def story() -> None:
        stop, ledger, report = asyncio.Event(), Ledger(), Report("quiet")
        scheduler = Scheduler(report.preview, Users(1), None, ledger, report.users, stop)
        asyncio.get_running_loop().call_later(0.05, stop.set)
        async with asyncio.timeout(10):
            await scheduler.in_bulk(None, 1, 8)
        assert ledger.settled["not sent"]

    asyncio.run(story())


class InstantBatches(Batches):
    """Creates all users at once, and notes in which turn of the event loop."""

    def __init__(self) -> None:
        self.known, self.turn = True, 0
        self.created_in: list[int] = []

    async def create(self, users: Sequence[User]) -> BatchResult:
        self.created_in.append(self.turn)
        return BatchResult(Result("created", 200))


def test_one_large_batch_at_a_turn() -> None:
    """To make a batch blocks the event loop: between two of them other tasks get a turn."""

    async def story() -> None:
        batches, report = InstantBatches(), Report("quiet")

        async def count_turns() -> None:
            while True:
                await asyncio.sleep(0)
                batches.turn += 1

        counting = asyncio.create_task(count_turns())
        stop = asyncio.Event()
        scheduler = Scheduler(report.preview, Users(1), 641, Ledger(), report.users, stop)
        await scheduler.in_bulk(batches, 10, 64)
        counting.cancel()

        assert len(set(batches.created_in)) == len(batches.created_in) == 65

    asyncio.run(story())


def test_memory_stays_flat() -> None:
    """A hundred thousand users take no more memory than ten thousand."""

    async def peak_bytes(count: int) -> int:
        tracemalloc.start()
        ledger, report = Ledger(), Report("quiet", count)
        stop = asyncio.Event()
        scheduler = Scheduler(report.preview, Users(1), count, ledger, report.users, stop)
        await scheduler.in_bulk(InstantBatches(), 1_000, 8)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert ledger.settled["created"] == count
        return peak

    async def story() -> None:
        await peak_bytes(1_000)  # loads and fills what stays
        small, large = await peak_bytes(10_000), await peak_bytes(100_000)
        assert large < small + 1_000_000  # 90,000 users would take ten times that

    asyncio.run(story())


async def instantly(*_: object) -> Response:
    return Response(200)


def seconds_until_retry(period_seconds: float | None, concurrency: int, requests: int) -> float:
    """How long a retry waits after so many requests at once."""

    async def story() -> None:
        nonlocal seconds
        budget = RetryBudget(instantly, period_seconds, concurrency)
        for _ in range(requests):
            await budget.exchange("GET", "/", "", b"")
        seconds = budget.wait_seconds()

    seconds = -1.0
    run_virtually(story())
    return seconds


def test_a_retry_waits_for_the_budget() -> None:
    """Five requests may be sent at once; then a retry waits, at 1.2 times the normal load. First
    tries do not wait, but they use up the budget, ten at most.
    """
    waits = [seconds_until_retry(0.1, 1, requests) for requests in (0, 4, 5, 8, 1_000)]

    assert waits == pytest.approx([0, 0, 1 / 12, 4 / 12, 6 / 12])


def test_the_end_of_an_outage_is_noticed_at_any_pace() -> None:
    """One retry in 30 seconds is allowed at the slowest pace."""
    assert seconds_until_retry(86_400, 1, 5) == pytest.approx(30)


def test_the_normal_load_of_a_bulk_is_learnt() -> None:
    """Before the first response a retry may wait five seconds; eight requests at once, of two
    seconds each, are four a second.
    """

    async def story() -> None:
        async def slowly(*_: object) -> Response:
            await asyncio.sleep(2.0)
            return Response(200)

        budget = RetryBudget(slowly, None, 8)
        sending = [asyncio.create_task(budget.exchange("GET", "/", "", b"")) for _ in range(5)]
        await asyncio.sleep(0)
        assert budget.wait_seconds() == pytest.approx(5)
        await asyncio.wait(sending)
        for _ in range(5):
            sending.append(asyncio.create_task(budget.exchange("GET", "/", "", b"")))
        await asyncio.sleep(0)
        assert budget.wait_seconds() == pytest.approx(1 / (1.2 * 4))

    run_virtually(story())
