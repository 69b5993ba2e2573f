"""A fault inside the API: its store reads late, or not at all; the code of the API is not changed.

`World.api(app="learn.inside:app", FAULT_INSIDE="slow 0.5")` starts it: half of the reads of one
user are slow; `error 0.5`: half of them raise an error, and get 500. The metrics and the log show
it, and /health does not.
"""

import asyncio
import importlib
import os
import random
from typing import Any

SLOW_SECONDS = 0.3

app: Any = importlib.import_module("main").app
kind, _, share = os.environ["FAULT_INSIDE"].partition(" ")
chance = random.Random(os.environ.get("FAULT_SEED"))
reasons = os.environ.get("FAULT_REASONS", "the disk is full").split(",")


class SickStore:
    """The API's store, with a disturbed `get`."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        """Return what the API's store has."""
        return getattr(self._store, name)

    async def get(self, user_id: int) -> Any:
        """Return a user, perhaps late. Raises OSError; the reason depends on the id."""
        if chance.random() < float(share):
            if kind == "error":
                raise OSError(reasons[user_id % len(reasons)])
            await asyncio.sleep(SLOW_SECONDS)
        return await self._store.get(user_id)


app.state.store = SickStore(app.state.store)
