"""When users leave, and what becomes of a batch; on a virtual clock where time matters."""

import asyncio
import json
import random
import tracemalloc
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
import fake_api
from fake_api import Handler, Request, FakeApi, respond, lost
from virtual_clock import run_virtually, virtual_loop

from client import BatchAnswer, Client, DryRun
from connection import Connection
from generator import User, Users
from ledger import Ledger
from report import Report
from scheduler import Batches, RetryBudget, Scheduler
from settings import AT_ONCE_AT_A_RATE

SOMEBODY = {"name": "Somebody Else", "age": 0}


class Run:
    """So many users, to a throwaway API on a network in memory."""

    def __init__(self, count: int | None, **options: Any) -> None:
        self.api = FakeApi(**options)
        self.ledger = Ledger(clock=virtual_loop().time)
        self.output = Report("quiet")
        self.stop = asyncio.Event()
        self.said: list[str] = []
        self._count = count

    async def _send(self, way: str, *arguments: Any) -> None:
        virtual_loop().api = self.api
        connection = Connection("http://memory")
        client = Client(connection, self.said.append, self.ledger.errors, concurrency=4)
        users = Users(random.Random(1))
        sender = Sender(client, users, self._count, self.ledger, self.output)
        await getattr(sender, way)(*arguments, self.stop)
        connection.close()

    def one_by_one(self, period_seconds: float) -> Coroutine[Any, Any, None]:
        return self._send("one_by_one", period_seconds)

    def at_rate(self, period_seconds: float, concurrency: int) -> Coroutine[Any, Any, None]:
        return self._send("at_rate", period_seconds, concurrency)

    def in_bulk(self, batch_size: int, concurrency: int = 4) -> Coroutine[Any, Any, None]:
        return self._send("in_bulk", batch_size, concurrency)

    def settled(self) -> list[int]:
        """How many were created, already there, rejected and given up; asserts that they add up."""
        assert self.ledger.balances()
        return list(self.ledger.settled.values())


def users(count: int) -> list[User]:
    drawn = Users(random.Random(1))
    return [next(drawn) for _ in range(count)]


def as_stored(user: User) -> dict[str, Any]:
    return {"name": user.name, "age": user.age}


def test_ticks_lie_on_a_grid() -> None:
    """Users leave exactly a period apart, however long the answers take."""

    async def story() -> None:
        for way in ("one by one", "at a rate"):
            run = Run(5, delay_seconds=0.3)
            start = virtual_loop().time()
            await (run.one_by_one(1.0) if way == "one by one" else run.at_rate(1.0, 8))

            times = [request.at - start for request in run.api.requests]
            assert times == pytest.approx([0, 1, 2, 3, 4])
            assert (run.ledger.dropped, run.settled()) == (0, [5, 0, 0, 0])

    run_virtually(story())


def test_one_by_one_ticks_that_pass_meanwhile_are_nobodys() -> None:
    """With answers that take 2.5 periods a user leaves at every third tick: all of them leave, and
    nothing is caught up.
    """

    async def story() -> None:
        run = Run(4, delay_seconds=2.5)
        await run.one_by_one(1.0)

        assert [request.at for request in run.api.requests] == pytest.approx([0, 3, 6, 9])
        assert (run.ledger.dropped, run.settled()) == (0, [4, 0, 0, 0])

    run_virtually(story())


def serves(per_second: float) -> Handler:
    """An act that makes the API serve one request after another, so many a second."""
    turn = asyncio.Lock()

    async def act(*arguments: Any) -> None:
        async with turn:
            await asyncio.sleep(1 / per_second)
            await fake_api.contract(*arguments)

    return act


def test_an_overloaded_api_does_not_slow_the_schedule() -> None:
    """With an API that serves twenty a second, a hundred a second arrive all the same, for as long
    as was asked for, and the latency is that of a queue that grows: no coordinated omission.
    """

    async def story() -> None:
        run = Run(200)
        act = serves(per_second=20)
        run.api.choose_handler = lambda _: act
        await run.at_rate(0.01, AT_ONCE_AT_A_RATE)

        times = [request.at for request in run.api.requests]
        assert times == pytest.approx([number * 0.01 for number in range(200)])
        assert (run.ledger.dropped, run.settled()) == (0, [200, 0, 0, 0])
        assert run.ledger.latencies.percentile_seconds(50) == pytest.approx(4.0, rel=0.02)
        assert run.ledger.latencies.percentile_seconds(99) == pytest.approx(7.95, rel=0.02)

    run_virtually(story())


