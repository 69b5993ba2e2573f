"""Speaking to the API, and surviving its absence. Every server here is a real one."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import throwaway_api
from throwaway_api import Act, ThrowawayApi, answer, lost, until

from answers import Fault, Unreachable
from client import Answer, Client
from connection import Connection
from generator import User
from retries import backoff_seconds

ANA = User(1_000_000_000_000_001, "Zoë O'Brien", 42)


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run an asynchronous test, which has ten seconds."""
    asyncio.run(asyncio.wait_for(story, 10))


@asynccontextmanager
async def conversation(
    api: ThrowawayApi | str, said: list[str], *, patient: bool = False, **options: Any
) -> AsyncIterator[Client]:
    """A client that does not wait between its tries, unless it is patient."""
    url = api if isinstance(api, str) else api.url
    backoff = backoff_seconds if patient else lambda *_: 0.0
    connection = Connection(url, **options)
    yield Client(connection, said.append, Counter(), normal_per_second=1_000, backoff=backoff)
    connection.close()


async def create(api: ThrowawayApi, user: User = ANA, **options: Any) -> tuple[Answer, list[str]]:
    """Create a user through a client of little patience: what came of it, and what was said."""
    said: list[str] = []
    async with conversation(api, said, timeout_seconds=0.4, **options) as client:
        return await client.create(user), said


def test_a_user_is_created() -> None:
    """The user arrives as query parameters, exactly as it is, and nothing else is said."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            result, said = await create(api)

            assert (result.outcome, result.status, said) == ("created", 201, [])
            assert 0 < result.seconds < 0.4
            assert api.users == {ANA.user_id: {"name": ANA.name, "age": ANA.age}}
            assert api.requests[0].params == {
                "user_id": "1000000000000001",
                "name": "Zoë O'Brien",
                "age": "42",
            }

    run(story())


FAULTS: dict[str, tuple[Act, str]] = {
    "hang": (throwaway_api.hang, "gave no answer within 0.4 s"),
    "trickle": (throwaway_api.trickle, "gave no answer within 0.4 s"),
    "half a body": (throwaway_api.half, "broke off in the middle of its answer"),
    "reset": (throwaway_api.reset, "closed the connection without an answer"),
    "not HTTP": (throwaway_api.garbage, "answered with something that is not HTTP"),
    "flood": (throwaway_api.flood, "answered with more than 256 KiB"),
    "500": (answer(500, {"detail": "Oops"}), "answered 500"),
    "503": (answer(503, b"<html>Busy"), "answered 503"),
    "429": (answer(429, {"detail": "Slow down"}), "answered 429"),
    "408": (answer(408, b""), "answered 408"),
    "HTML": (answer(200, b"<!doctype html><p>Log in"), "answered with HTML that is not JSON"),
    "half JSON": (answer(201, b'{"user_id": 1'), "answered with something that is not JSON"),
    "redirect": (
        answer(307, b"", {"Location": "/elsewhere?name=Zo%C3%AB"}),
        "answered 307, a redirect, which is not followed",
    ),
}


@pytest.mark.parametrize(("act", "reason"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
def test_what_is_not_an_answer_is_repeated(act: Act, reason: str, stored: bool) -> None:
    """Each fault is said once, with its reason, and the same user is sent again until it is known
    to have arrived, be it that only the answer was lost. It is stored once and never named.
    """

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].append(lost(act) if stored else act)
            result, said = await create(api)

            assert (result.outcome, result.status) == ("created", 409 if stored else 201)
            assert api.users == {ANA.user_id: {"name": ANA.name, "age": ANA.age}}
            assert len(api.seen("create")) == 2
            assert len(said) == 2
            assert said[0].startswith(f"The API {reason}; next try in 0.")
            assert said[1].startswith("The API is back after ")
            assert "Zo" not in "".join(said)

    run(story())


@pytest.mark.parametrize(
    ("status", "body"),
    [(204, b""), (200, b""), (200, None), (200, "created"), (200, []), (201, {"user_id": 7})],
    ids=str,
)
def test_any_json_or_nothing_is_a_success(status: int, body: object) -> None:
    """An API may answer a create with whatever JSON it likes, or with none: it is sent once."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].append(answer(status, body))
            result, said = await create(api)

            assert (result.outcome, result.status, said) == ("created", status, [])
            assert len(api.requests) == 1

    run(story())


