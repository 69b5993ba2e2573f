"""The client of one cart service. Thirty of them run at the same time, each with its own object."""

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
                    pause_seconds = min(pause_seconds * 2, 4)