def test_a_tick_without_a_place_is_dropped_and_uses_up_one_of_the_count() -> None:
    """Where the places do not suffice the schedule ends in time all the same, and whoever could not
    leave is counted.
    """

    async def story() -> None:
        run = Run(600)
        act = serves(per_second=5)
        run.api.choose_handler = lambda _: act
        await run.at_rate(0.1, 10)

        times = [request.at for request in run.api.requests]
        assert 59 < times[-1] < 60
        assert (run.ledger.attempted + run.ledger.dropped, run.ledger.late) == (600, 0)
        assert 280 < run.ledger.dropped < 310
        assert run.ledger.failed_share() == run.ledger.dropped / 600

    run_virtually(story())


def test_a_pause_of_the_machine_is_not_caught_up() -> None:
    """A tick that comes more than a second late is dropped, and told apart from those that found no
    place; one that is a little late is not, and what it was late by belongs to its latency.
    """

    async def story() -> None:
        run = Run(130)
        loop = virtual_loop()
        loop.call_later(1.05, lambda: setattr(loop.selector, "now", 10.05))
        await run.at_rate(0.1, concurrency=100)

        assert (run.ledger.late, run.ledger.dropped, run.settled()) == (80, 0, [50, 0, 0, 0])
        assert run.ledger.latencies.percentile_seconds(99) == pytest.approx(0.95, abs=0.1)

    run_virtually(story())


@pytest.mark.parametrize("way", ["one_by_one", "at_rate", "in_bulk"])
def test_who_is_given_up_has_waited(way: str) -> None:
    """Users whose answers never came have a place in the latencies: an API that answers nobody does
    not look quick.
    """

    async def story() -> None:
        run = Run(3, batches=True)
        run.api.choose_handler = lambda _: fake_api.hang
        flags = {"one_by_one": (1.0,), "at_rate": (0.5, 8), "in_bulk": (10, 4)}[way]
        sending = asyncio.create_task(run._send(way, *flags))
        await asyncio.sleep(5.0)
        sending.cancel()
        await asyncio.wait({sending})
        run.ledger.close()

        assert run.settled() == [0, 0, 0, run.ledger.attempted]
        assert run.ledger.latencies.percentile_seconds(100) == pytest.approx(5.0, rel=0.01)

    run_virtually(story())


def test_a_bulk_goes_by_batches() -> None:
    """The first user finds out that there are batches, and the others go by them."""

    async def story() -> None:
        run = Run(1_000, batches=True)
        await run.in_bulk(100)

        assert [request.kind for request in run.api.requests] == ["batch"] * 11
        assert run.api.users == {user.user_id: as_stored(user) for user in users(1_000)}
        assert run.settled() == [1_000, 0, 0, 0]

    run_virtually(story())


@pytest.mark.parametrize("status", [200, 404, 405, 501])
def test_without_batches_users_go_one_by_one(status: int) -> None:
    """An API that has no batches is asked once, and that is said once."""

    async def story() -> None:
        run = Run(50)
        run.api.next_handlers["batch"].append(respond(status, {"error": "No"}))
        await run.in_bulk(10)

        assert len(run.api.seen("batch")) == 1
        assert run.said == ["The API takes no batches: users go one by one"]
        assert len(run.api.seen("create")) == len(run.api.users) == 50
        assert (run.settled(), run.ledger.errors) == ([50, 0, 0, 0], {})

    run_virtually(story())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_batch_that_is_refused_does_not_end_batches(status: int) -> None:
    """Where only the first user is not wanted, the others go by batches all the same."""

    async def story() -> None:
        run = Run(51, batches=True)
        run.api.next_handlers["batch"].append(respond(status, {"detail": "No"}))
        run.api.next_handlers["create"].append(respond(status, {"detail": "No"}))
        await run.in_bulk(10)

        assert len(run.api.seen("batch")) == 6
        assert (run.settled(), run.said) == ([50, 0, 1, 0], [])

    run_virtually(story())


def test_a_batch_size_of_one_is_a_single_post() -> None:
    """Whoever wants no batches gets none."""

    async def story() -> None:
        run = Run(5, batches=True)
        await run.in_bulk(1)

        assert [request.kind for request in run.api.requests] == ["create"] * 5

    run_virtually(story())


SPOILT: dict[str, Handler] = {
    "reset": fake_api.reset,
    "half a body": fake_api.half,
    "500": respond(500, {}),
    "a wrong number": respond(200, {"created": 7, "existing": []}),
    "a strange id": respond(200, {"created": 9, "existing": [1]}),
    "no ids": respond(200, {"created": 10}),
}


