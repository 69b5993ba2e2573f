"""Asking the API, and surviving outages; on a virtual clock, over connections in memory."""

import asyncio
import random
from collections import Counter
from typing import Any

import fake_api
import pytest
from fake_api import FakeApi, Handler, lost, respond
from virtual_clock import virtual_loop

from client import Client, Result, backoff_seconds
from connection import Connection
from generator import User
from ledger import Ledger

pytestmark = pytest.mark.virtual_clock

ANA = User(1_000_000_000_000_001, "Zoë O'Brien", 42)
AS_STORED = {"name": ANA.name, "age": ANA.age}


class Fixture:
    """A fake API and its client; `said` are the client's sentences."""

    def __init__(self, *creates: Handler, old: bool = False) -> None:
        self.api = virtual_loop().api = FakeApi(old=old)
        self.api.next_handlers["create"].extend(creates)
        self.said: list[str] = []
        self.errors: Counter[str] = Counter()
        exchange = Connection("http://memory", Ledger()).exchange
        self.client = Client(exchange, lambda: 0.0, self.said.append, self.errors)

    async def create(self) -> Result:
        return await self.client.create(ANA)


async def test_a_user_is_created() -> None:
    """The user arrives as query parameters, exactly as it is, and nothing else is said."""
    given = Fixture()
    result = await given.create()

    assert (result.outcome, result.response.status, given.said) == ("created", 201, [])
    assert given.api.users == {ANA.user_id: AS_STORED}
    expected = {"user_id": "1000000000000001", "name": "Zoë O'Brien", "age": "42"}
    assert given.api.requests[0].params == expected


ERRORS: dict[str, tuple[Handler, str]] = {
    "hang": (fake_api.hang, "gave no response within 10 s"),
    "trickle": (fake_api.trickle, "gave no response within 10 s"),
    "half a body": (fake_api.half, "closed the connection in the middle of a response"),
    "reset": (fake_api.reset, "closed the connection without a response"),
    "not HTTP": (fake_api.garbage, "responded with something that is not HTTP"),
    "101": (respond(101, {}), "responded with something that is not HTTP"),
    "flood": (fake_api.flood, "responded with more than 256 KiB"),
    "503": (respond(503, b"<html>Busy"), "responded with 503"),
    "redirect": (
        respond(307, b"", {"Location": "/elsewhere?name=Zo%C3%AB"}),
        "responded with 307, a redirect, which is not followed",
    ),
}


for number in (408, 429, 500, 502, 506, 508, 599):
    ERRORS[str(number)] = respond(number, {"detail": "Oops"}), f"responded with {number}"


@pytest.mark.parametrize(("handler", "reason"), ERRORS.values(), ids=ERRORS.keys())
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
async def test_without_a_usable_response_the_user_is_sent_again(
    handler: Handler, reason: str, stored: bool
) -> None:
    """Each error is said once, with its reason. The user is stored once, also if only the response
    was lost, and its name is not said.
    """
    given = Fixture(lost(handler) if stored else handler)
    result = await given.create()

    assert (result.outcome, result.response.status) == ("created", 409 if stored else 201)
    assert given.api.users == {ANA.user_id: AS_STORED}
    assert len(given.api.requests) == len(given.said) == 2
    assert given.said[0].startswith(f"The API {reason}; next try in 0.")
    assert given.said[1].startswith("The API is back after ")
    assert "Zo" not in "".join(given.said)


@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
async def test_html_of_a_proxy_is_an_outage(stored: bool) -> None:
    """While a proxy responds to all requests with a page, the user is sent again: it is stored
    once, also if only the response was replaced.
    """
    given, page = Fixture(), respond(200, b"<!doctype html><p>Log in")
    given.api.choose_handler = lambda _: lost(page) if stored else page
    virtual_loop().call_later(60, lambda: setattr(given.api, "choose_handler", lambda _: None))
    result = await given.create()

    assert (result.outcome, result.response.status) == ("created", 409 if stored else 201)
    assert given.api.users == {ANA.user_id: AS_STORED}
    assert given.said[0].startswith("The API responded with HTML, not JSON; next try in 0.")


STRANGE = "responded that a user was created, but does not show its user"


