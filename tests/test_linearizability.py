"""Each store behaves like one dict that does one operation at a time."""

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
MIN_OPERATIONS_PER_SECOND = 100  # an idle store proves nothing
VERBS = ("get", "create", "update", "delete")
WEIGHTS = (4, 2, 2, 2)


def run_clients(ports: list[int], seed: int) -> list[Operation]:
    """Return the operations of 16 clients on the same few users, with their results."""
    history: list[Operation] = []

    def work(number: int) -> None:
        dice = random.Random(seed + number)
        callers = [Caller(port) for port in ports]
        for turn in range(OPERATIONS // CLIENTS):
            verb = dice.choices(VERBS, WEIGHTS)[0]
            value: Value = (f"c{number}-{turn}", dice.randint(0, 150))  # each name is unique
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
    """The results of 16 clients on the same few users have an order in which a dict gives them.

    With PostgreSQL the clients use two API processes in turn.
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
    assert unknown <= len(history) / 1000, "void: too many unknown outcomes"
    assert len(history) == OPERATIONS
    assert len(history) / seconds >= MIN_OPERATIONS_PER_SECOND, "void: too little traffic"
    for api in apis:
        check_counts(api.port)


def check_counts(port: int) -> None:
    """Assert that the age counts are those of the listing."""
    caller = Caller(port)
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
        # A read that began after the update to Bob was acknowledged still finds Alice.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", BOB, 200, 2, 3),
            made("get", ALICE, 200, 4, 5),
        ],
        # Two updates were acknowledged, one after the other; then a read finds the earlier one.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", BOB, 200, 2, 3),
            made("update", CAROL, 200, 4, 5),
            made("get", BOB, 200, 6, 7),
        ],
        # Two creates at the same time both succeed.
        [made("create", ALICE, 201, 0, 5), made("create", BOB, 201, 1, 4)],
        # During one update, a read finds the new value, and a later read the old one.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", BOB, 200, 2, 9),
            made("get", BOB, 200, 3, 4),
            made("get", ALICE, 200, 5, 6),
        ],
        # A deleted user exists again.
        [
            made("create", ALICE, 201, 0, 1),
            made("delete", None, 204, 2, 3),
            made("get", ALICE, 200, 4, 5),
        ],
        # A write of unknown outcome is visible before it was requested.
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
def test_the_checker_finds_impossible_histories(history: list[Operation]) -> None:
    """It finds a stale read, a lost update, two successful creates, and similar errors."""
    assert len(violations(history)) == 1


@pytest.mark.parametrize(
    "history",
    [
        [made("create", ALICE, 201, 0, 5), made("create", BOB, 409, 1, 4)],
        [made("create", ALICE, 201, 0, 5), made("get", None, 404, 1, 4)],
        [made("create", ALICE, 201, 0, 5), made("get", ALICE, 200, 1, 4)],
        # An unknown outcome: it happens late, or never.
        [
            made("create", ALICE, 0, 0, inf),
            made("get", None, 404, 1, 2),
            made("get", ALICE, 200, 3, 4),
        ],
        [made("create", ALICE, 0, 0, inf), made("create", BOB, 201, 1, 2)],
        # Three operations at the same time have only one possible order: delete, create, update.
        [
            made("create", ALICE, 201, 0, 1),
            made("update", CAROL, 200, 2, 9),
            made("create", BOB, 201, 2, 9),
            made("delete", None, 204, 2, 9),
            made("get", CAROL, 200, 10, 11),
        ],
    ],
)
def test_the_checker_accepts_possible_histories(history: list[Operation]) -> None:
    """Overlapping operations may have any order; those of unknown outcome may never happen."""
    assert violations(history) == []


def dict_history(seed: int, bug: str) -> list[Operation]:
    """Return operations on a dict and their results, with one planted bug."""
    dice = random.Random(seed)
    value: Value = None
    old: Value = None
    looks = 0
    history = []
    for turn in range(400):
        verb = "get" if looks else dice.choice(VERBS)
        looks = max(0, looks - 1)
        written: Value = None if verb == "delete" else (f"n{turn}", dice.randint(0, 150))
        exists = value is not None
        planted = turn >= 200 and bool(bug)
        result, status = written, {"create": 409, "get": 200}.get(verb, 404)
        if verb == "get":
            result, status = value, 200 if exists else 404
            if planted and bug == "stale read" and old not in (value, None):
                result, status, bug = old, 200, ""
        elif exists != (verb == "create"):
            status = {"create": 201, "update": 200, "delete": 204}[verb]
            if planted and bug == "lost update" and verb == "update":
                bug, looks = "", 2  # only a read can find it
            else:
                old, value = value, written
        elif planted and bug == "two winners" and verb == "create":
            status, old, value, bug = 201, value, written, ""
        # Some begin before the previous one has returned.
        history.append(Operation(1, verb, result, status, turn - dice.random(), turn + 0.01))
    assert not bug
    return history


@pytest.mark.parametrize("seed", range(10))
def test_the_checker_finds_a_planted_bug_in_a_long_history(seed: int) -> None:
    """It finds one wrong result among four hundred right ones, most of which overlap."""
    assert violations(dict_history(seed, "")) == []
    for bug in ("stale read", "lost update", "two winners"):
        assert len(violations(dict_history(seed, bug))) == 1, bug
