"""To its clients each store behaves as one dict that does one thing at a time."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest
from conftest import Terminal
from served import Api, Caller, Postgres, Value

from history import Operation, operate, violations

OPERATIONS = 100_000 if "LAB_LONG" in os.environ else 10_000
CLIENTS = 16
USERS = 16
MIN_OPERATIONS_PER_SECOND = 100  # a store at rest shows nothing
VERBS = ("get", "create", "update", "delete")
WEIGHTS = (4, 2, 2, 2)


def run_clients(ports: list[int], seed: int) -> list[Operation]:
    """Return what 16 clients asked for, and were told, on the same few users."""
    history: list[Operation] = []

    def work(number: int) -> None:
        dice = random.Random(seed + number)
        callers = [Caller(port) for port in ports]
        for turn in range(OPERATIONS // CLIENTS):
            verb = dice.choices(VERBS, WEIGHTS)[0]
            value: Value = (f"c{number}-{turn}", dice.randint(0, 150))  # each name is written once
            user_id = dice.randrange(USERS)
            if verb == "delete":
                value = None
            history.append(operate(dice.choice(callers), verb, user_id, value))
        for caller in callers:
            caller.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return history


@pytest.mark.parametrize("store", ["memory", "sqlite", "postgresql"])
def test_each_store_is_linearizable(
    terminal: Callable[..., Terminal],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
) -> None:
    """What 16 clients are told about the same few users has an order in which a dict would say it.

    Over PostgreSQL the clients speak to two API processes by turns.
    """
    url = None
    if store == "sqlite":
        url = f"sqlite:///{tmp_path / 'users.db'}"
    elif store == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url
    apis = [Api(terminal, url) for _ in range(2 if store == "postgresql" else 1)]
    for api in apis:
        api.start()
    seed = random.randrange(2**32)
    started = time.monotonic()
    history = run_clients([api.port for api in apis], seed)
    seconds = time.monotonic() - started
    unknown = sum(operation.status == 0 for operation in history)
    found = violations(history)
    print(
        f"{store}: seed {seed}, {len(history)} operations in {seconds:.1f} s, {unknown} unknown,"
        f" checked in {time.monotonic() - started - seconds:.1f} s"
    )

    assert found == []
    assert unknown <= len(history) / 1000, "void: too much is unknown"
    assert len(history) == OPERATIONS
    assert len(history) / seconds >= MIN_OPERATIONS_PER_SECOND, "void: too little traffic"
    for api in apis:
        caller = Caller(api.port)
        listing, stats = caller.call("GET", "/users/"), caller.call("GET", "/stats/ages")
        caller.close()
        assert listing is not None
        assert stats is not None
        ages = Counter(str(user["age"]) for user in listing.body.values())
        assert stats.body == {"total": len(listing.body), "ages": dict(ages)}


# ------------------------------------------------------------------------------- the checker itself

ALICE, BOB, CAROL = ("Alice", 1), ("Bob", 2), ("Carol", 3)


def made(verb: str, value: Value, status: int, called: float, returned: float) -> Operation:
    return Operation(1, verb, value, status, called, returned)


@pytest.mark.parametrize(
    "history",
    [
        # A read that began after Bob had been acknowledged still finds Alice.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", BOB, 200, 2, 3),
            made("get", ALICE, 200, 4, 5),
        ],
        # Two updates were acknowledged, one after the other; then the earlier one is back.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", BOB, 200, 2, 3),
            made("update", CAROL, 200, 4, 5),
            made("get", BOB, 200, 6, 7),
        ],
        # Both of two creates at once are told that they won.
        [made("create", ALICE, 201, 0, 5), made("create", BOB, 201, 1, 4)],
        # Two reads during one update see it, and then no longer see it.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", BOB, 200, 2, 9),
            made("get", BOB, 200, 3, 4),
            made("get", ALICE, 200, 5, 6),
        ],
        # A user who was deleted is there again.
        [
            made("create", ALICE, 201, 0, 1),
            made("delete", None, 204, 2, 3),
            made("get", ALICE, 200, 4, 5),
        ],
        # A write of unknown outcome is seen before it was asked for.
        [made("get", BOB, 200, 0, 1), made("create", BOB, 0, 2, inf)],
        # One delete of unknown outcome cannot explain two disappearances.
        [
            made("create", ALICE, 201, 0, 1),
            made("delete", None, 0, 2, inf),
            made("create", BOB, 201, 3, 4),
            made("create", CAROL, 201, 5, 6),
        ],
    ],
)
def test_the_checker_finds_what_no_dict_would_say(history: list[Operation]) -> None:
    """A stale read, a lost update, two winners of a create and their like are found."""
    assert len(violations(history)) == 1


@pytest.mark.parametrize(
    "history",
    [
        [made("create", ALICE, 201, 0, 5), made("create", BOB, 409, 1, 4)],
        [made("create", ALICE, 201, 0, 5), made("get", None, 404, 1, 4)],
        [made("create", ALICE, 201, 0, 5), made("get", ALICE, 200, 1, 4)],
        # An unknown outcome: it has happened late, or never.
        [
            made("create", ALICE, 0, 0, inf),
            made("get", None, 404, 1, 2),
            made("get", ALICE, 200, 3, 4),
        ],
        [made("create", ALICE, 0, 0, inf), made("create", BOB, 201, 1, 2)],
        # Three at once have just one order: delete, create, update.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", CAROL, 200, 2, 9),
            made("create", BOB, 201, 2, 9),
            made("delete", None, 204, 2, 9),
            made("get", CAROL, 200, 10, 11),
        ],
    ],
)
def test_the_checker_accepts_what_a_dict_could_say(history: list[Operation]) -> None:
    """Operations at the same time may have happened in any order, and unknown ones not at all."""
    assert violations(history) == []


def dict_history(seed: int, bug: str) -> list[Operation]:
    """Return what clients are told by a dict in turns, with a bug at one moment of it."""
    dice = random.Random(seed)
    value: Value = None
    old: Value = None
    looks = 0
    history = []
    for turn in range(400):
        verb = "get" if looks else dice.choice(VERBS)
        looks = max(0, looks - 1)
        written: Value = None if verb == "delete" else (f"n{turn}", dice.randint(0, 150))
        there = value is not None
        planted = turn >= 200 and bool(bug)
        answered, status = written, {"create": 409, "get": 200}.get(verb, 404)
        if verb == "get":
            answered, status = value, 200 if there else 404
            if planted and bug == "stale read" and old not in (value, None):
                answered, status, bug = old, 200, ""
        elif there != (verb == "create"):
            status = {"create": 201, "update": 200, "delete": 204}[verb]
            if planted and bug == "lost update" and verb == "update":
                bug, looks = "", 2  # who does not look cannot know
            else:
                old, value = value, written
        elif planted and bug == "two winners" and verb == "create":
            status, old, value, bug = 201, value, written, ""
        # Some were called before the one before them returned.
        history.append(Operation(1, verb, answered, status, turn - dice.random(), turn + 0.01))
    assert not bug
    return history


@pytest.mark.parametrize("seed", range(10))
def test_the_checker_finds_a_planted_bug_in_a_long_history(seed: int) -> None:
    """One wrong answer among four hundred right ones, most of which overlap, is found."""
    assert violations(dict_history(seed, "")) == []
    for bug in ("stale read", "lost update", "two winners"):
        assert len(violations(dict_history(seed, bug))) == 1, bug