@pytest.mark.parametrize("act", SPOILT.values(), ids=SPOILT.keys())
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
def test_a_lost_answer_to_a_batch_is_resolved(act: Handler, stored: bool) -> None:
    """The batch is sent again; those that exist then, and are equal, were ours: created, once."""

    async def story() -> None:
        run = Run(11, batches=True)
        acts = [fake_api.contract, lost(act) if stored else act]
        run.api.next_handlers["batch"].extend(acts)
        await run.in_bulk(10)

        assert run.api.users == {user.user_id: as_stored(user) for user in users(11)}
        assert run.settled() == [11, 0, 0, 0]
        assert (len(run.api.seen("list")), len(run.api.seen("read"))) == (stored, 0)

    run_virtually(story())


LISTINGS: dict[str, tuple[Handler, int]] = {
    "pages": (fake_api.contract, 0),
    "none": (respond(404, {"detail": "Not Found"}), 2_500),
    "broken": (fake_api.reset, 2_500),
    "a page for people": (respond(200, b"<!doctype html>"), 2_500),
    "a list": (respond(200, [1, 2]), 2_500),
    "other users": (respond(200, {"1": {"name": "Bo", "age": 1}, "x": None}), 2_500),
}


@pytest.mark.parametrize(("act", "reads"), LISTINGS.values(), ids=LISTINGS.keys())
def test_whoever_is_stored_already_is_found_by_pages(act: Handler, reads: int) -> None:
    """A seed for the second time costs a question for a thousand users; where the API has no pages,
    or anything is wrong with them, each user is asked for alone, and the accounts are the same.
    """

    async def story() -> None:
        run = Run(2_501, batches=True)
        run.api.users = {user.user_id: as_stored(user) for user in users(2_501)}
        run.api.next_handlers["list"].extend([act] * 3)
        await run.in_bulk(2_500, concurrency=1)

        assert run.settled() == [0, 2_501, 0, 0]
        # the first user goes in a batch of its own, and is compared alone
        assert len(run.api.seen("create")) == len(run.api.seen("read")) == reads + 1
        assert len(run.api.seen("list")) <= 3

    run_virtually(story())


def test_who_was_there_before_a_batch() -> None:
    """An equal user was already there; an id that is somebody else's is drawn anew."""

    async def story() -> None:
        run = Run(11, batches=True)
        equal, other = users(11)[4:6]
        run.api.users = {equal.user_id: as_stored(equal), other.user_id: SOMEBODY}
        await run.in_bulk(10)

        assert run.settled() == [10, 1, 0, 0]
        assert run.api.users[other.user_id] == SOMEBODY
        assert len(run.api.users) == 12
        assert as_stored(other) in run.api.users.values()

    run_virtually(story())


def test_what_is_refused_as_a_batch_is_sent_one_by_one() -> None:
    """Of a batch that is too large, or that has one user in it too many, each gets an answer."""

    async def story() -> None:
        run = Run(21, batches=True)
        acts = [fake_api.contract, respond(413, {"detail": "Too large"})]
        run.api.next_handlers["batch"].extend(acts)
        run.api.next_handlers["create"].append(respond(422, {"detail": "Not that one"}))
        await run.in_bulk(10, concurrency=1)

        assert run.settled() == [20, 0, 1, 0]
        assert run.ledger.errors == {"rejected a user with 422": 1}
        assert [request.kind for request in run.api.requests[:3]] == ["batch", "batch", "create"]
        assert run.api.requests[-1].kind == "batch"

    run_virtually(story())


def test_a_store_that_is_full_is_filled_and_no_further() -> None:
    """Of a batch that does not fit the first users have the room there is; once a single one is
    refused with 507 the rest is not tried.
    """

    async def story() -> None:
        run = Run(31, batches=True)

        def room(request: Request) -> Handler | None:
            new = len(json.loads(request.body)) if request.kind == "batch" else 1
            full = len(run.api.users) + new > 15 and request.method == "POST"
            return respond(507, {"detail": "Full"}) if full else None

        run.api.choose_handler = room
        await run.in_bulk(10, concurrency=1)

        assert run.settled() == [15, 0, 16, 0]
        assert len(run.api.users) == 15
        # one and ten fit; of the next ten four do; of the last nobody does
        assert len(run.api.seen("create")) == 4 + 1 + 1

    run_virtually(story())


def test_a_full_store_that_has_most_of_them() -> None:
    """Who is stored already is found to be so, though a store without room refuses the batch."""

    async def story() -> None:
        run = Run(11, batches=True)
        missing, *others = users(11)[1:]
        run.api.users = {user.user_id: as_stored(user) for user in [users(1)[0], *others]}
        full = respond(507, {"detail": "Full"})
        new = str(missing.user_id)

        def no_room(request: Request) -> Handler | None:
            ids = [*json.loads(request.body or b"{}"), request.params.get("user_id")]
            return full if new in ids else None

        run.api.choose_handler = no_room
        await run.in_bulk(10)

        assert run.settled() == [0, 10, 1, 0]
        assert len(run.api.seen("create")) == 2  # the first, and the one who is not there

    run_virtually(story())


