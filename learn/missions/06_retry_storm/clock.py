"""Runs thirty clients of the learner on a simulated clock.

`clock.py FILE SEED OUTAGE_SECONDS RESULT` writes JSON into the file RESULT: when each request was
sent, how often each call was tried, and when it succeeded.
"""

import asyncio
import json
import os
import pathlib
import random
import runpy
import selectors
import sys
import time

CLIENTS, PERIOD_SECONDS, RESPONSE_SECONDS, END_SECONDS = 30, 0.5, 0.4, 80.0
OUTAGE_BEGINS, REFUSED_SECONDS = 5.2, 0.02
MOST_REQUESTS = 60_000  # then it is a storm, and we have seen enough


class JumpingSelector(selectors.SelectSelector):
    """Puts the clock forward when all tasks wait."""

    now = 0.0

    def select(self, timeout=None):
        """Return at once, as late as asked for."""
        self.now += timeout or 0.0
        return super().select(0)


class Api:
    """An API that is away for some seconds; it breaks the requests that it has at that moment."""

    def __init__(self, loop, outage_seconds):
        self.loop, self.ends = loop, OUTAGE_BEGINS + outage_seconds
        self.sent, self.tries, self.done, self.errors = [], {}, {}, []

    def is_away(self):
        """Return whether the outage is now."""
        return OUTAGE_BEGINS <= self.loop.time() < self.ends

    async def send(self, call):
        """Answer one request of a call. Raises ConnectionError during the outage."""
        now = self.loop.time()
        self.sent.append(round(now, 4))
        self.tries[call] = self.tries.get(call, 0) + 1
        if len(self.sent) > MOST_REQUESTS:
            self.loop.stop()
        if self.is_away():
            await asyncio.sleep(REFUSED_SECONDS)
            raise ConnectionRefusedError
        breaks = OUTAGE_BEGINS - now if self.ends > OUTAGE_BEGINS > now else RESPONSE_SECONDS
        await asyncio.sleep(min(breaks, RESPONSE_SECONDS))
        if self.is_away():
            raise ConnectionResetError
        return 201


async def serve_customers(api, client_class, number):
    """Run one cart service: a call every half second, whatever happened to the earlier ones."""
    current, calls = {}, set()
    client = client_class(lambda: api.send(current[asyncio.current_task()]))

    async def one(call, began):
        current[asyncio.current_task()] = call
        try:
            await client.create()
            api.done[call] = [began, api.loop.time()]
        except Exception as error:
            api.errors.append(repr(error))

    await asyncio.sleep(random.random() * PERIOD_SECONDS)
    for count in range(int(END_SECONDS / PERIOD_SECONDS)):
        name = f"{number}.{count}"
        calls.add(asyncio.create_task(one(name, api.loop.time())))
        await asyncio.sleep(PERIOD_SECONDS)


def refuse_to_sleep(_seconds):
    """Take the place of time.sleep. Raises RuntimeError."""
    raise RuntimeError("time.sleep stops all thirty clients and the clock: use asyncio.sleep")


def main(file, seed, outage_seconds, result):
    """Run the clients, and print what the API saw."""
    random.seed(int(seed))
    time.sleep = refuse_to_sleep
    selector = JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now
    asyncio.set_event_loop(loop)
    api = Api(loop, float(outage_seconds))
    client_class = runpy.run_path(file)["Client"]
    for number in range(CLIENTS):
        loop.create_task(serve_customers(api, client_class, number))
    loop.call_later(END_SECONDS, loop.stop)
    loop.set_exception_handler(lambda *_: None)  # of the tasks that still wait at the end
    loop.run_forever()
    found = {"sent": api.sent, "tries": api.tries, "done": api.done, "errors": api.errors[:3]}
    pathlib.Path(result).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
