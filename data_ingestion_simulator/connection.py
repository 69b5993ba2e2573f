"""One exchange with the API: a request, its deadlines, its answer. Nothing is repeated here.

The only file that knows aiohttp.
"""

import math
from collections.abc import Mapping
from typing import Self

import aiohttp
from yarl import URL

from answers import Fault, Unreachable, check_status

CONNECT_TIMEOUT_SECONDS = 3.0
EXCHANGE_TIMEOUT_SECONDS = 10.0
# Less than the five seconds after which uvicorn closes an idle connection, perhaps under a request.
IDLE_CONNECTION_SECONDS = 2.0
LARGEST_BODY_BYTES = 256 * 1024  # ten thousand ids, which a batch may be answered with, and more
JSON = {"Content-Type": "application/json"}


class Connection:
    """The way to the API at `base_url`, for so many requests at once; `connector` is for tests."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        concurrency: int = 1,
        timeout_seconds: float = EXCHANGE_TIMEOUT_SECONDS,
        connector: aiohttp.BaseConnector | None = None,
    ) -> None:
        self._base_url = base_url
        self._token = token
        self._concurrency = concurrency
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        self._connector = connector

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._session = aiohttp.ClientSession(
            connector=self._connector
            or aiohttp.TCPConnector(
                keepalive_timeout=IDLE_CONNECTION_SECONDS, limit=self._concurrency
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_seconds,
                connect=self._connect_timeout_seconds,
                ceil_threshold=math.inf,  # not rounded up to whole seconds
            ),
            headers=headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of a 2xx answer or a refusal; raises Fault when there is none.

        A `body` is JSON.
        """
        address = URL(self._base_url + path)  # the library remembers those it has taken apart
        try:
            async with self._session.request(
                method,
                address.with_query(query) if query else address,
                data=body,
                headers=JSON if body else None,
                allow_redirects=False,
                middlewares=[self._send_once] if method == "GET" else None,
            ) as response:
                check_status(response.status, response.headers)
                answer = bytearray()
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > LARGEST_BODY_BYTES:
                        raise Fault(f"answered with more than {LARGEST_BODY_BYTES // 1024} KiB")
                if self._token and response.status >= 400:
                    # What a refusal says may be printed, and it might repeat the secret.
                    answer = answer.replace(self._token.encode(), b"***")
                return response.status, bytes(answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._fault(error) from error

    async def _send_once(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware: aiohttp would send a failed GET a second time; a Fault keeps it from that."""
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> Fault:
        """The fault in our own words: those of aiohttp may hold the address, and so the name."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return Unreachable(f"gave no connection within {self._connect_timeout_seconds:g} s")
            case aiohttp.ClientConnectorDNSError():
                return Unreachable("has a host name that cannot be looked up")
            case aiohttp.ClientSSLError():
                return Unreachable("could not be trusted over TLS")
            case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
                return Unreachable("refused the connection")
            case aiohttp.ClientConnectorError():
                return Unreachable("cannot be reached")
            case TimeoutError():
                return Fault(f"gave no answer within {self._timeout_seconds:g} s")
            case aiohttp.ServerDisconnectedError() | OSError():
                return Fault("closed the connection without an answer")
            case aiohttp.ClientPayloadError():
                return Fault("broke off in the middle of its answer")
            case _:
                return Fault("answered with something that is not HTTP")
