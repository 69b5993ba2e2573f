"""When users are sent: at an interval, at a rate, and in bulk; on a virtual clock."""

import asyncio
import itertools
import json
import math
import random
import tracemalloc
from typing import Any

import fake_api
import pytest
from fake_api import Handler, respond
from one_run import Run, quiet
from virtual_clock import virtual_loop

from client import Client, Response
from generator import Users
from ledger import Ledger
from scheduler import Scheduler, run_until_stopped
from settings import read_settings


@pytest.mark.virtual_clock
async def test_ticks_lie_on_a_grid() -> None:
    """Users are sent exactly a period apart, however long the responses take."""
    for at_a_rate in (False, True):
        run = Run(5, delay_seconds=0.3)
        scheduler, start = run.scheduler, virtual_loop().time()
        await scheduler.at_pace(1.0, 8 if at_a_rate else None)

        times = [request.at - start for request in run.api.requests]
        assert times == pytest.approx([0, 1, 2, 3, 4])
        assert (run.ledger.dropped, run.settled()) == (0, [5, 0, 0, 0])


@pytest.mark.virtual_clock
async def test_at_an_interval_ticks_that_pass_are_left_out() -> None:
    """If a response takes 2.5 periods, a user is sent at every third tick: nothing is caught up."""
    run = Run(4, delay_seconds=2.5)
    await run.scheduler.at_pace(1.0, None)

    assert [request.at for request in run.api.requests] == pytest.approx([0, 3, 6, 9])
    assert (run.ledger.dropped, run.settled()) == (0, [4, 0, 0, 0])


def serves(per_second: float) -> Handler:
    """A handler that serves one request after another, so many a second."""
    turn = asyncio.Lock()

    async def handler(*arguments: Any) -> None:
        async with turn:
            await asyncio.sleep(1 / per_second)
            await fake_api.contract(*arguments)

    return handler


@pytest.mark.virtual_clock
async def test_an_overloaded_api_does_not_slow_the_schedule() -> None:
    """An API that serves twenty a second still gets the hundred a second of the schedule, and the
    latency is that of a growing queue: no coordinated omission.
    """
    run = Run(200)
    handler = serves(per_second=20)
    run.api.choose_handler = lambda _: handler
    await run.scheduler.at_pace(0.01, 200)

    times = [request.at for request in run.api.requests]
    assert times == pytest.approx([number * 0.01 for number in range(200)])
    assert (run.ledger.dropped, run.settled()) == (0, [200, 0, 0, 0])
    assert run.ledger.percentile_milliseconds(50) == pytest.approx(4_000, rel=0.02)
    assert run.ledger.percentile_milliseconds(99) == pytest.approx(7_950, rel=0.02)


@pytest.mark.virtual_clock
async def test_a_dropped_tick_uses_up_one_of_the_count() -> None:
    """If the concurrency is too low the schedule still ends in time, and dropped users count."""
    run = Run(600)
    handler = serves(per_second=5)
    run.api.choose_handler = lambda _: handler
    await run.scheduler.at_pace(0.1, 10)

    times = [request.at for request in run.api.requests]
    assert 59 < times[-1] < 60
    assert (run.ledger.attempted + run.ledger.dropped, run.ledger.late) == (600, 0)
    assert 280 < run.ledger.dropped < 310
    assert run.ledger.failed_share() == run.ledger.dropped / 600


@pytest.mark.virtual_clock
async def test_a_pause_of_the_machine_is_not_caught_up() -> None:
    """A tick that is more than a second late is counted as late, not as dropped; a smaller delay
    is a part of the user's latency.
    """
    run = Run(130)
    loop = virtual_loop()
    loop.call_later(1.05, lambda: setattr(loop.selector, "now", 10.05))
    await run.scheduler.at_pace(0.1, concurrency=100)

    assert (run.ledger.late, run.ledger.dropped, run.settled()) == (80, 0, [50, 0, 0, 0])
    assert run.ledger.percentile_milliseconds(99) == pytest.approx(950, abs=100)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("way", ["at an interval", "at a rate", "in bulk"])
async def test_users_that_are_given_up_have_a_latency(way: str) -> None:
    """An API that never responds does not look fast."""
    run = Run(3, batches=True)
    run.api.choose_handler = lambda _: fake_api.hang
    concurrency = None if way == "at an interval" else 8
    bulk = way == "in bulk"
    sending = asyncio.create_task(
        run.in_bulk(10) if bulk else run.scheduler.at_pace(1.0, concurrency)
    )
    await asyncio.sleep(5.0)
    sending.cancel()
    await asyncio.wait({sending})
    run.ledger.close()

    assert run.settled() == [0, 0, 0, run.ledger.attempted]
    assert run.ledger.percentile_milliseconds(100) == pytest.approx(5_000, rel=0.01)


@pytest.mark.virtual_clock
async def test_the_gaps_of_poisson_arrivals_are_exponential() -> None:
    """Their mean is the period, about 63 % are shorter than it, and a seed gives the same ones."""
    gaps = []
    for seed in (5, 5, 6):
        run, start = Run(2_000), virtual_loop().time()
        await run.scheduler.at_pace(0.1, 200, random.Random(seed))
        times = [request.at - start for request in run.api.requests]
        gaps.append([later - earlier for earlier, later in itertools.pairwise(times)])
        assert run.settled() == [2_000, 0, 0, 0]

    assert gaps[0] == pytest.approx(gaps[1])
    assert gaps[0] != pytest.approx(gaps[2])
    for some in gaps:
        assert sum(some) / len(some) == pytest.approx(0.1, rel=0.1)
        assert sum(gap < 0.1 for gap in some) / len(some) == pytest.approx(1 - 1 / math.e, abs=0.05)
        assert sum(gap > 0.2 for gap in some) / len(some) == pytest.approx(1 / math.e**2, abs=0.04)


