"""Speaking to the API, and surviving its absence. The only file that knows aiohttp and stamina.

A fault is repeated without end, by one layer, and nowhere else.
"""

import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

import aiohttp
import stamina
import stamina.instrumentation

from answers import Fault, Unreachable, check_status, json_object, refusal
from generator import User

CONNECT_TIMEOUT_SECONDS = 3.0
EXCHANGE_TIMEOUT_SECONDS = 10.0
# Less than the five seconds after which uvicorn closes an idle connection, perhaps under a request.
IDLE_CONNECTION_SECONDS = 2.0
LARGEST_BODY_BYTES = 64 * 1024
FIRST_BACKOFF_SECONDS = 0.3
LONGEST_BACKOFF_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 60.0

Outcome = Literal["created", "already there", "taken", "rejected"]
T = TypeVar("T")

stamina.instrumentation.set_on_retry_hooks([])  # Client._until_answered has words of its own
_RETRYING = stamina.AsyncRetryingCaller(attempts=None, timeout=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a user; `seconds` is the length of the exchange that decided it."""

    outcome: Outcome
    status: int
    seconds: float
    reason: str = ""


class Client:
    """A conversation with the API at `base_url`; `say` is given a sentence about each outage."""

    def __init__(
        self,
        base_url: str,
        say: Callable[[str], None],
        timeout_seconds: float = EXCHANGE_TIMEOUT_SECONDS,
    ) -> None:
        self._base_url = base_url
        self._say = say
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=IDLE_CONNECTION_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_seconds,
                connect=self._connect_timeout_seconds,
                ceil_threshold=math.inf,  # not rounded up to whole seconds
            ),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=[self._send_once],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def wait_until_healthy(self) -> None:
        """Return as soon as `GET /health` answers 2xx, however long that takes."""
        await self._until_answered(self._ask_health)

    async def create(self, user: User) -> Answer:
        """Create the user, however long the API is away.

        "created" is said only of a user known to have arrived: acknowledged, or found stored after
        an answer was lost. "already there" was stored before we came, "taken" means that the id is
        somebody else's, "rejected" that the API does not want this user.
        """
        perhaps_stored = False

        async def exchange() -> Answer:
            nonlocal perhaps_stored
            started = time.perf_counter()
            try:
                outcome, status, reason = await self._post(user)
            except Fault as fault:
                perhaps_stored |= not isinstance(fault, Unreachable)
                raise
            if outcome == "taken":
                outcome = await self._compare_with_stored(user, perhaps_stored)
            return Answer(outcome, status, time.perf_counter() - started, reason)

        return await self._until_answered(exchange)

    async def _post(self, user: User) -> tuple[Outcome, int, str]:
        """Outcome, status and reason of one `POST /users/`; raises Fault."""
        params: dict[str, str | int] = {"user_id": user.user_id, "name": user.name, "age": user.age}
        status, body = await self._exchange("POST", "/users/", params)
        # The classroom's first API answers 200 with an error inside where 409 is meant.
        if status == 409 or (status < 300 and "error" in json_object(body)):
            return "taken", status, ""
        if status < 300:
            return "created", status, ""
        return "rejected", status, refusal(body, name=user.name, age=user.age)

    async def _compare_with_stored(self, user: User, perhaps_stored: bool) -> Outcome:
        """Whose is the id that is taken? Raises Fault where that cannot be told yet."""
        status, body = await self._exchange("GET", f"/users/{user.user_id}")
        stored = json_object(body) if status < 300 else {}
        if (stored.get("name"), stored.get("age")) == (user.name, user.age):
            return "created" if perhaps_stored else "already there"
        if perhaps_stored and "name" not in stored:
            # It may be ours: under a new id the same person would be stored twice.
            raise Fault(f"called an id taken, then answered {status} without showing its user")
        return "taken"

    async def _ask_health(self) -> None:
        status, _ = await self._exchange("GET", "/health")
        if status >= 300:
            raise Fault(f"answered {status} when asked for its health")

    async def _until_answered(self, exchange: Callable[[], Awaitable[T]]) -> T:
        """Repeat the exchange until it raises no Fault, saying so: the one layer that retries."""
        started = time.monotonic()
        faults = 0

        def wait_seconds(error: Exception) -> float | bool:
            nonlocal faults
            if not isinstance(error, Fault):
                return False
            seconds = backoff_seconds(faults, error.retry_after_seconds)
            faults += 1
            self._say(f"The API {error}; next try in {seconds:.1f} s")
            return seconds

        answer = await _RETRYING(wait_seconds, exchange)
        if faults:
            self._say(f"The API is back after {time.monotonic() - started:.1f} s")
        return answer

    async def _exchange(
        self, method: str, path: str, params: dict[str, str | int] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a 2xx or 4xx answer; raises Fault when there is none."""
        try:
            async with self._session.request(
                method, self._base_url + path, params=params, allow_redirects=False
            ) as response:
                check_status(response.status, response.headers)
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > LARGEST_BODY_BYTES:
                        raise Fault(f"answered with more than {LARGEST_BODY_BYTES // 1024} KiB")
                return response.status, bytes(body)
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


def backoff_seconds(faults: int, retry_after_seconds: float = 0.0) -> float:
    """Seconds to wait after so many earlier faults in a row, and at least what the API asked for.

    Exponential with a cap and "equal jitter": half of it fixed, half drawn, so that simulators do
    not come back all at once (Marc Brooker, "Exponential Backoff And Jitter", AWS, 2015).
    """
    ceiling = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(faults, 10))
    jittered = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
    return max(jittered, min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))