def test_a_refused_connection_is_repeated_until_there_is_an_api() -> None:
    """Where nobody listens the client keeps trying, says so each time, and goes on when it can."""

    async def story() -> None:
        async with ThrowawayApi() as gone:
            pass
        trying = asyncio.create_task(create(gone, patient=True))
        await asyncio.sleep(0.7)
        assert not trying.done()
        async with ThrowawayApi(gone.port) as api:
            result, said = await trying

            assert result.outcome == "created"
            assert len(api.seen("create")) == 1
            assert len(said) >= 3
            for sentence in said[:-1]:
                assert sentence.startswith("The API refused the connection; next try in ")

    run(story())


def test_a_name_that_cannot_be_looked_up_is_an_absence() -> None:
    """A host that does not exist (yet) is waited for, like one that does not answer."""

    async def story() -> None:
        said: list[str] = []
        async with conversation("http://nobody.invalid:8000", said) as client:
            waiting = asyncio.create_task(client.wait_until_healthy())
            await until(lambda: bool(said))
            waiting.cancel()

        assert said[0].startswith("The API has a host name that cannot be looked up; next try in ")

    run(story())


def test_the_same_user_outlives_many_faults() -> None:
    """All kinds of faults one after another do not lose the user, nor store it twice."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].extend([throwaway_api.reset, answer(500, {}), throwaway_api.half])
            result, said = await create(api)

            assert result.outcome == "created"
            assert len(api.users) == 1
            assert len(said) == 4

    run(story())


def test_retry_after_is_obeyed() -> None:
    """A 503 that asks for a second gets a second, though the backoff would have been shorter."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].append(answer(503, {}, {"Retry-After": "1"}))
            _, said = await create(api, patient=True)

            first, second = api.seen("create")
            assert 1.0 <= second.at - first.at < 1.5
            assert said[0] == "The API answered 503; next try in 1.0 s"

    run(story())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 501, 507])
def test_a_refusal_is_not_repeated(status: int) -> None:
    """A 4xx or a full store is taken for what it is: the user is rejected, once, with the reason
    but unnamed.
    """

    async def story() -> None:
        async with ThrowawayApi() as api:
            body = {"detail": [{"loc": ["query", "name"], "msg": "Not Zoë", "input": ANA.name}]}
            api.plays["create"].append(answer(status, body))
            result, said = await create(api)

            assert (result.outcome, result.status) == ("rejected", status)
            hint = " (is API_TOKEN set, and right?)" if status in (401, 403) else ""
            assert result.reason == f"query.name: Not ***{hint}"
            assert (len(api.requests), said) == (1, [])

    run(story())


CONFLICTS = [answer(409, {"detail": "Taken"}), answer(200, {"error": "User already exists"})]


def test_a_connection_that_never_was_leaves_no_doubt() -> None:
    """After nothing but refused connections, an equal stored user cannot be ours."""

    async def story() -> None:
        async with ThrowawayApi() as gone:
            pass
        said: list[str] = []
        async with conversation(gone, said, patient=True) as client:
            creating = asyncio.create_task(client.create(ANA))
            await until(lambda: bool(said))
            async with ThrowawayApi(gone.port) as api:
                api.users[ANA.user_id] = {"name": ANA.name, "age": ANA.age}
                result = await creating

        assert result.outcome == "already there"

    run(story())


@pytest.mark.parametrize("conflict", CONFLICTS, ids=["409", "200 with an error"])
@pytest.mark.parametrize("shown", [{"name": ANA.name, "age": ANA.age}, [ANA.name, ANA.age]])
def test_an_equal_user_was_already_there(conflict: Act, shown: Any) -> None:
    """A conflict at the first try, with an equal user stored, is no creation of ours; the user may
    be shown as an object or as a pair.
    """

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.users[ANA.user_id] = shown
            api.plays["create"].append(conflict)
            result, said = await create(api)

            assert (result.outcome, said) == ("already there", [])

    run(story())


@pytest.mark.parametrize("conflict", CONFLICTS, ids=["409", "200 with an error"])
@pytest.mark.parametrize("other", [{"name": "Bo", "age": 42}, {"name": ANA.name, "age": 43}])
def test_the_id_of_somebody_else_is_taken(conflict: Act, other: dict[str, Any]) -> None:
    """A conflict with a different user, by name or by age, means another id is needed, even if an
    answer of ours was lost before.
    """

    async def story() -> None:
        for earlier in ([], [throwaway_api.reset]):
            async with ThrowawayApi() as api:
                api.users[ANA.user_id] = other
                api.plays["create"].extend([*earlier, conflict])
                result, _ = await create(api)

                assert result.outcome == "taken"
                assert api.users == {ANA.user_id: other}

    run(story())