@pytest.mark.parametrize(
    ("act", "faults"),
    [
        (respond(404, {}), {}),
        (respond(200, [1]), {}),
        (respond(503, {}), {"responded with 503": 1}),
        (fake_api.reset, {"closed the connection without a response": 1}),
    ],
)
def test_a_full_store_that_does_not_tell_whom_it_has(act: Handler, faults: dict[str, int]) -> None:
    """Where its pages fail, everybody is asked for alone: nobody who is stored counts as rejected,
    and a fault counts among the errors.
    """

    async def story() -> None:
        run = Run(11, batches=True)
        missing, *others = users(11)[1:]
        run.api.users = {user.user_id: as_stored(user) for user in [users(1)[0], *others]}
        new = str(missing.user_id)

        def no_room(request: Request) -> Handler | None:
            if request.kind == "list":
                return act
            ids = [*json.loads(request.body or b"{}"), request.params.get("user_id")]
            return respond(507, {"detail": "Full"}) if new in ids else None

        run.api.choose_handler = no_room
        await run.in_bulk(10)

        assert run.settled() == [0, 10, 1, 0]
        assert run.ledger.errors == {"rejected a user with 507": 1, **faults}

    run_virtually(story())


def test_the_last_place_taken_by_an_answer_that_was_lost() -> None:
    """A user who was stored, whose answer was lost, and who is then refused, was created."""

    async def story() -> None:
        run = Run(1)
        full = respond(507, {"detail": "Full"})
        run.api.next_handlers["create"].extend([lost(fake_api.reset), full])
        await run.in_bulk(1)

        assert run.settled() == [1, 0, 0, 0]

    run_virtually(story())


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_rejects_the_batch(status: int) -> None:
    """Nobody is sent one by one to an API that wants a token."""

    async def story() -> None:
        run = Run(21, batches=True)
        run.api.choose_handler = lambda _: respond(status, {"detail": "Who are you?"})
        await run.in_bulk(10)

        assert run.settled() == [0, 0, 21, 0]
        assert len(run.api.requests) == 3

    run_virtually(story())


def test_progress_is_told_before_anybody_is_settled() -> None:
    """A first user who is already there leaves its batch without anybody to tell of."""

    async def story() -> None:
        run = Run(3)
        run.api.users[users(1)[0].user_id] = as_stored(users(1)[0])
        run.output = Report("quiet", 3, every_seconds=0)
        await run.in_bulk(10)

        assert run.settled() == [2, 1, 0, 0]

    run_virtually(story())


def test_a_dry_run_one_by_one_stops_when_told() -> None:
    """Without anybody to wait for it lets others have their turn all the same."""

    async def story() -> None:
        stop = asyncio.Event()
        ledger = Ledger()
        dry = DryRun(lambda _: None)
        sender = Sender(dry, Users(random.Random(1)), None, ledger, Report("quiet"))
        asyncio.get_running_loop().call_later(0.05, stop.set)
        async with asyncio.timeout(10):
            await sender.in_bulk(1, 8, stop)
        assert ledger.settled["not sent"]

    asyncio.run(story())


def test_one_large_batch_at_a_turn() -> None:
    """To make one holds up the loop; between two of them others have a turn: answers, the stop."""

    async def story() -> None:
        turn = 0
        sent_in: list[int] = []

        class Noting(DryRun):
            async def create_batch(self, users: Sequence[User]) -> BatchAnswer:
                sent_in.append(turn)
                return await super().create_batch(users)

        async def others() -> None:
            nonlocal turn
            while True:
                await asyncio.sleep(0)
                turn += 1

        waiting = asyncio.create_task(others())
        source, output = Users(random.Random(1)), Report("quiet")
        sender = Sender(Noting(lambda _: None), source, 641, Ledger(), output)
        await sender.in_bulk(10, 64, asyncio.Event())
        waiting.cancel()

        assert len(set(sent_in)) == len(sent_in) == 65

    asyncio.run(story())


def test_memory_stays_flat() -> None:
    """A hundred thousand users take no more memory than ten thousand."""

    async def peak_bytes(count: int) -> int:
        tracemalloc.start()
        source = Users(random.Random(1))
        ledger = Ledger()
        sender = Sender(DryRun(lambda _: None), source, count, ledger, Report("quiet", count))
        await sender.in_bulk(1_000, 8, asyncio.Event())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert ledger.settled["not sent"] == count
        return peak

    async def story() -> None:
        await peak_bytes(1_000)  # whatever is loaded or filled once
        small, large = await peak_bytes(10_000), await peak_bytes(100_000)
        assert large < small + 1_000_000  # 90,000 users would take ten times that

    asyncio.run(story())
