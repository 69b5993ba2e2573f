"""When users are sent (at an interval, at a rate or in bulk), and with how many ids at most."""

import asyncio
import itertools
import json
import math
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from client import BadResponse, Client, Outcome, Response, Result, new_request_id, now
from generator import User, Users
from ledger import Ledger

MOST_IDS_PER_USER = 5
LATEST_START_SECONDS = 1.0
Create = Callable[[User, bool], Awaitable[Result]]  # the bool: perhaps it is stored already
STOP_SECONDS = 0.5


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

    async def at_interval(self, interval_seconds: float) -> None:
        """Send one user after another, each at a multiple of the interval, so delays do not add up.

        A tick that passes while a user is still being sent is skipped, and not made up for later.
        """
        start, number = now(), 0
        for user in self._users:
            tick = start + number * interval_seconds
            if await self._stopped_before(tick):
                return
            await self._send(user, tick)
            number = max(number + 1, math.ceil((now() - start) / interval_seconds))

    async def at_rate(self, period_seconds: float, concurrency: int) -> None:
        """Start a user at each tick, also while others are still being sent (an open loop).

        A tick sends no user if `concurrency` users are being sent, or if this program is more than
        a second late. Such a tick also counts towards `count`: a slow API does not delay the end.
        """
        start, sending = now(), set[asyncio.Task[None]]()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count() if self.count is None else range(self.count):
                tick = start + number * period_seconds
                if await self._stopped_before(tick):
                    return
                if now() - tick > LATEST_START_SECONDS:
                    self.ledger.late += 1
                elif len(sending) >= concurrency:
                    self.ledger.dropped += 1
                else:
                    task = group.create_task(self._send(next(self._users), tick))
                    sending.add(task)
                    task.add_done_callback(sending.discard)

    async def in_bulk(self, batches: "Batches | None", batch_size: int, concurrency: int) -> None:
        """Send users as fast as the API takes them, in batches if it supports them."""
        turn = asyncio.Lock()

        async def work() -> None:
            while True:
                if in_batches := bool(batches and batches.known):
                    async with turn:  # a batch takes long to make: first run other tasks
                        await asyncio.sleep(0)
                users = list(itertools.islice(self._users, batch_size if in_batches else 1))
                if self.stop.is_set() or not users:
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
        """Wait for the tick or a stop, and let other tasks run; return whether to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(tick):
                await self.stop.wait()
        return self.stop.is_set()

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
        if result.outcome == "taken":  # all ids were taken: the API rejects the user
            reason = f"{MOST_IDS_PER_USER} ids in a row were taken"
            result = result._replace(outcome="rejected", detail=reason)
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
        ids = frozenset(user.user_id for user in users)
        request_id = new_request_id()

        async def post(perhaps_stored: bool) -> Result:
            started = now()
            response = await self._client.exchange("POST", "/users/batch", request_id, body)
            success = response.status < 300 and not response.get("error")
            existing, alone = read_batch(response, ids) if success else (frozenset[int](), ids)
            if response.status in (401, 403) and not perhaps_stored:
                alone = frozenset()
            elif not success and (response.status < 300 or response.status in (404, 405, 501)):
                self._stop_batches("takes no batches")
            outcome: Outcome = "created" if success else "rejected"
            seconds, detail = now() - started, response.get("detail")
            result = Result(outcome, response.status, seconds, detail, request_id)
            return result._replace(existing=existing, alone=alone, perhaps_stored=perhaps_stored)

        try:
            return await self._client.retry(post)
        except BadResponse as error:
            self._stop_batches(str(error))
            return Result("given up", alone=ids, perhaps_stored=True)

    def _stop_batches(self, reason: str) -> None:
        if self.known:
            self._client.say(f"The API {reason}: users are sent one by one")
        self.known = False


def read_batch(response: Response, ids: frozenset[int]) -> tuple[frozenset[int], frozenset[int]]:
    """The ids of users stored before, and of users to send alone: another user may have their id.

    Raises BadResponse if the numbers do not add up. An older API has no `conflicting`: then all of
    its `existing` are sent alone.
    """
    existing, conflicting = response.get("existing"), response.get("conflicting")
    if conflicting is None:
        existing, conflicting = [], existing
    try:
        same, other = frozenset(existing), frozenset(conflicting)
        new = ids - same - other
        fits = len(new) == response.get("created") == len(ids) - len(same) - len(other)
    except TypeError:
        fits = False
    if not fits:
        raise BadResponse("responded to a batch with numbers that do not add up")
    return same, other


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
