"""Asking the API: every request with its timeouts, its deadline and its size limit.

Whatever goes wrong becomes an ApiFault that says what happened and what can be done.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import cache

import httpx2

from schema import AgeCounts, NotUnderstood, read_listing, read_statistics
from settings import Settings

CONNECT_TIMEOUT_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 2.0
TOTAL_TIMEOUT_SECONDS = 5.0
MAX_STATISTICS_BYTES = 64 * 1024
MAX_LISTING_BYTES = 256 * 1024 * 1024


class ApiFault(Exception):
    """Why there are no counts.

    `reason` is one sentence, `hint` says what to do about it, `url` is the address that was
    asked. All are plain text and may quote what came from outside.
    """

    def __init__(self, url: str, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.url = url
        self.reason = reason
        self.hint = hint


class ApiUnreachable(ApiFault):
    """No complete answer arrived."""


class AnswerUnusable(ApiFault):
    """An answer arrived, and it was not the one asked for."""


class CallMissing(AnswerUnusable):
    """The API answers, but does not know the call."""


_CHECK_ADDRESS = (
    "Check API_URL: it must be the full address of the users, such as http://localhost:8000/users/."
)
_CHECK_LOG = "Look at what the API wrote in its terminal or log."
_CHECK_NAME = (
    "Check the name in API_URL. Between containers it is the name or alias of the API's"
    " container, and both must be in the same network."
)
_CHECK_REDIRECT = "Set API_URL to an address that answers by itself; redirects are not followed."
_CHECK_TLS = "Write http:// in API_URL if the API does not use TLS; otherwise see its certificate."
_START_API = (
    "Start the API, or set API_URL to where it runs. Inside a container, localhost is the"
    " container itself."
)

_NOT_CONNECTED = f"No connection was made within {CONNECT_TIMEOUT_SECONDS:g} seconds."
_SILENT = f"The API went silent for {READ_TIMEOUT_SECONDS:g} seconds."
_TOO_SLOW = f"The answer was not complete after {TOTAL_TIMEOUT_SECONDS:g} seconds."

# The first row whose exception is among the causes tells why no answer arrived.
_REASONS: tuple[tuple[type[BaseException], str, str], ...] = (
    (socket.gaierror, "The name in the address does not resolve to a machine.", _CHECK_NAME),
    (ConnectionRefusedError, "Nothing is listening there: connection refused.", _START_API),
    (ssl.SSLError, "No secure (TLS) connection could be made.", _CHECK_TLS),
    (httpx2.ConnectTimeout, _NOT_CONNECTED, _START_API),
    (httpx2.TimeoutException, _SILENT, _CHECK_LOG),
    (TimeoutError, _TOO_SLOW, _CHECK_LOG),
    (httpx2.TransportError, "The connection broke off in the middle.", _CHECK_LOG),
    (Exception, "The address cannot be asked.", _CHECK_ADDRESS),
)


def fetch_age_counts(settings: Settings) -> AgeCounts:
    """Ask the API for its age counts, or count the users it lists where it keeps no counts.

    Takes at most TOTAL_TIMEOUT_SECONDS for both requests together. Raises ApiFault when there is
    no usable answer.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_fetch_age_counts(settings))
    finally:
        # asyncio.run() would wait here for a look-up of the host name that hangs.
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _fetch_age_counts(settings: Settings) -> AgeCounts:
    deadline = asyncio.get_running_loop().time() + TOTAL_TIMEOUT_SECONDS
    # A new client each time: nothing is kept from one tick to the next that could go stale.
    # Proxies and credentials in the environment are left alone, redirects are not followed.
    async with httpx2.AsyncClient(
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        verify=_tls(),
        trust_env=False,
        follow_redirects=False,
    ) as client:
        try:
            url = settings.statistics_url
            body = await _get(client, url, MAX_STATISTICS_BYTES, deadline)
            return _read(url, body, read_statistics)
        except CallMissing:
            url = settings.api_url
            body = await _get(client, url, MAX_LISTING_BYTES, deadline)
            return _read(url, body, read_listing)


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)  # loading the certificates takes 20 ms


async def _get(
    client: httpx2.AsyncClient, url: str, limit_bytes: int, deadline: float
) -> bytearray:
    """Return the body of a 200 answer. `deadline` is in the event loop's time; raises ApiFault."""
    try:
        # The client's own timeouts start anew with each byte: only the deadline ends a trickle.
        async with asyncio.timeout_at(deadline), client.stream("GET", url) as response:
            _require_data(url, response)
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit_bytes:
                    reason = f"The answer is larger than {limit_bytes:,} bytes."
                    raise AnswerUnusable(url, reason, _CHECK_ADDRESS)
            return body
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _unreachable(url, error) from error


def _require_data(url: str, response: httpx2.Response) -> None:
    answered = f"The API answered {response.status_code} {response.reason_phrase[:50]}".strip()
    if response.status_code in (404, 405):
        raise CallMissing(url, f"{answered}.", _CHECK_ADDRESS)
    if response.is_redirect:
        target = response.headers.get("location", "nowhere")[:100]
        raise AnswerUnusable(url, f"{answered}, pointing to {target}.", _CHECK_REDIRECT)
    if response.status_code != 200:
        hint = _CHECK_LOG if response.status_code >= 500 else _CHECK_ADDRESS
        raise AnswerUnusable(url, f"{answered}.", hint)
    if "html" in response.headers.get("content-type", "").lower():
        raise AnswerUnusable(url, "A web page (HTML) came back instead of data.", _CHECK_ADDRESS)


def _read(url: str, body: bytearray, reader: Callable[[bytearray], AgeCounts]) -> AgeCounts:
    try:
        return reader(body)
    except NotUnderstood as error:
        reason = f"The answer was not understood. {error}"
        raise AnswerUnusable(url, reason, _CHECK_ADDRESS) from error


def _unreachable(url: str, error: Exception) -> ApiUnreachable:
    causes = tuple(_causes(error))
    reason, hint = next(
        (reason, hint)
        for kind, reason, hint in _REASONS
        if any(isinstance(cause, kind) for cause in causes)
    )
    return ApiUnreachable(url, reason, hint)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and all it was raised from: the one that tells the reason lies deep inside."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _causes(part)
        error = error.__cause__ or error.__context__
