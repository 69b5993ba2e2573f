"""Creates users in the API: resolves conflicts and retries. No other file sends a retry."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote_plus

from generator import User

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, LONGEST_RETRY_AFTER_SECONDS = 0.3, 5.0, 60.0
MOST_BAD_RESPONSES = 3
T = TypeVar("T")
Attempt = Callable[[bool], Awaitable[T]]  # the bool: perhaps an earlier attempt stored the users
# For their meaning see README.md; taken: another user has the id, so ours needs a new one.
Outcome = Literal["created", "already there", "taken", "rejected", "given up", "not sent"]


class ApiError(Exception):
    """No usable response; the message continues "The API ...", such as "responded with 503"."""

    perhaps_stored = True  # the request was sent: the API may have stored its users

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotConnected(ApiError):
    """There was no connection: the request was not sent."""

    perhaps_stored = False


class BadResponse(ApiError):
    """The response cannot be understood: the third in a row ends the retries."""


PAGE, OTHER = object(), object()  # the body of a 2xx that is HTML, or neither HTML nor JSON


class Response(NamedTuple):
    """A 2xx, or an error that a retry cannot repair; `body`: JSON, None, or `PAGE` or `OTHER`."""

    status: int
    body: Any = None

    def get(self, key: str) -> Any:
        """The value of a key, or None if the body is not an object with this key."""
        return self.body.get(key) if isinstance(self.body, dict) else None


class Result(NamedTuple):
    """The outcome of a user or a batch, `seconds` after the start of the last attempt."""

    outcome: Outcome
    status: int = 0
    seconds: float = 0.0
    detail: object = None  # the API's reason for an error
    request_id: str = ""  # also in the API's access log
    # Of a batch: ids stored before; ids to send alone; may an earlier attempt have stored users?
    existing: frozenset[int] = frozenset()
    alone: frozenset[int] = frozenset()
    perhaps_stored: bool = False


Exchange = Callable[[str, str, str, bytes], Awaitable[Response]]


@dataclass
class Client:
    """Sends requests by `exchange(method, target, request_id, body)`, which raises ApiError."""

    exchange: Exchange
    wait_seconds: Callable[[], float]  # the shortest wait before a retry, at this moment
    say: Callable[[str], None]  # prints a sentence about an outage
    errors: Counter[str]
    _reported: object = None  # the failing attempt whose errors are printed
    _doubts: int = 0  # failed attempts in doubt in a row, of all users

    async def wait_until_healthy(self) -> None:
        """Return as soon as `GET /health` gives a 2xx that is not HTML."""
        await self.retry(self._check_health)

    async def _check_health(self, _: bool = False) -> None:
        status, body = await self.exchange("GET", "/health", new_request_id(), b"")
        if status >= 300:
            raise ApiError(f"responded with {status} (check API_BASE_URL and API_TOKEN)")
        if body is PAGE:
            raise ApiError("responded with HTML, not JSON")

    async def ask(self, method: str, target: str, request_id: str, body: bytes = b"") -> Response:
        """Send a request once. HTML may be of a proxy: then `/health` gives no good response."""
        response = await self.exchange(method, target, request_id, body)
        if response.body is PAGE:
            await self._check_health()
        return response

    async def create(self, user: User, perhaps_stored: bool = False) -> Result:
        """Create a user, who may be stored already; retry until the outcome is known."""
        request_id = new_request_id()
        target = f"/users/?user_id={user.user_id}&name={quote_plus(user.name)}&age={user.age}"

        async def post(perhaps_stored: bool) -> tuple[float, Response, bool]:
            started = now()
            return started, await self.ask("POST", target, request_id), perhaps_stored

        try:
            started, response, perhaps_stored = await self.retry(post, perhaps_stored)
            outcome = await self._outcome(user, response, perhaps_stored, request_id)
        except ApiError as error:
            return Result("given up", detail=f"The API {error}", request_id=request_id)
        detail = response.get("detail")
        return Result(outcome, response.status, now() - started, detail, request_id)

    async def _outcome(
        self, user: User, response: Response, perhaps_stored: bool, request_id: str
    ) -> Outcome:
        mine, success = (user.name, user.age), response.status < 300
        if success and response.get("user_id") == user.user_id:
            return "created"
        # The first API of the course responds with 200 and an error inside, instead of 409.
        conflict = response.status == 409 or (success and response.get("error"))
        doubtful = success and not conflict  # another API? Each POST might create a user there
        if not (conflict or doubtful or perhaps_stored):
            return "rejected"

        async def get(_: bool) -> tuple[object, object] | None:
            shown = await self.ask("GET", f"/users/{user.user_id}", request_id)
            found = name_and_age(shown.body) if shown.status < 300 else None
            if (doubtful and found != mine) or (conflict and perhaps_stored and not found):
                # The stored user may be ours: with a new id it would be stored twice.
                what = "an id is taken" if conflict else "a user was created"
                raise BadResponse(f"responded that {what}, but does not show its user")
            return found

        # An older API does not show the user. An earlier attempt may have stored a rejected user.
        stored = name_and_age(response.get("user")) or await self.retry(get, in_doubt=doubtful)
        if stored == mine:
            return "created" if perhaps_stored or doubtful else "already there"
        return "taken" if conflict else "rejected"

    async def retry(self, attempt: Attempt[T], sent: bool = False, in_doubt: bool = False) -> T:
        """Repeat `attempt(sent)` until success; raise the third BadResponse in a row.

        `sent`: perhaps stored already; `in_doubt`: every error of a connection counts as bad.
        """
        started, errors, bad_responses = now(), 0, 0
        try:
            while True:
                try:
                    result = await attempt(sent)
                    self._doubts = 0 if in_doubt else self._doubts
                    if self._reported is attempt:
                        self.say(f"The API is back after {now() - started:.1f} s")
                    return result
                except ApiError as error:
                    self.errors[str(error)] += 1
                    bad = isinstance(error, BadResponse) or (in_doubt and error.perhaps_stored)
                    bad_responses = bad_responses + 1 if bad else 0
                    self._doubts += bad and in_doubt
                    if max(bad_responses, self._doubts * in_doubt) >= MOST_BAD_RESPONSES:
                        raise
                    sent |= error.perhaps_stored
                    backoff = backoff_seconds(errors, error.retry_after_seconds)
                    seconds, errors = max(backoff, self.wait_seconds()), errors + 1
                    self._reported = self._reported or attempt
                    if self._reported is attempt:
                        self.say(f"The API {error}; next try in {seconds:.1f} s")
                while seconds > 0:  # again, if other retries used the budget
                    await asyncio.sleep(seconds)
                    seconds = self.wait_seconds()
        finally:
            if self._reported is attempt:
                self._reported = None


def backoff_seconds(errors: int, retry_after_seconds: float = 0.0) -> float:
    """Seconds to wait before a retry, after so many earlier errors; at least what the API asks."""
    # The jitter keeps simulators from retrying all at once (Brooker, "Exponential Backoff", 2015).
    ceiling = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(errors, 10))
    jittered = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
    return max(jittered, min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))


def name_and_age(user: object) -> tuple[object, object] | None:
    """Name and age of a stored user; the first API of the course shows them as a pair."""
    match user:
        case {"name": name, "age": age} | [name, age]:
            return name, age
    return None


def new_request_id() -> str:
    """A new id of 16 hexadecimal digits. All attempts to create a user send the same id."""
    return f"{random.getrandbits(64) or 1:016x}"


def now() -> float:
    """Seconds on the clock of the event loop."""
    return asyncio.get_running_loop().time()
