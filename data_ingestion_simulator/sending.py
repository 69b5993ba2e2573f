"""When users leave, and what is done until it is known what became of each."""

import asyncio
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress

from client import Answer, Client, DryRun, Outcome
from generator import User, Users
from ledger import Ledger
from output import Output

MOST_IDS_A_USER = 5
LATEST_START_SECONDS = 1.0


class Sender:
    """Sends `count` users, or without end if that is None, and enters each into the ledger."""

    def __init__(
        self, api: Client | DryRun, source: Users, count: int | None, ledger: Ledger, output: Output
    ) -> None:
        self._api = api
        self._source = source
        self._count = count
        self._users: Iterator[User] = itertools.islice(source, count)
        self._ledger = ledger
        self._output = output
        self._clock = asyncio.get_running_loop().time

    async def one_by_one(self, period_seconds: float, stop: asyncio.Event) -> None:
        """Send a user, await its end, and send the next one at the next tick, until told to stop.

        The ticks lie on a grid, so the pace does not drift. Those that pass meanwhile are nobody's:
        nothing is caught up.
        """
        start, number = self._clock(), 0
        for user in self._users:
            tick = start + number * period_seconds
            await self._until(tick, stop)
            if stop.is_set():
                return
            await self._send_alone(user, tick)
            passed = math.ceil((self._clock() - start) / period_seconds)
            number = max(number + 1, passed)

    async def at_rate(self, period_seconds: float, concurrency: int, stop: asyncio.Event) -> None:
        """Let a user be due at each tick, whatever the API does, until told to stop: open loop.

        Each tick uses up one of the count, so the schedule has an end that the API cannot delay. A
        tick that finds so many users on their way is dropped (k6's word); one to which this program
        comes more than a second late is, too, but counted apart: that is no fault of the API's.
        What a user takes is measured from its tick, not from when there was time for it.
        """
        start = self._clock()
        on_their_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count() if self._count is None else range(self._count):
                tick = start + number * period_seconds
                await self._until(tick, stop)
                if stop.is_set():
                    return
                if self._clock() - tick > LATEST_START_SECONDS:
                    self._ledger.late += 1
                elif len(on_their_way) >= concurrency:
                    self._ledger.dropped += 1
                else:
                    task = group.create_task(self._send_alone(next(self._users), tick))
                    on_their_way.add(task)
                    task.add_done_callback(on_their_way.discard)

    async def in_bulk(self, batch_size: int, concurrency: int, stop: asyncio.Event) -> None:
        """Send the users as fast as the API takes them, in batches if it knows what those are."""

        turn = asyncio.Lock()

        async def work() -> None:
            while not stop.is_set():
                if batch_size > 1 and self._api.takes_batches:
                    async with turn:  # between two large batches come answers, and the stop
                        await asyncio.sleep(0)
                    if stop.is_set():
                        return
                    if users := self._next(batch_size):
                        await self._send_batch(users)
                elif users := self._next(1):
                    await self._send_alone(users[0], self._clock())
                if not users:
                    return

        if batch_size > 1:  # the first user finds out whether there are batches
            await self._send_batch(self._next(1))
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())

    def _next(self, count: int) -> list[User]:
        return list(itertools.islice(self._users, count))

    async def _until(self, tick: float, stop: asyncio.Event) -> None:
        """Wait for the tick or the stop; one that is over lets others go on, at least."""
        await asyncio.sleep(0)
        if self._clock() < tick:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(tick):
                    await stop.wait()

    async def _send_alone(self, user: User, due_at: float) -> None:
        self._ledger.attempt([user.user_id], due_at)
        try:
            await self._send(user)
        finally:
            # Also of one given up: without it an API that answers nobody would look quick.
            self._ledger.latencies.add(self._clock() - due_at)

    async def _send_batch(self, users: Sequence[User]) -> None:
        """Send users by one call; those of whom it does not tell are then sent one by one."""
        started = self._clock()
        alone: list[User] = []
        told = [user.user_id for user in users]
        self._ledger.attempt(told, started)
        try:
            batch = await self._api.create_batch(users)
        finally:
            self._ledger.latencies.add(self._clock() - started)
        if batch.stored:
            outcome: Outcome = "created" if batch.perhaps_stored else "already there"
            self._settle(sorted(batch.stored), batch.answer._replace(outcome=outcome))
        if apart := batch.one_by_one | batch.stored:
            told = [user_id for user_id in told if user_id not in apart]
            alone = [user for user in users if user.user_id in batch.one_by_one]
        if told:
            self._settle(told, batch.answer)
        full: Answer | None = None
        for user in alone:
            if full:
                self._settle([user.user_id], full)
            else:
                answer = await self._send(user, perhaps_stored=batch.perhaps_stored)
                # There is no room for the others either, of whom none has a place already.
                refused = answer.status == 507 and answer.outcome == "rejected"
                full = answer if refused and batch.none_stored else None

    async def _send(self, user: User, *, perhaps_stored: bool = False) -> Answer:
        """Send a user, under another id if its own is somebody else's, and settle its account."""
        answer = await self._api.create(user, perhaps_stored=perhaps_stored)
        ids_drawn = 1
        while answer.outcome == "taken" and ids_drawn < MOST_IDS_A_USER:
            user, taken = self._source.renumbered(user), user
            self._ledger.renumber(taken.user_id, user.user_id)
            answer = await self._api.create(user)
            ids_drawn += 1
        if answer.outcome == "taken":  # an API that says so of every id wants none of our users
            reason = f"{ids_drawn} ids in a row were taken"
            answer = answer._replace(outcome="rejected", reason=reason)
        self._settle([user.user_id], answer)
        return answer

    def _settle(self, user_ids: Sequence[int], answer: Answer) -> None:
        self._ledger.settle(user_ids, answer.outcome)
        if answer.outcome == "rejected":
            self._ledger.errors[f"rejected a user with {answer.status}"] += len(user_ids)
        self._output.users(user_ids, answer)
