"""What becomes of the users in a batch; on a virtual clock."""

import json
import random

import fake_api
import pytest
from fake_api import Handler, Request, lost, respond
from one_run import OTHER_USER, Run, as_stored, users

from scheduler import run_until_stopped

pytestmark = pytest.mark.virtual_clock


async def test_a_bulk_goes_by_batches() -> None:
    """The first user finds out that the API takes batches, and the others are sent in them."""
    run = Run(1_000, batches=True)
    await run.in_bulk(100)

    assert [request.kind for request in run.api.requests] == ["batch"] * 11
    assert run.api.users == as_stored(*users(1_000))
    assert run.settled() == [1_000, 0, 0, 0]


@pytest.mark.parametrize("status", [200, 404, 405, 501])
async def test_without_batches_users_are_sent_one_by_one(status: int) -> None:
    """An API that has no batches is asked once, and that is said once."""
    run = Run(50)
    run.api.next_handlers["batch"].append(respond(status, {"error": "No"}))
    await run.in_bulk(10)

    assert len(run.api.seen("batch")) == 1
    assert run.said == ["The API takes no batches: users are sent one by one"]
    assert len(run.api.seen("create")) == len(run.api.users) == 50
    assert (run.settled(), run.ledger.errors) == ([50, 0, 0, 0], {})


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_one_rejected_batch_does_not_end_batches(status: int) -> None:
    """If the API rejects only the first user, the others are still sent in batches."""
    run = Run(51, batches=True)
    run.api.next_handlers["batch"].append(respond(status, {"detail": "No"}))
    run.api.next_handlers["create"].append(respond(status, {"detail": "No"}))
    await run.in_bulk(10)

    assert len(run.api.seen("batch")) == 6
    assert (run.settled(), run.said) == ([50, 0, 1, 0], [])


LOST: dict[str, Handler] = {
    "reset": fake_api.reset,
    "half a body": fake_api.half,
    "500": respond(500, {}),
}


@pytest.mark.parametrize("handler", LOST.values(), ids=LOST.keys())
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
async def test_a_lost_response_to_a_batch_is_resolved(handler: Handler, stored: bool) -> None:
    """The batch is sent again; users that exist then, and are equal, are ours: created, once."""
    run = Run(11, batches=True)
    handlers = [fake_api.contract, lost(handler) if stored else handler]
    run.api.next_handlers["batch"].extend(handlers)
    await run.in_bulk(10)

    assert run.api.users == as_stored(*users(11))
    assert run.settled() == [11, 0, 0, 0]
    assert run.api.seen("create") == run.api.seen("read") == []


MISFIT = "responded to a batch with numbers that do not add up"


@pytest.mark.parametrize("first", [True, False], ids=["the first batch", "the second batch"])
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
async def test_a_batch_response_that_does_not_fit_ends_batches(first: bool, stored: bool) -> None:
    """It is said once, the batch is not repeated, and each user is sent alone: all are stored once
    and accounted for.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(25):
        run = Run(31, batches=True)
        handler = respond(dice.choice([200, 201, 202]), misfit(dice))
        handlers = [*[fake_api.contract] * (not first), *[lost(handler) if stored else handler] * 9]
        run.api.next_handlers["batch"].extend(handlers)
        await run.in_bulk(10, concurrency=1)

        assert len(run.api.seen("batch")) == (1 if first else 2)
        assert run.said == [f"The API {MISFIT}: users are sent one by one"]
        assert run.ledger.errors == {MISFIT: 1}
        assert (run.settled(), run.api.users) == ([31, 0, 0, 0], as_stored(*users(31)))


def misfit(dice: random.Random) -> object:
    """A body that does not say what became of ten users, or of one."""
    numbers: list[object] = [0, 2, 7, 11, -1, "1", None, [], 2.5]
    groups: list[object] = [None, 7, True, [7], [[]], [None], {"7": 1}, "7", [2**60, 5]]
    counted = {"created": dice.choice(numbers), "existing": [], "conflicting": []}
    named = {"created": dice.choice([1, 10]), "existing": dice.choice(groups), "conflicting": []}
    strange = {
        "created": dice.choice([1, 10]),
        "existing": [],
        "conflicting": dice.choice(groups) or 7,
    }
    others = [{"id": 1}, {}, [], ["created"], None, "ok", 3, b"hello", b"<p>Done", b"", b"{"]
    return dice.choice([counted, named, strange, {"created": 10}, *others])


@pytest.mark.parametrize("created", [True, False], ids=["also its creates", "only its batches"])
async def test_another_api_is_noticed(created: bool) -> None:
    """An API that responds to batches and creates in its own form, and stores a user under its own
    id each time, gets no user twice; after three users that nobody can find the run ends.
    """
    run = Run(1_000_000 if created else 100)
    batch, create = respond(201, {"id": 1}), respond(201, b"hello")
    handlers = {"batch": batch, "create": create if created else None}
    run.api.choose_handler = lambda request: handlers.get(request.kind)
    await run_until_stopped(run.in_bulk(10), run.stop)
    run.ledger.close()

    ids = [request.params["user_id"] for request in run.api.seen("create")]
    assert len(run.api.seen("batch")) == 1
    assert len(ids) == len(set(ids))
    if created:
        assert run.settled()[:3] == [0, 0, 0]
        assert 3 <= run.settled()[3] == len(ids) <= 3 + 4
        assert len(run.api.seen("read")) <= 3 + 2 * 4
        assert run.ledger.failures(1.0, None) == ["No user was stored"]
    else:
        assert (run.settled(), len(run.api.users)) == ([100, 0, 0, 0], 100)


async def test_users_that_were_stored_before_a_batch() -> None:
    """An equal user was already there; a user whose id another user has gets a new id. The API
    tells which is which, so that only the second is sent again.
    """
    run = Run(11, batches=True)
    equal, other = users(11)[4:6]
    run.api.users = {**as_stored(equal), other.user_id: OTHER_USER}
    await run.in_bulk(10)

    assert run.settled() == [10, 1, 0, 0]
    assert run.api.users[other.user_id] == OTHER_USER
    assert len(run.api.users) == 12
    assert {"name": other.name, "age": other.age} in run.api.users.values()
    assert len(run.api.seen("create")) == 2  # with its own id, and with the new one


async def test_a_full_store_is_filled() -> None:
    """A batch without room is sent one by one: the first users get the room there is, users that
    are stored already are found, and each of the others is rejected.
    """
    run = Run(31, batches=True)
    run.api.users = as_stored(*users(31)[25:28])

    def check_room(request: Request) -> Handler | None:
        ids = set(map(int, json.loads(request.body or b"{}")))
        ids |= {int(request.params["user_id"])} if request.kind == "create" else set()
        full = len(run.api.users.keys() | ids) > 18
        return respond(507, {"detail": "Full"}) if full and ids - run.api.users.keys() else None

    run.api.choose_handler = check_room
    await run.in_bulk(10, concurrency=1)

    assert run.settled() == [15, 3, 13, 0]
    assert run.ledger.errors == {"rejected a user with 507": 13}


@pytest.mark.parametrize("status", [401, 403])
async def test_without_the_right_token_a_batch_is_rejected(status: int) -> None:
    """Its users are not sent one by one."""
    run = Run(21, batches=True)
    run.api.choose_handler = lambda _: respond(status, {"detail": "Who are you?"})
    await run.in_bulk(10)

    assert run.settled() == [0, 0, 21, 0]
    assert len(run.api.requests) == 3
