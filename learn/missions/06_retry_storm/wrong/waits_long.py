"""Waits a long random time before the only kind of retry. After a short outage the customers
wait for nothing.

Seen: after an outage of 2 s, a call waited more than 8 s
"""

import asyncio
import random


class Client:
    """Creates users; `send()` sends one request, and raises ConnectionError during the outage."""

    def __init__(self, send):
        self.send = send

    async def create(self):
        """Create one user; called twice a second, also while earlier calls still wait."""
        while True:
            try:
                return await self.send()
            except ConnectionError:
                await asyncio.sleep(random.uniform(15, 29))
