"""Waits exactly 0.2, 0.4, 0.8 … seconds. All clients failed at the same moment, so they try again
together.

Seen: … requests arrived at the same moment
"""

import asyncio


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
                await asyncio.sleep(pause_seconds)
                try:
                    return await self.send()
                except ConnectionError:
                    pause_seconds = min(pause_seconds * 2, 4)
