"""Waits a short time before each retry, always the same. In a long outage this is a storm.

Seen: one call was tried … times
"""

import asyncio
import random


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
                await asyncio.sleep(pause_seconds * random.uniform(0.5, 1))
                try:
                    return await self.send()
                except ConnectionError:
                    pause_seconds = 0.2
