"""Asking a real server on a loopback port that behaves, and many that do not."""

import contextlib
import gzip
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import (
    DEADLINE_SECONDS,
    Answer,
    Api,
    Exchange,
    Keeping,
    ask,
    data,
    headed,
    raw,
    silence,
    stale,
    text,
    trickle,
)

import calls
from calls import fetch_age_counts
from client import Line
from faults import AnswerNotUnderstood, AnswerUnusable, ApiFault, ApiRefuses, ApiUnreachable
from schema import AgeCounts
from settings import Settings

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def fault_of(settings: Settings) -> ApiFault:
    with pytest.raises(ApiFault) as caught:
        ask(settings)
    assert caught.value.reason.endswith(".")
    assert "\n" not in caught.value.reason
    assert caught.value.hint.endswith(".")
    return caught.value


def test_the_age_counts_are_asked_for_once(api: Api) -> None:
    """Where the API keeps age counts, one small request is all."""
    api.counts({18: 3, 40: 1})
    assert ask(api.settings) == AgeCounts(users_by_age={18: 3, 40: 1})
    assert api.paths == ["/stats/ages"]


@pytest.mark.parametrize("status", [404, 405])
def test_the_listing_serves_where_there_are_no_counts(api: Api, status: int) -> None:
    """An API without the statistics call still fills the page, from its list of users."""
    api.answers["/stats/ages"] = data({"detail": "no"}, status=status)
    api.lists({"name": "A", "age": 30}, {"name": "B", "age": 30}, {"name": "C", "age": "old"})
    assert ask(api.settings) == AgeCounts(
        users_by_age={30: 2}, from_listing=True, unreadable_rows=1
    )
    assert api.paths == ["/stats/ages", "/users/"]


