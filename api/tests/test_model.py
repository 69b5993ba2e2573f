"""Each store beside a plain dict, through long random programs that Hypothesis makes up.

Hypothesis picks verbs and arguments; the store and the model do the same, and must answer the same.
A program that finds a difference is shortened to the few lines that show it.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Store, User, records_of, rows_of, store_at
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

Snapshot = AsyncGenerator[dict[int, Record], None]

STEPS = 100_000 if os.environ.get("LAB_LONG") else 10_000
STEPS_OF_A_PROGRAM = 100
STEPS_UNTIL_REOPEN = 10  # at least: to connect takes longer than all else
CHUNK_USERS = 3  # so that a snapshot of a few users has several chunks, and writes between them

Model = dict[int, tuple[str, int]]

# Few ids, so that verbs meet; both edges among them.
user_ids = st.integers(0, 12) | st.sampled_from([MAX_USER_ID - 1, MAX_USER_ID])
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
names = st.sampled_from(["Al", "Bo", "'; --", "李小龍", "𝔘" * 100]) | texts
ages = st.integers(0, MAX_AGE) | st.sampled_from([0, MAX_AGE])
users = st.tuples(user_ids, names, ages)
batches = st.lists(users, max_size=8, unique_by=lambda user: user[0])
writes = st.tuples(st.sampled_from(["create", "update", "delete"]), users)


def write(model: Model, verb: str, user: User) -> object:
    """Do to the model what a store shall do; return the error that it shall raise, or None."""
    user_id, name, age = user
    if verb == "create" and user_id in model:
        return UserExists
    if verb != "create" and user_id not in model:
        return UserNotFound
    if verb == "delete":
        del model[user_id]
    else:
        model[user_id] = (name, age)
    return None


async def outcome(call: Awaitable[Any]) -> Any:
    """Return what a call returns, or the kind of the refusal that it raises."""
    try:
        return await call
    except (UserExists, UserNotFound) as refusal:
        return type(refusal)


def call(store: Store, verb: str, user: User) -> Coroutine[Any, Any, None]:
    user_id, name, age = user
    if verb == "delete":
        return store.delete(user_id)
    return (store.create if verb == "create" else store.update)(user_id, name, age)


class StoreBesideModel(RuleBasedStateMachine):
    """A program: a fresh store and an empty model, in an event loop of their own."""

    new_database: Callable[[], str]  # returns the address of an empty one, or "" for memory
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.url = type(self).new_database()
        self.loop = asyncio.Runner()
        self.model: Model = {}
        self.store = self.loop.run(self._opened())
        self.steps_since_opened = 0
        self.snapshot: Snapshot | None = None
        self.seen: list[User] = []
        self.expected: Model = {}

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
        """Asked for at once they go into one transaction, in the order they were asked for."""

        async def together() -> list[Any]:
            return await asyncio.gather(*(outcome(call(self.store, *one)) for one in many))

        expected = [write(self.model, *one) for one in many]
        assert self.loop.run(together()) == expected

    @rule(batch=batches)
    def create_many(self, batch: list[User]) -> None:
        taken = [(user_id, self.model[user_id] == (n, a)) for user_id, n, a in batch
                 if user_id in self.model]  # fmt: skip
        existing = [user_id for user_id, equal in taken if equal]
        conflicting = [user_id for user_id, equal in taken if not equal]
        result = self.loop.run(self.store.create_many(records_of(batch)))
        assert result == BatchResult(len(batch) - len(taken), existing, conflicting)
        self.model = {user_id: (name, age) for user_id, name, age in batch} | self.model

    @rule(user_id=user_ids)
    def get(self, user_id: int) -> None:
        found = self.loop.run(outcome(self.store.get(user_id)))
        assert found == (Record(*self.model[user_id]) if user_id in self.model else UserNotFound)

    @rule(after=st.just(-1) | user_ids, limit=st.integers(1, 6))
    def page(self, after: int, limit: int) -> None:
        above = sorted((i, *user) for i, user in self.model.items() if i > after)
        assert rows_of(self.loop.run(self.store.page(after, limit))) == above[:limit]

    @rule()
    def age_counts(self) -> None:
        expected = dict(sorted(Counter(age for _, age in self.model.values()).items()))
        counts = self.loop.run(self.store.age_counts())
        assert list(counts.items()) == list(expected.items())

    @precondition(lambda self: self.snapshot is None)
    @rule()
    def begin_snapshot(self) -> None:
        self.snapshot = self.store.snapshot()
        self.seen = self.loop.run(self._next_chunk(self.snapshot))
        self.expected = dict(self.model)

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def finish_snapshot(self) -> None:
        """Whatever was written since it began, it shows the users as they were then."""
        assert self.snapshot is not None
        while chunk := self.loop.run(self._next_chunk(self.snapshot)):
            self.seen += chunk
        self.snapshot = None
        assert sorted(self.seen) == sorted((i, *user) for i, user in self.expected.items())

    @staticmethod
    async def _next_chunk(snapshot: Snapshot) -> list[User]:
        return rows_of(await anext(snapshot, {}))

    @precondition(lambda self: self.store.durable and self.steps_since_opened > STEPS_UNTIL_REOPEN)
    @rule()
    def reopen(self) -> None:
        """Another store on the same database finds everything that this one acknowledged."""
        self._close()
        self.store = self.loop.run(self._opened())
        self.steps_since_opened = 0

    def _close(self) -> None:
        if self.snapshot is not None:
            self.loop.run(self._closed(self.snapshot))
            self.snapshot = None
        self.store.close()

    @staticmethod
    async def _closed(snapshot: Snapshot) -> None:
        await snapshot.aclose()

    def teardown(self) -> None:
        found = {i: (n, a) for i, n, a in rows_of(self.loop.run(self.store.page(-1, 1_000)))}
        self._close()
        self.loop.close()
        assert found == self.model


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def machine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> type[StoreBesideModel]:
    """Return the machine over a store of each kind."""
    # This is not about time, and a busy machine may stand still for longer than the API waits.
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 30)
    monkeypatch.setattr(engines, "TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(crud, "SNAPSHOT_CHUNK_USERS", CHUNK_USERS)
    programs = count()

    class Machine(StoreBesideModel):
        @staticmethod
        def new_database() -> str:
            if request.param == "postgresql":
                url: str = request.getfixturevalue("postgresql_url")
                with psycopg.connect(url) as connection:
                    connection.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")
                return url
            return f"sqlite:///{tmp_path}/{next(programs)}.db" if request.param == "sqlite" else ""

    return Machine


def test_a_store_is_a_dict(machine: type[StoreBesideModel], request: pytest.FixtureRequest) -> None:
    """Through 10,000 steps (100,000 with `lab.py test --long`) store and model answer alike."""
    first_seed = random.randrange(2**32)
    plan = settings(
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
        run_state_machine_as_test(machine, settings=plan)
        rounds += 1
    print(f"{request.node.name}: {machine.steps} steps, seeds from {first_seed}, {rounds} rounds")

    assert machine.steps >= STEPS