@pytest.mark.virtual_clock
async def test_another_api_is_noticed_at_a_rate() -> None:
    """Three reads that show no user, of whatever users, are enough: an API that does not create
    users as it should gets less than a second of them, each one once.
    """
    run = Run(None)
    handlers = {"create": respond(201, {"id": 1}), "read": respond(404, {})}
    run.api.choose_handler = lambda request: handlers.get(request.kind)
    await run_until_stopped(run.scheduler.at_pace(0.05, 200), run.stop)
    run.ledger.close()

    ids = [request.params["user_id"] for request in run.api.seen("create")]
    assert 3 <= len(ids) == len(set(ids)) <= 1 / 0.05
    assert run.settled() == [0, 0, 0, len(ids)]


FLAGS = {
    "at an interval": (["--interval", "2"], 5),
    "at a rate": (["--rate", "5"], 50),
    "in bulk": (["--interval", "none", "--concurrency", "4", "--batch-size", "1"], 4 * 10),
}


@pytest.mark.virtual_clock
@pytest.mark.parametrize(("flags", "count"), FLAGS.values(), ids=FLAGS.keys())
@pytest.mark.parametrize("hangs", [False, True], ids=["responds", "hangs at the end"])
async def test_no_user_is_sent_after_the_duration(
    flags: list[str], count: int, hangs: bool
) -> None:
    """In ten seconds all users of ten seconds are sent; their last responses may take half a minute
    more. Users without a response then are given up.
    """
    run, start = Run(None, delay_seconds=1.0), virtual_loop().time()
    settings = read_settings({}, [*flags, "--duration", "10s"])
    if hangs:
        virtual_loop().call_later(
            7.9, lambda: setattr(run.api, "choose_handler", lambda _: fake_api.hang)
        )
    await run.scheduler.run(settings)
    run.ledger.close()

    times = [request.at - start for request in run.api.requests if request.at - start < 10]
    assert len(times) == (count - 4 if hangs and count == 40 else count)
    attempted = run.ledger.attempted
    assert run.settled()[0] + run.settled()[3] == attempted == len(times)
    assert bool(run.settled()[3]) == hangs
    ended = virtual_loop().time() - start
    assert ended == pytest.approx(40 if hangs else 10, abs=1.1)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("edited", [False, True], ids=["other people", "edited people"])
@pytest.mark.parametrize("batch_size", [1, 7])
async def test_no_run_loses_users_because_earlier_ones_used_their_ids(
    batch_size: int, edited: bool
) -> None:
    """Twelve runs start at the same id with other people, or with the same people, who were changed
    in the store after each run: every user is stored. A run that is repeated finds its users.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    stored: dict[int, dict[str, Any]] = {}

    async def run_with(number: int) -> list[int]:
        run = Run(30, seed if edited else seed + number, batches=True)
        run.scheduler.source._ids = itertools.count(Users(seed).block * 10**9 + 1)
        run.scheduler.source.block = Users(seed).block
        run.api.users = stored
        await run.in_bulk(batch_size)
        return run.settled()

    for number in range(12):
        assert await run_with(number) == [30, 0, 0, 0]
        for user in stored.values() if edited else ():
            user["age"] += 1
    assert len(stored) == 12 * 30
    if not edited:
        for number in range(12):
            assert await run_with(number) == [0, 30, 0, 0]


class Instant:
    """An API that creates all users of a batch at once, and notes in which turn of the loop."""

    def __init__(self, count: int) -> None:
        self.turn, self.created_in = 0, list[int]()
        report = quiet(ledger := Ledger())
        client = Client(self.exchange, lambda: 0.0, report.say, ledger.errors)
        stop = asyncio.Event()
        self.scheduler = Scheduler(client, Users(1), count, ledger, report.users, stop)

    async def exchange(self, _method: str, target: str, _id: str, body: bytes) -> Response:
        assert target == "/users/batch"
        self.created_in.append(self.turn)
        created = len(json.loads(body))
        assert created
        return Response(200, {"created": created, "existing": [], "conflicting": []})


async def test_one_large_batch_at_a_turn() -> None:
    """To make a batch blocks the event loop: between two of them other tasks get a turn."""
    api = Instant(641)

    async def count_turns() -> None:
        while True:
            await asyncio.sleep(0)
            api.turn += 1

    counting = asyncio.create_task(count_turns())
    await api.scheduler.in_bulk(10, 64)
    counting.cancel()

    assert len(set(api.created_in)) == len(api.created_in) == 65


async def test_memory_stays_flat() -> None:
    """Thirty thousand users take no more memory than three thousand."""

    async def peak_bytes(count: int) -> int:
        tracemalloc.start()
        scheduler = Instant(count).scheduler
        await scheduler.in_bulk(1_000, 8)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert scheduler.ledger.settled["created"] == count
        return peak

    await peak_bytes(1_000)  # loads and fills what stays
    small, large = await peak_bytes(3_000), await peak_bytes(30_000)
    assert large < small + 1_000_000  # 27,000 users would take three times that