def test_nothing_is_taken_from_the_environment(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy set for something else does not come between the dashboard and its API."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    api.counts({18: 1})
    assert ask(api.settings).users_by_age == {18: 1}


@pytest.fixture
def keeping() -> Iterator[Api]:
    """An API that keeps its connections."""
    api = Api(Keeping)
    yield api
    api.stop()


@pytest.fixture
def line(keeping: Api) -> Iterator[Line]:
    """A line on which one request has been made."""
    keeping.counts({18: 1})
    with contextlib.closing(Line(keeping.settings)) as line:
        fetch_age_counts(keeping.settings, line)
        yield line


def test_a_connection_is_kept(keeping: Api, line: Line) -> None:
    """From tick to tick there is one connection."""
    for _ in range(3):
        assert fetch_age_counts(keeping.settings, line).users_by_age == {18: 1}
    assert (len(keeping.paths), keeping.connections) == (4, 1)


def test_a_connection_that_the_api_has_closed_is_replaced(keeping: Api, line: Line) -> None:
    """A kept connection may be gone: the one who reads asks once more, and notices nothing."""
    keeping.answers["/stats/ages"] = stale(keeping.answers["/stats/ages"])
    assert fetch_age_counts(keeping.settings, line).users_by_age == {18: 1}
    assert (len(keeping.paths), keeping.connections) == (3, 2)


def test_an_api_that_hangs_up_is_not_asked_again_and_again(keeping: Api, line: Line) -> None:
    """Once more is once: then it is a fault, and the next request begins with a new connection."""
    hang_up = raw()
    keeping.answers["/stats/ages"] = hang_up
    with pytest.raises(ApiUnreachable, match="broke off"):
        fetch_age_counts(keeping.settings, line)
    assert len(keeping.paths) == 3
    with pytest.raises(ApiUnreachable, match="broke off"):
        fetch_age_counts(keeping.settings, line)
    assert len(keeping.paths) == 4


def test_a_write_is_never_repeated(keeping: Api, line: Line) -> None:
    """Nobody knows whether a write that was not answered was done, so it is not sent again."""
    keeping.answers["POST /users/"] = raw()
    with pytest.raises(ApiUnreachable, match="broke off"):
        line.run(lambda session: session.ask(keeping.settings.api_url, "POST"))
    assert len(keeping.writes) == 1


def test_a_wrong_path_points_at_the_setting(api: Api) -> None:
    """Where neither call exists, the address is what is wrong, and the hint says so."""
    fault = fault_of(api.settings)
    assert isinstance(fault, AnswerUnusable)
    assert fault.reason == "The API answered 404 Not Found."
    assert fault.url == api.settings.api_url
    assert "API_URL" in fault.hint


WRONG_ANSWERS = {
    "500": (data({}, status=500), "The API answered 500 Internal Server Error."),
    "503": (data({}, status=503), "The API answered 503 Service Unavailable."),
    "403": (data({}, status=403), "The API answered 403 Forbidden."),
    "204": (headed(b"", 204, {}), "The API answered 204 No Content."),
    "redirect": (
        headed(b"", 307, {"Location": "/elsewhere"}),
        "The API answered 307 Temporary Redirect, pointing to /elsewhere.",
    ),
    "html": (text("<p>", "text/html"), "A web page (HTML) came back instead of data."),
    "garbage": (text("{]"), "The answer was not understood. It is not JSON."),
    "wrong total": (
        data({"total": 2, "ages": {"18": 1}}),
        "The answer was not understood. Its total is not the sum of its ages.",
    ),
    "compressed": (
        headed(gzip.compress(b'{"total": 0, "ages": {}}'), 200, {"Content-Encoding": "gzip"}),
        "The answer was not understood. It is not JSON.",
    ),
    "too large": (text(" " * 65_537), "The answer is larger than 65,536 bytes."),
    "endless": (
        trickle(OK + b"\r\n", b" " * 65_536),
        "The answer is larger than 65,536 bytes.",
    ),
}
HALF_ANSWERS = {
    "nothing": raw(),
    "noise": raw(b"\x00\xff" * 50),
    "ssh": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "cut body": raw(OK + b'Content-Length: 100\r\n\r\n{"total"'),
    "cut chunk": raw(OK + b'Transfer-Encoding: chunked\r\n\r\n20\r\n{"total"'),
    "huge header": raw(OK + b"X: " + b"x" * 1_000_000),
}


@pytest.mark.parametrize(("answer", "reason"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_wrong_answer_is_refused(api: Api, answer: Answer, reason: str) -> None:
    """An answer that is not the one asked for is named, and nothing else is tried."""
    api.answers["/stats/ages"] = answer
    fault = fault_of(api.settings)
    assert isinstance(fault, AnswerUnusable)
    assert isinstance(fault, AnswerNotUnderstood) == ("not understood" in reason)
    assert fault.reason == reason
    assert fault.url == api.settings.statistics_url
    assert api.paths == ["/stats/ages"]


@pytest.mark.parametrize("answer", HALF_ANSWERS.values(), ids=HALF_ANSWERS)
def test_an_answer_that_breaks_off_is_no_answer(api: Api, answer: Answer) -> None:
    """Half an answer, or what is no HTTP, is told apart from a wrong answer."""
    api.answers["/stats/ages"] = answer
    fault = fault_of(api.settings)
    assert isinstance(fault, ApiUnreachable)
    assert fault.reason == "The connection broke off in the middle."


def test_a_listing_has_its_own_limit(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listing may be large, and is cut off all the same."""
    monkeypatch.setattr(calls, "MAX_LISTING_BYTES", 1_000_000)
    api.answers["/users/"] = trickle(OK + b"\r\n", b" " * 100_000)
    assert fault_of(api.settings).reason == "The answer is larger than 1,000,000 bytes."


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "User 7 not found"}, "User 7 not found"),
        (
            {"detail": [{"loc": ["query", "age"], "msg": "too old"}, {"msg": "and **more**"}]},
            "age: too old; and **more**",
        ),
        ({"detail": {"loc": 5}}, ""),
        ({"detail": 7}, ""),
        ({"detail": "x" * 10_000}, "x" * 500),
        ([], ""),
    ],
    ids=("text", "list", "map", "number", "long", "no map"),
)
def test_an_error_is_told_in_the_apis_words(api: Api, body: object, detail: str) -> None:
    """`detail` is understood in both shapes that FastAPI has, cut; anything else is left out."""
    api.answers["/stats/ages"] = data(body, status=409)
    fault = fault_of(api.settings)
    assert isinstance(fault, ApiRefuses)
    assert (fault.status, fault.detail) == (409, detail)


def test_nobody_listens(api: Api) -> None:
    """An API that is not started is the commonest fault: say how to start it."""
    api.stop()
    fault = fault_of(api.settings)
    assert isinstance(fault, ApiUnreachable)
    assert fault.reason == "Nothing is listening there: connection refused."
    assert fault.hint.startswith("Start the API")


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's name that is not in the network is said to be just that."""

    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    fault = fault_of(Settings(api_url="http://api:8000/users/"))
    assert fault.reason == "The name in the address does not resolve to a machine."
    assert "container" in fault.hint


def test_tls_where_there_is_none(api: Api) -> None:
    """https:// for an API that speaks plain HTTP is told from an API that is down."""
    fault = fault_of(Settings(api_url=f"https://127.0.0.1:{api.port}/users/"))
    assert fault.reason == "No secure (TLS) connection could be made."


def test_an_address_that_cannot_be_asked() -> None:
    """Whatever settings let through and the HTTP library does not is a fault, not a crash."""
    fault = fault_of(Settings(api_url="http://[v1.x]/users/"))
    assert fault.reason == "The address cannot be asked."


def test_no_server_can_hold_on_longer_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Silent, dripping and unresolvable servers are all left within six seconds."""
    released = threading.Event()
    really_look_up = socket.getaddrinfo

    def look_up(host: object, *args: object, **options: object) -> object:
        if host in ("stuck", b"stuck"):
            released.wait(DEADLINE_SECONDS)
        return really_look_up(host, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    slow = {
        silence: "The API went silent for 2 seconds.",
        trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x"): "The answer was not complete after 5 seconds.",
        trickle(OK + b"\r\n", b" "): "The answer was not complete after 5 seconds.",
        trickle(OK + b"\r\n{", b""): "The API went silent for 2 seconds.",
    }
    apis = [Api() for _ in slow]
    for api, answer in zip(apis, slow, strict=True):
        api.answers["/stats/ages"] = answer
    listing = Api()
    listing.answers["/users/"] = trickle(OK + b"\r\n", b" ")
    everyone = [api.settings for api in (*apis, listing)]
    everyone.append(Settings(api_url="http://stuck:8000/users/"))

    def timed(settings: Settings) -> tuple[str, float]:
        started_at = time.monotonic()
        return fault_of(settings).reason, time.monotonic() - started_at

    try:
        with ThreadPoolExecutor(len(everyone)) as pool:
            results = list(pool.map(timed, everyone))
    finally:
        released.set()
        for api in (*apis, listing):
            api.stop()
    assert [reason for reason, _ in results] == [
        *slow.values(),
        "The answer was not complete after 5 seconds.",
        "No connection was made within 2 seconds.",
    ]
    assert max(seconds for _, seconds in results) < 6


def test_a_call_that_failed_is_logged_by_its_id(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The id that the API is sent, and may have in its log, is in ours; it also begins a trace."""
    sent: list[str] = []

    def refuse(exchange: Exchange) -> None:
        sent.extend((exchange.headers["X-Request-ID"], exchange.headers["traceparent"]))
        data({}, status=503)(exchange)

    api.answers["/stats/ages"] = refuse
    fault_of(api.settings)
    request_id, trace = sent

    assert re.fullmatch("[0-9a-f]{16}", request_id)
    assert trace == f"00-{'0' * 16}{request_id}-{request_id}-01"
    assert [record.getMessage() for record in caplog.records] == [
        f"GET /stats/ages answered 503, request {request_id}"
    ]
