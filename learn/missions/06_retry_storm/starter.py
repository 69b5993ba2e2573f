"""The client of one cart service. Thirty of them run at the same time, each with its own object."""

import asyncio


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
                await asyncio.sleep(0)
