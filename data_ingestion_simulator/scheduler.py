"""When users are sent (at an interval, at a rate or in bulk), and with how many ids at most."""

import asyncio
import itertools
import json
import math
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from client import Client, Outcome, Response, Result, new_request_id, now
from generator import User, Users
from ledger import Ledger
from settings import Settings

MOST_IDS_PER_USER, MOST_STRANGE = 5, 3
MISFIT = "responded to a batch with numbers that do not add up"
LATEST_START_SECONDS, LAST_RESPONSES_SECONDS, STOP_SECONDS = 1.0, 30.0, 0.5
Ids = frozenset[int]
Create = Callable[[User, bool], Awaitable[Result]]  # the bool: perhaps it is stored already


@dataclass
class Scheduler:
    """Sends `count` users of `source` by `create` until `stop`, and accounts for them."""

    create: Create
    source: Users
    count: int | None
    ledger: Ledger
    report: Callable[[Sequence[User], Result], None]
    stop: asyncio.Event

    def __post_init__(self) -> None:
        self._users: Iterator[User] = itertools.islice(self.source, self.count)
        self._ends_at = math.inf

    async def run(self, settings: Settings, batches: "Batches | None") -> None:
        """Send users until the count, the duration or a stop; then wait for the last responses."""
        limit_seconds = settings.duration_seconds or math.inf
        self._ends_at = now() + limit_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds + LAST_RESPONSES_SECONDS):
                if settings.period_seconds:
                    rng = random.Random(settings.seed) if settings.arrivals == "poisson" else None  # noqa: S311
                    concurrency = settings.concurrency if settings.rate_per_second else None
                    await self.at_pace(settings.period_seconds, concurrency, rng)
                else:
                    await self.in_bulk(batches, settings.batch_size, settings.concurrency)

    async def at_pace(
        self, period_seconds: float, concurrency: int | None, rng: random.Random | None = None
    ) -> None:
        """Start a user at each tick, also while others are still being sent (an open loop).

        Ticks are a period apart; with `rng` on average (Poisson arrivals). If `concurrency` users
        are being sent, or this program is late, a tick only counts: a slow API does not delay the
        end. At an interval (no `concurrency`) only users count, and one is sent at a time.
        """
        start, periods, tasks, left = now(), 0.0, set[asyncio.Task[None]](), self.count or math.inf
        async with asyncio.TaskGroup() as group:
            while left and not await self._stopped_before(tick := start + periods * period_seconds):
                periods += rng.expovariate(1.0) if rng else 1.0
                late = now() - tick > max(LATEST_START_SECONDS, period_seconds)
                if not late and len(tasks) < (concurrency or 1):
                    task = group.create_task(self._send(next(self._users), tick))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                elif concurrency:
                    self.ledger.late += late
                    self.ledger.dropped += not late
                    self.report((), Result("given up"))  # prints the progress
                else:
                    continue
                left -= 1

    async def in_bulk(self, batches: "Batches | None", batch_size: int, concurrency: int) -> None:
        """Send users as fast as the API takes them, in batches if it supports them."""
        turn = asyncio.Lock()

        async def work() -> None:
            while True:
                if in_batches := bool(batches and batches.known):
                    async with turn:  # a batch takes long to make: first run other tasks
                        await asyncio.sleep(0)
                users = list(itertools.islice(self._users, batch_size if in_batches else 1))
                if self.stop.is_set() or not users or now() >= self._ends_at:
                    return
                if batches and in_batches:
                    await self._send_batch(users, batches)
                else:
                    await self._send(users[0], now())

        if batches:  # the first user shows whether the API supports batches
            await self._send_batch(list(itertools.islice(self._users, 1)), batches)
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())

    async def _stopped_before(self, tick: float) -> bool:
        """Wait for the tick, the end or a stop, and let other tasks run; return whether to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(tick, self._ends_at)):
                await self.stop.wait()
        return self.stop.is_set() or tick >= self._ends_at

    async def _send(self, user: User, due_at: float, perhaps_stored: bool = False) -> None:
        """Send a user, with another id if its own is taken."""
        self.ledger.attempt([user.user_id])
        try:
            result = await self.create(user, perhaps_stored)
            for _ in range(MOST_IDS_PER_USER - 1):
                if result.outcome == "taken":
                    user, taken = self.source.renumbered(user), user
                    self.ledger.renumber(taken.user_id, user.user_id)
                    result = await self.create(user, False)
        finally:  # also without a response: else a hanging API would look fast
            self.ledger.time(due_at, now())
        if result.outcome == "taken":
            taken_ids = f"{MOST_IDS_PER_USER} ids in a row were taken"
            result = result._replace(outcome="rejected", detail=taken_ids)
        self._settle([user], result)

    async def _send_batch(self, users: Sequence[User], batches: "Batches") -> None:
        started = now()
        self.ledger.attempt([user.user_id for user in users])
        try:
            result = await batches.create(users)
        finally:
            self.ledger.time(started, now())
        apart = result.existing | result.alone
        self._settle([user for user in users if user.user_id not in apart], result)
        outcome: Outcome = "created" if result.perhaps_stored else "already there"
        existing = [user for user in users if user.user_id in result.existing]
        self._settle(existing, result._replace(outcome=outcome))
        for user in users:
            if user.user_id in result.alone:
                await self._send(user, now(), result.perhaps_stored)

    def _settle(self, users: Sequence[User], result: Result) -> None:
        if users:
            self.ledger.settle([user.user_id for user in users], result.outcome, result.status)
            self.report(users, result)
            if self.ledger.settled["given up"] >= MOST_STRANGE and not self.ledger.stored():
                self.stop.set()  # it is another API: do not ask it for ever


class Batches:
    """Creates many users by one request, as long as the API is `known` to take batches."""

    def __init__(self, client: Client) -> None:
        self._client, self.known = client, True

    async def create(self, users: Sequence[User]) -> Result:
        """Create the users; retry until it is known which are stored and which must be sent alone.

        The outcome is for all users except the `existing` ones and those to be sent `alone`.
        """
        items = {user_id: {"name": name, "age": age} for user_id, name, age in users}
        body = json.dumps(items, ensure_ascii=False).encode()
        ids = Ids(items)
        request_id = new_request_id()

        async def post(perhaps_stored: bool) -> Result:
            started = now()
            response = await self._client.ask("POST", "/users/batch", request_id, body)
            success = response.status < 300 and not response.get("error")
            read = read_batch(response, ids) if success else None
            existing, alone = read or (Ids(), ids)
            reason = ""
            if response.status in (401, 403) and not perhaps_stored:
                alone = Ids()
            elif response.status in (404, 405, 501) or (response.status < 300 and not success):
                reason = "takes no batches"
            elif success and not read:  # not repeated: another API would store something again
                reason, perhaps_stored = MISFIT, True
                self._client.errors[reason] += 1
            if reason and self.known:
                self.known = False
                self._client.say(f"The API {reason}: users are sent one by one")
            outcome: Outcome = "created" if success else "rejected"
            seconds, detail = now() - started, response.get("detail")
            result = Result(outcome, response.status, seconds, detail, request_id)
            return result._replace(existing=existing, alone=alone, perhaps_stored=perhaps_stored)

        return await self._client.retry(post)


def read_batch(response: Response, ids: Ids) -> tuple[Ids, Ids] | None:
    """The ids of users stored before, and of users to send alone: another user may have their id.

    None if the numbers do not add up. An older API has no `conflicting`: then all of its `existing`
    are sent alone.
    """
    existing, conflicting = response.get("existing"), response.get("conflicting")
    if conflicting is None:
        existing, conflicting = [], existing
    try:
        same, other = Ids(existing), Ids(conflicting)
        new = ids - same - other
    except TypeError:
        return None
    fits = len(new) == response.get("created") == len(ids) - len(same) - len(other)
    return (same, other) if fits else None


def stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that is set by SIGINT, by SIGTERM and, on Windows, by Ctrl-Break."""
    stop = asyncio.Event()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):  # loop.add_signal_handler does not exist on Windows
            signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


async def run_until_stopped(work: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Run the work to its end, or until half a second after a stop."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({task}, timeout=STOP_SECONDS)
    stopping.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
