"""Asking the API: every request with its timeouts, its deadline and its size limit.

Whatever goes wrong becomes an ApiFault that says what happened and what can be done.
"""

import asyncio
import logging
import random
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import httpx2

from faults import (
    AnswerNotUnderstood,
    AnswerUnusable,
    ApiRefuses,
    ApiUnreachable,
)
from schema import NotUnderstood, read_detail
from settings import Settings

CONNECT_TIMEOUT_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 2.0
TOTAL_TIMEOUT_SECONDS = 5.0
KEPT_SECONDS = 4.0  # for which an idle connection is used again; uvicorn closes one after 5
MAX_ANSWER_BYTES = 64 * 1024

T = TypeVar("T")


CHECK_ADDRESS = (
    "Check API_URL: it must be the full address of the users, such as http://localhost:8000/users/."
)
_CHECK_LOG = "Look at what the API wrote in its terminal or log."
_CHECK_NAME = (
    "Check the name in API_URL. Between containers it is the name or alias of the API's"
    " container, and both must be in the same network."
)
_CHECK_REDIRECT = "Set API_URL to an address that answers by itself; redirects are not followed."
_CHECK_TLS = "Write http:// in API_URL if the API does not use TLS; otherwise see its certificate."
_CHECK_TOKEN = "Start the dashboard with the API_TOKEN that the API was started with."  # noqa: S105
_CHECK_WAY = (
    "Reading needs no token: look at the host in API_URL, and at what stands between, such as a"
    " proxy that lets only some in."
)
_START_API = (
    "Start the API, or set API_URL to where it runs. Inside a container, localhost is the"
    " container itself."
)
_HINTS = {
    400: "Look at ALLOWED_HOSTS of the API.",
    401: _CHECK_TOKEN,
    403: "The API takes a write for one of another site: see which Origin a proxy adds to it.",
    409: "Choose another id, or change the user who has this one.",
    413: "Send less at once.",
    422: "Correct what it names.",
    429: "Wait a moment.",
    507: "Delete users, or start the API with a larger MAX_USERS.",
}

_NOT_CONNECTED = f"No connection was made within {CONNECT_TIMEOUT_SECONDS:g} seconds."
_SILENT = f"The API went silent for {READ_TIMEOUT_SECONDS:g} seconds."

