"""Waits with time.sleep. This stops all tasks of the process, not only the one that waits.

Seen: a call ended with RuntimeError
"""

import asyncio
import random
import time


class Client:
    """Creates users; `send()` sends one request, and raises ConnectionError during the outage."""

    def __init__(self, send):
        self.send = send
        self.turn = asyncio.Lock()  # the budget: one of the waiting calls tries again

    async def create(self):
        """Create one user; called twice a second, also while earlier calls still wait."""
        try:
            return await self.send()
        except ConnectionError:
            pass
        async with self.turn:
            pause_seconds = 0.2
            while True:
                time.sleep(pause_seconds * random.uniform(0.5, 1))  # noqa: ASYNC251
                try:
                    return await self.send()
                except ConnectionError:
                    pause_seconds = min(pause_seconds * 2, 4)
