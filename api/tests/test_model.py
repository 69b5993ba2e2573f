"""Each store compared with a plain dict, in long random programs that Hypothesis generates.

Hypothesis chooses verbs and arguments; the store and the model execute them, and must return the
same. Hypothesis shortens a program that finds a difference to the few lines that show it.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import Store, drop_tables, store_at
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import crud
import database
import engines
from crud import MAX_AGE, MAX_USER_ID, BatchResult, Record, UserExists, UserNotFound

STEPS = 100_000 if os.environ.get("LAB_LONG") else 3_000
STEPS_OF_A_PROGRAM = 100
STEPS_UNTIL_REOPEN = 10  # at least: a connection takes longer than everything else
CHUNK_USERS = 3  # so that a snapshot of a few users has several chunks, and writes between them

Users = dict[int, Record]
User = tuple[int, Record]

# Few ids, so that verbs often find the same user; both limits are among them.
user_ids = st.integers(0, 12) | st.sampled_from([MAX_USER_ID - 1, MAX_USER_ID])
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
names = st.sampled_from(["Al", "Bo", "'; --", "李小龍", "𝔘" * 100]) | texts
ages = st.integers(0, MAX_AGE) | st.sampled_from([0, MAX_AGE])
records = st.builds(Record, names, ages)
batches = st.dictionaries(user_ids, records, max_size=8)
writes = st.tuples(st.sampled_from(["create", "update", "delete"]), st.tuples(user_ids, records))


def write(model: Users, verb: str, user: User) -> object:
    """Change the model as a store should; return the type of the error that it should raise."""
    user_id, record = user
    if verb == "create" and user_id in model:
        return UserExists
    if verb != "create" and user_id not in model:
        return UserNotFound
    if verb == "delete":
        del model[user_id]
    else:
        model[user_id] = record
    return None


async def outcome(call: Awaitable[Any]) -> Any:
    """Return what a call returns, or the type of the error that it raises."""
    try:
        return await call
    except (UserExists, UserNotFound) as error:
        return type(error)


def call(store: Store, verb: str, user: User) -> Coroutine[Any, Any, None]:
    user_id, record = user
    if verb == "delete":
        return store.delete(user_id)
    return (store.create if verb == "create" else store.update)(user_id, record.name, record.age)


class StoreAndModel(RuleBasedStateMachine):
    """A program: a new store and an empty model, with their own event loop."""

    new_database: Callable[[], str]  # returns the address of an empty one, or "" for memory
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.url = type(self).new_database()
        self.loop = asyncio.Runner()
        self.model: Users = {}
        self.store = self.loop.run(self._opened())
        self.steps_since_opened = 0
        self.snapshot: AsyncGenerator[Users, None] | None = None
        self.seen: Users = {}
        self.expected: Users = {}

    async def _opened(self) -> Store:
        return store_at(self.url, 1_000)

    @invariant()
    def count_the_step(self) -> None:
        type(self).steps += 1
        self.steps_since_opened += 1

    @rule(verb_and_user=writes)
    def write(self, verb_and_user: tuple[str, User]) -> None:
        expected = write(self.model, *verb_and_user)
        assert self.loop.run(outcome(call(self.store, *verb_and_user))) == expected

    @rule(many=st.lists(writes, min_size=2, max_size=8))
    def write_at_once(self, many: list[tuple[str, User]]) -> None:
        """Writes at the same time share a transaction, in their order."""

        async def together() -> list[Any]:
            return await asyncio.gather(*(outcome(call(self.store, *one)) for one in many))

        expected = [write(self.model, *one) for one in many]
        assert self.loop.run(together()) == expected

    @rule(batch=batches)
    def create_many(self, batch: Users) -> None:
        taken = [user_id for user_id in batch if user_id in self.model]
        existing = [user_id for user_id in taken if self.model[user_id] == batch[user_id]]
        conflicting = [user_id for user_id in taken if self.model[user_id] != batch[user_id]]
        result = self.loop.run(self.store.create_many(batch))
        assert result == BatchResult(len(batch) - len(taken), existing, conflicting)
        self.model = batch | self.model

    @rule(user_id=user_ids)
    def get(self, user_id: int) -> None:
        found = self.loop.run(outcome(self.store.get(user_id)))
        assert found == self.model.get(user_id, UserNotFound)

    @rule(after=st.just(-1) | user_ids, limit=st.integers(1, 6))
    def page(self, after: int, limit: int) -> None:
        following = [(i, self.model[i]) for i in sorted(self.model) if i > after]
        page = self.loop.run(self.store.page(after, limit))
        assert list(page.items()) == following[:limit]

    @rule()
    def age_counts(self) -> None:
        expected = dict(sorted(Counter(user.age for user in self.model.values()).items()))
        counts = self.loop.run(self.store.age_counts())
        assert list(counts.items()) == list(expected.items())

    @precondition(lambda self: self.snapshot is None)
    @rule()
    def begin_snapshot(self) -> None:
        self.snapshot = self.store.snapshot()
        self.seen = self.loop.run(self._next_chunk())
        self.expected = dict(self.model)

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def finish_snapshot(self) -> None:
        """It shows the users as they were when it began, whatever was written since."""
        while chunk := self.loop.run(self._next_chunk()):
            self.seen |= chunk
        self.snapshot = None
        assert self.seen == self.expected

    async def _next_chunk(self) -> Users:
        assert self.snapshot is not None
        return await anext(self.snapshot, {})

    @precondition(lambda self: self.store.durable and self.steps_since_opened > STEPS_UNTIL_REOPEN)
    @rule()
    def reopen(self) -> None:
        """Another store on the same database finds everything that this one has acknowledged."""
        self._close()
        self.store = self.loop.run(self._opened())
        self.steps_since_opened = 0

    def _close(self) -> None:
        self.loop.run(self._close_snapshot())
        self.store.close()

    async def _close_snapshot(self) -> None:
        if self.snapshot is not None:
            await self.snapshot.aclose()
            self.snapshot = None

    def teardown(self) -> None:
        found = self.loop.run(self.store.page(-1, 1_000))
        self._close()
        self.loop.close()
        assert found == self.model


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def machine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> type[StoreAndModel]:
    """Return the machine for a store of each kind."""
    # This is not about time, and a busy machine may pause for longer than the API waits.
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 30)
    monkeypatch.setattr(engines, "TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(crud, "SNAPSHOT_CHUNK_USERS", CHUNK_USERS)
    programs = count()

    class Machine(StoreAndModel):
        @staticmethod
        def new_database() -> str:
            if request.param == "postgresql":
                url: str = request.getfixturevalue("postgresql_server")
                drop_tables(url)
                return url
            return f"sqlite:///{tmp_path}/{next(programs)}.db" if request.param == "sqlite" else ""

    return Machine


def test_a_store_behaves_like_a_dict(
    machine: type[StoreAndModel], request: pytest.FixtureRequest
) -> None:
    """Store and model return the same for 3,000 steps (100,000 with `lab.py test --long`)."""
    first_seed = random.randrange(2**32)
    limits = settings(
        max_examples=STEPS // STEPS_OF_A_PROGRAM // 4,
        stateful_step_count=STEPS_OF_A_PROGRAM,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    rounds = 0
    while machine.steps < STEPS:
        seed(first_seed + rounds)(machine)
        run_state_machine_as_test(machine, settings=limits)
        rounds += 1
    print(f"{request.node.name}: {machine.steps} steps, seeds from {first_seed}, {rounds} rounds")

    assert machine.steps >= STEPS
