"""A run of the scheduler against a fake API, on a virtual clock."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from fake_api import FakeApi
from virtual_clock import virtual_loop

from client import Client
from connection import Connection
from generator import User, Users
from ledger import Ledger, RetryBudget
from report import Report
from scheduler import Scheduler
from settings import read_settings

OTHER_USER = {"name": "Other User", "age": 0}


class Run:
    """So many users, to a fake API on a network in memory; `period_seconds`: None in bulk."""

    def __init__(
        self,
        count: int | None,
        seed: int = 1,
        period_seconds: float | None = None,
        **options: Any,
    ) -> None:
        self.api = virtual_loop().api = FakeApi(**options)
        self.ledger = Ledger()
        self.stop = asyncio.Event()
        self.said: list[str] = []
        exchange = Connection("http://memory", self.ledger).exchange
        budget = RetryBudget(exchange, period_seconds)
        client = Client(budget.exchange, budget.wait_seconds, self.said.append, self.ledger.errors)
        users, report = Users(seed), quiet(self.ledger).users
        self.scheduler = Scheduler(client, users, count, self.ledger, report, self.stop)

    def in_bulk(self, batch_size: int, concurrency: int = 4) -> Coroutine[Any, Any, None]:
        return self.scheduler.in_bulk(batch_size, concurrency)

    def settled(self) -> list[int]:
        """How many were created, already there, rejected and given up; asserts that they add up."""
        assert self.ledger.balances()
        return list(self.ledger.settled.values())


def quiet(ledger: Ledger) -> Report:
    """A report that prints only the summary."""
    return Report(read_settings({}, ["--output", "quiet", "--count", "1"]), ledger)


def users(count: int) -> list[User]:
    drawn = Users(1)
    return [next(drawn) for _ in range(count)]


def as_stored(*users: User) -> dict[int, dict[str, Any]]:
    return {user.user_id: {"name": user.name, "age": user.age} for user in users}