@pytest.mark.parametrize("read", ["404", "500", "hang", "another user", "a list", "same body"])
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
async def test_a_create_with_another_form_of_response_is_not_repeated(
    stored: bool, read: str
) -> None:
    """Whatever a 2xx holds instead of the user, each user is sent once: another API might create
    one with each POST. If the API shows the user, it was created; else it is given up after three
    tries to see it.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(25):
        status, body = strange_response(dice)
        given = Fixture()
        reads: dict[str, Handler] = {
            "404": respond(404, {"detail": "Not found"}),
            "500": respond(500, b"Oops"),
            "hang": fake_api.hang,
            "another user": respond(200, {"name": "Bo", "age": 1}),
            "a list": respond(200, [{"id": 1}, {"id": 2}]),
            "same body": respond(status, body),
        }
        handler = respond(status, body)
        given.api.next_handlers["create"].extend([lost(handler) if stored else handler] * 9)
        given.api.next_handlers["read"].extend([] if stored else [reads[read]] * 9)
        result = await given.create()

        expected = "created" if stored else "given up"
        assert (result.outcome, len(given.api.seen("create"))) == (expected, 1), (status, body)
        assert len(given.api.seen("read")) == (1 if stored else 3)
        told = given.errors.total(), "".join(given.said).count("next try")
        assert told == ((0, 0) if stored else (3, 2))
        if read not in ("500", "hang") and not stored:
            assert (given.errors, result.detail) == ({STRANGE: 3}, f"The API {STRANGE}")


def strange_response(dice: random.Random) -> tuple[int, object]:
    """A 2xx that does not hold the user: text, HTML, an empty body, or JSON of another form."""
    number = dice.randrange(2**40)
    words = [b"hello", b"OK", b"", b"\xff\xfe", b'{"user_id": 1', b"<p>Done", b" ", b"[" * 60_000]
    scalars: list[object] = [
        None,
        True,
        "created",
        number,
        -1.5,
        "",
        {},
        [],
        [[]],
        [number],
        {"error": None},
    ]
    keys = dice.sample(["id", "ok", "user", "name", "message", "data", "created", "age"], 3)
    shapes = [{key: dice.choice(scalars) for key in keys}, {"user_id": number}, {"user": [1]}]
    body = dice.choice([dice.choice(words), dice.choice(scalars), dice.choice(shapes)])
    return dice.choice([200, 201, 202, 204] if body == b"" else [200, 201, 202]), body


async def test_a_refused_connection_is_retried_until_there_is_an_api() -> None:
    """While connections are refused, each attempt is said. An equal user that is found then cannot
    be ours: no request was sent.
    """
    for stored, outcome in (({}, "created"), ({ANA.user_id: AS_STORED}, "already there")):
        given = Fixture()
        given.api.users.update(stored)
        virtual_loop().refuses = True
        virtual_loop().call_later(2, lambda: setattr(virtual_loop(), "refuses", False))
        result = await given.create()

        assert (result.outcome, len(given.api.requests)) == (outcome, 1)
        assert len(given.said) >= 3
        for sentence in given.said[:-1]:
            assert sentence.startswith("The API refused the connection; next try in ")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 501, 507])
async def test_a_lasting_error_is_not_retried(status: int) -> None:
    """The user is rejected after one request, with what the API says about it."""
    given = Fixture(respond(status, {"detail": "No"}))
    result = await given.create()

    assert (result.outcome, result.response) == ("rejected", (status, {"detail": "No"}, 0.0, False))
    assert (len(given.api.requests), given.said) == (1, [])


@pytest.mark.parametrize("old", [False, True], ids=["the 409 shows the user", "it does not"])
@pytest.mark.parametrize("lost_before", [False, True], ids=["at first", "after a lost response"])
@pytest.mark.parametrize(
    ("stored", "outcome"),
    [
        (AS_STORED, "equal"),
        ({**AS_STORED, "name": "Bo"}, "taken"),
        ({**AS_STORED, "age": 43}, "taken"),
    ],
    ids=["equal", "another name", "another age"],
)
async def test_a_conflict_is_resolved_by_the_stored_user(
    old: bool, lost_before: bool, stored: dict[str, Any], outcome: str
) -> None:
    """An equal user was already there, or created if a response was lost before. A different one
    means that the id is taken. Only an older API is asked for the user, by one GET.
    """
    given = Fixture(*[fake_api.reset] * lost_before, old=old)
    given.api.users[ANA.user_id] = stored
    result = await given.create()

    expected = outcome if outcome == "taken" else "created" if lost_before else "already there"
    assert (result.outcome, result.response.status) == (expected, 409)
    assert given.api.users == {ANA.user_id: stored}
    assert len(given.api.seen("read")) == old


async def test_a_get_that_fails_does_not_make_the_user_ours() -> None:
    """If only the GET of the stored user failed, an equal user was still there before."""
    given = Fixture(old=True)
    given.api.users[ANA.user_id] = AS_STORED
    given.api.next_handlers["read"].extend([fake_api.reset, respond(500, {})])
    result = await given.create()

    assert result.outcome == "already there"
    assert (len(given.api.seen("create")), len(given.api.seen("read"))) == (1, 3)


@pytest.mark.parametrize(
    "handler",
    [respond(404, {"detail": "Not found"}), respond(200, {"error": "User not found"})],
    ids=["404", "200 with an error"],
)
async def test_no_second_id_while_the_first_may_be_stored(handler: Handler) -> None:
    """After a lost response, an API that calls the id taken but does not show its user is asked
    again, three times at most: a new id could store the person twice. Otherwise a new id is safe.
    A user that is stored, and then rejected, was created.
    """
    for times, outcome in ((1, "created"), (9, "given up")):
        given = Fixture(lost(fake_api.reset), old=True)
        given.api.next_handlers["read"].extend([handler] * times)
        assert (await given.create()).outcome == outcome
        assert "does not show its user" in given.said[2]
    given = Fixture(respond(409, {"detail": "Taken"}))
    assert ((await given.create()).outcome, given.said) == ("taken", [])
    given = Fixture(lost(fake_api.reset), respond(507, {"detail": "Full"}))
    assert (await given.create()).outcome == "created"


async def test_the_client_waits_for_health() -> None:
    """Neither a 503, a 404, HTML nor a reset is healthy; other 2xx are, with JSON or without."""
    page = respond(200, b"<!doctype html><p>Welcome")
    for last in (respond(204, b""), respond(200, b"OK"), respond(200, {})):
        given = Fixture()
        handlers = [respond(503, {}), respond(404, {}), page, fake_api.reset, last]
        given.api.next_handlers["health"].extend(handlers)
        await given.client.retry(given.client.check_health)

        assert len(given.api.seen("health")) == 5
        assert [sentence.split("; ")[0] for sentence in given.said[:4]] == [
            "The API responded with 503",
            "The API responded with 404 (check API_BASE_URL and API_TOKEN)",
            "The API responded with HTML, not JSON",
            "The API closed the connection without a response",
        ]
        assert given.said[4].startswith("The API is back after ")


async def test_a_connection_is_reused_but_not_kept_idle_for_long() -> None:
    """After two idle seconds a connection is not used again: the server may be closing it."""
    given = Fixture()
    connections = []
    for pause_seconds in (0, 1.9, 2.1):
        await asyncio.sleep(pause_seconds)
        await given.client.retry(given.client.check_health)
        connections.append(virtual_loop().connections)

    assert connections == [1, 1, 2]


async def test_one_attempt_of_many_is_reported() -> None:
    """Eight users that fail at the same time are one outage: one of them says so."""
    given = Fixture(*[respond(500, {})] * 8)
    users = [ANA._replace(user_id=number) for number in range(8)]
    await asyncio.gather(*map(given.client.create, users))

    assert len(given.said) == 2
    assert given.errors == {"responded with 500": 8}


def test_the_backoff_grows_to_a_cap_and_is_spread() -> None:
    """From about 0.2 s the waits double up to between 2.5 and 5 s; Retry-After is obeyed between
    that and a minute.
    """
    for errors, (shortest, longest) in enumerate(
        [(0.15, 0.3), (0.3, 0.6), (0.6, 1.2), (1.2, 2.4), (2.4, 4.8), (2.5, 5.0), (2.5, 5.0)]
    ):
        waits = [backoff_seconds(errors) for _ in range(200)]
        assert shortest <= min(waits) < max(waits) <= longest
        assert max(waits) - min(waits) > (longest - shortest) / 2
    assert backoff_seconds(10**9) <= 5.0
    assert backoff_seconds(0, retry_after_seconds=30) == 30
    assert backoff_seconds(0, retry_after_seconds=float("inf")) == 60
    assert backoff_seconds(9, retry_after_seconds=1) >= 2.5