# The first row whose exception is among the causes tells why no answer arrived.
_REASONS: tuple[tuple[type[BaseException], str, str], ...] = (
    (socket.gaierror, "The name in the address does not resolve to a machine.", _CHECK_NAME),
    (ConnectionRefusedError, "Nothing is listening there: connection refused.", _START_API),
    (ssl.SSLError, "No secure (TLS) connection could be made.", _CHECK_TLS),
    (httpx2.ConnectTimeout, _NOT_CONNECTED, _START_API),
    (httpx2.TimeoutException, _SILENT, _CHECK_LOG),
    (TimeoutError, "The answer was not complete after {:.2g} seconds.", _CHECK_LOG),
    (httpx2.TransportError, "The connection broke off in the middle.", _CHECK_LOG),
    (Exception, "The address cannot be asked.", CHECK_ADDRESS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A good answer: its body, its headers, and how long it took in seconds."""

    url: str
    body: bytearray
    headers: Mapping[str, str]
    seconds: float

    def read(self, reader: Callable[[bytearray], T]) -> T:
        """Return what `reader` makes of the body. Raises AnswerNotUnderstood."""
        try:
            return reader(self.body)
        except NotUnderstood as error:
            reason = f"The answer was not understood. {error}"
            raise AnswerNotUnderstood(self.url, reason, CHECK_ADDRESS) from error


class Session:
    """Some requests that together take no longer than `total_seconds`.

    `kept` tells that the client may hold a connection of an earlier session.
    """

    def __init__(
        self, client: httpx2.AsyncClient, settings: Settings, total_seconds: float, kept: bool
    ) -> None:
        self._client = client
        self._settings = settings
        self._total_seconds = total_seconds
        self._kept = kept
        self._deadline = asyncio.get_running_loop().time() + total_seconds

    async def ask(
        self,
        url: str,
        method: str = "GET",
        params: Mapping[str, str | int] | None = None,
        limit_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Return the API's answer when its status is 2xx. Raises ApiFault for any other."""
        token = self._settings.api_token if method != "GET" else None
        request_id = f"{random.randrange(1, 2**64):016x}"  # noqa: S311 (tells apart, guards nothing)
        headers = _names_of(request_id) | ({"Authorization": f"Bearer {token}"} if token else {})
        started_at = asyncio.get_running_loop().time()
        try:
            request = self._client.build_request(method, url, params=params, headers=headers)
            # The client's own timeouts start anew with each byte: only this one ends a trickle.
            async with (
                asyncio.timeout_at(self._deadline),
                aclosing(await self._send(request)) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > limit_bytes and response.is_success:
                        reason = f"The answer is larger than {limit_bytes:,} bytes."
                        raise AnswerUnusable(url, reason, CHECK_ADDRESS)
                    if len(body) > limit_bytes:
                        break  # of an error, its status says enough
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(url, error) from error
        if not response.is_success and response.status_code not in (404, 405, 422):
            path = response.request.url.path  # not what follows it, which may hold a name
            logging.warning(
                "%s %s answered %d, request %s", method, path, response.status_code, request_id
            )
        _require_data(url, response, body)
        seconds = asyncio.get_running_loop().time() - started_at
        return Answer(url=url, body=body, headers=response.headers, seconds=seconds)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Return the head of the answer; ask anew where the API had closed a kept connection."""
        if self._kept and request.method == "GET":  # which may be repeated without harm
            self._kept = False
            with suppress(httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                return await self._client.send(request, stream=True)
        return await self._client.send(request, stream=True)

    def _unreachable(self, url: str, error: Exception) -> ApiUnreachable:
        causes = tuple(_causes(error))
        reason, hint = next(
            (reason, hint)
            for kind, reason, hint in _REASONS
            if any(isinstance(cause, kind) for cause in causes)
        )
        return ApiUnreachable(url, reason.format(self._total_seconds), hint)


class Line:
    """A way to the API, whose connection is kept from one session to the next.

    Sessions wait for one another. After a fault all is opened anew: nothing that hangs is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._opened: tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None

    def run(
        self, work: Callable[[Session], Awaitable[T]], total_seconds: float = TOTAL_TIMEOUT_SECONDS
    ) -> T:
        """Return what `work` makes of its session, within `total_seconds`. Raises ApiFault."""
        with self._lock:
            kept = self._opened is not None
            loop, client = self._opened = self._opened or (asyncio.new_event_loop(), _client())

            async def in_a_session() -> T:
                return await work(Session(client, self._settings, total_seconds, kept))

            try:
                return loop.run_until_complete(in_a_session())
            except BaseException:
                self._hang_up()
                raise

    def close(self) -> None:
        """Let go of the connection, after a session that is under way."""
        with self._lock:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._opened:
            (loop, client), self._opened = self._opened, None
            # asyncio.run() would wait here for a look-up of the host name that hangs.
            loop.run_until_complete(client.aclose())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def run(
    settings: Settings,
    work: Callable[[Session], Awaitable[T]],
    total_seconds: float = TOTAL_TIMEOUT_SECONDS,
) -> T:
    """Return what `work` makes of a session with connections of its own. Raises ApiFault."""
    with closing(Line(settings)) as line:
        return line.run(work, total_seconds)


def _client() -> httpx2.AsyncClient:
    # Proxies and credentials in the environment are left alone, redirects are not followed.
    return httpx2.AsyncClient(
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        limits=httpx2.Limits(keepalive_expiry=KEPT_SECONDS),
        verify=_tls(),
        trust_env=False,
        follow_redirects=False,
    )


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)  # loading the certificates takes 20 ms


def _names_of(request_id: str) -> dict[str, str]:
    """Return the headers by which the API's log, and a trace (W3C), know a request."""
    return {
        "X-Request-ID": request_id,
        "traceparent": f"00-{request_id:0>32}-{request_id}-01",
    }


def _require_data(url: str, response: httpx2.Response, body: bytearray) -> None:
    status = response.status_code
    answered = f"The API answered {status} {response.reason_phrase[:50]}".strip()
    if response.is_redirect:
        target = response.headers.get("location", "nowhere")[:100]
        raise AnswerUnusable(url, f"{answered}, pointing to {target}.", _CHECK_REDIRECT)
    if 400 <= status < 500 or status == 507:
        hint = _hint(status, response.request)
        raise ApiRefuses(status, url, f"{answered}.", hint, read_detail(body))
    if not response.is_success or (response.request.method == "GET" and status != 200):
        hint = _CHECK_LOG if status >= 500 else CHECK_ADDRESS
        raise AnswerUnusable(url, f"{answered}.", hint, read_detail(body))
    if "html" in response.headers.get("content-type", "").lower():
        raise AnswerUnusable(url, "A web page (HTML) came back instead of data.", CHECK_ADDRESS)


def _hint(status: int, request: httpx2.Request) -> str:
    """Return what to do about a refusal: the same status means other things for other requests."""
    if request.method == "GET" and status in (401, 403):
        return _CHECK_WAY
    if request.method != "GET" and status == 404:
        return "Somebody else deleted it: close this and reload."
    if status == 401 and "Authorization" in request.headers:
        return "The API does not accept this API_TOKEN. Start the dashboard with the API's own."
    return _HINTS.get(status, CHECK_ADDRESS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and all it was raised from: the one that tells the reason lies deep inside."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _causes(part)
        error = error.__cause__ or error.__context__