def test_a_question_that_fails_does_not_make_the_user_ours() -> None:
    """Where only the look at the stored user failed, an equal one was still there before us."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.users[ANA.user_id] = {"name": ANA.name, "age": ANA.age}
            api.plays["read"].extend([throwaway_api.reset, answer(500, {})])
            result, said = await create(api)

            assert result.outcome == "already there"
            assert [request.kind for request in api.requests] == ["create", "read"] * 3
            assert len(said) == 3

    run(story())


@pytest.mark.parametrize(
    "act",
    [answer(404, {"detail": "Not found"}), answer(200, {"error": "User not found"})],
    ids=["404", "200 with an error"],
)
def test_no_second_id_while_the_first_may_have_arrived(act: Act) -> None:
    """After a lost answer, an API that calls the id taken but does not show its user is asked again
    (a new id could store the person twice); without one, a new id is safe.
    """

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].append(lost(throwaway_api.reset))
            api.plays["read"].append(act)
            result, said = await create(api)

            assert result.outcome == "created"
            assert "without showing its user" in said[1]
        async with ThrowawayApi() as api:
            api.plays["create"].append(CONFLICTS[0])
            result, said = await create(api)

            assert (result.outcome, said) == ("taken", [])

    run(story())


def test_health_is_waited_for() -> None:
    """Neither a 503, a 404, HTML nor a broken connection is health; the first other 2xx is. That
    there is no /health is said once, with the setting that may be wrong.
    """

    async def story() -> None:
        async with ThrowawayApi() as api:
            page = answer(200, b"<!doctype html><p>Welcome")
            acts = [answer(503, {}), answer(404, {}), page, throwaway_api.reset, answer(204, b"")]
            api.plays["health"].extend(acts)
            said: list[str] = []
            async with conversation(api, said) as client:
                await client.wait_until_healthy()

            assert len(api.seen("health")) == 5
            assert [sentence.split("; ")[0] for sentence in said[:5]] == [
                "The API answered 503",
                "Somebody answers there, but has no /health: is API_BASE_URL right?",
                "The API answered 404 when asked for its health",
                "The API answered HTML when asked for its health",
                "The API closed the connection without an answer",
            ]
            assert said[5].startswith("The API is back after ")

    run(story())


def test_only_one_layer_repeats() -> None:
    """A GET that fails is sent once for each try that is said: no library repeats it silently."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["health"].extend([throwaway_api.reset] * 2)
            said: list[str] = []
            async with conversation(api, said) as client:
                await client.wait_until_healthy()

            assert len(api.seen("health")) == 3
            assert len(said) == 3

    run(story())


def test_a_connection_is_reused_but_not_kept_idle_for_long() -> None:
    """Requests in quick succession share a connection; after two idle seconds it is not used again,
    for the server may be closing it at that moment.
    """

    async def story() -> None:
        async with ThrowawayApi() as api, conversation(api, []) as client:
            ports = []
            for pause_seconds in (0, 0, 2.1):
                await asyncio.sleep(pause_seconds)
                await client.wait_until_healthy()
                ports.append(len(api.peers))

            assert ports == [1, 1, 2]

    run(story())


def test_nothing_in_the_environment_diverts_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables are not obeyed: users go to the address that was given and nowhere else."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async def story() -> None:
        async with ThrowawayApi() as api:
            assert (await create(api))[0].outcome == "created"

    run(story())


def test_a_deadline_ends_a_trickle_however_lively() -> None:
    """The deadline covers the whole exchange, so that a byte now and then does not prolong it."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].append(throwaway_api.trickle)
            started = time.monotonic()
            await create(api)

            assert 0.4 <= time.monotonic() - started < 1.5

    run(story())


def test_a_stop_is_not_mistaken_for_a_fault() -> None:
    """A cancelled exchange ends at once: it is neither said nor repeated."""

    async def story() -> None:
        async with ThrowawayApi() as api:
            api.plays["create"].append(throwaway_api.hang)
            said: list[str] = []
            async with conversation(api, said) as client:
                creating = asyncio.create_task(client.create(ANA))
                await until(lambda: bool(api.requests))
                creating.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await creating

            assert (len(api.requests), said) == (1, [])

    run(story())


def test_unreachable_is_a_fault() -> None:
    """Whoever catches faults catches the absence of the API as well."""
    assert issubclass(Unreachable, Fault)
