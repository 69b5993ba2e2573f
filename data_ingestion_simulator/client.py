"""Creates users in the API: resolves conflicts and retries. No other file sends a retry."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any, Literal, NamedTuple
from urllib.parse import quote_plus

from generator import User

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, LONGEST_RETRY_AFTER_SECONDS = 0.3, 5.0, 60.0
MOST_BAD_RESPONSES = 3
PAGE = object()  # the body of a 2xx that is HTML, as from a proxy or a login
# For their meaning see README.md; taken: another user has the id, so ours needs a new one.
Outcome = Literal["created", "already there", "taken", "rejected", "given up"]


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
    """The API does not show a user whom it should have: the third in a row ends the retries."""


class Response(NamedTuple):
    """A 2xx, or an error that a retry cannot repair; `body`: JSON, `PAGE`, or else None."""

    status: int
    body: Any = None
    seconds: float = 0.0  # since the request
    perhaps_stored: bool = False  # may an earlier attempt have stored the users?

    def get(self, key: str) -> Any:
        """The value of a key, or None if the body is not an object with this key."""
        return self.body.get(key) if isinstance(self.body, dict) else None


class Result(NamedTuple):
    """The outcome of users, and the response that decided it."""

    outcome: Outcome
    response: Response = Response(0)
    request_id: str = ""  # also in the API's access log
    detail: object = None  # our reason for the outcome


Exchange = Callable[[str, str, str, bytes], Awaitable[Response]]
Attempt = Callable[[], Awaitable[Response]]


@dataclass
class Client:
    """Sends requests by `exchange(method, target, request_id, body)`, which raises ApiError."""

    exchange: Exchange
    wait_seconds: Callable[[], float]  # the shortest wait before a retry, at this moment
    say: Callable[[str], None]  # prints a sentence about an outage
    errors: Counter[str]
    _reported: object = None  # the failing attempt whose errors are printed
    _bad_responses: int = 0  # in a row, of all users

    async def check_health(self) -> Response:
        """Send `GET /health`. Raises ApiError if it does not give a 2xx, or if that is HTML."""
        response = await self.exchange("GET", "/health", token_hex(8), b"")
        if response.status >= 300:
            hint = "check API_BASE_URL and API_TOKEN"
            raise ApiError(f"responded with {response.status} ({hint})")
        if response.body is PAGE:
            raise ApiError("responded with HTML, not JSON")
        return response

    async def ask(self, method: str, target: str, request_id: str, body: bytes = b"") -> Response:
        """Send a request once. HTML may be of a proxy: then `/health` gives no good response."""
        started = now()
        response = await self.exchange(method, target, request_id, body)
        if response.body is PAGE:
            await self.check_health()
        return response._replace(seconds=now() - started)

    async def create(self, user: User, perhaps_stored: bool = False) -> Result:
        """Create a user, who may be stored already; retry until the outcome is known."""
        request_id = token_hex(8)  # all attempts send the same one
        target = f"/users/?user_id={user.user_id}&name={quote_plus(user.name)}&age={user.age}"
        post = partial(self.ask, "POST", target, request_id)
        try:
            response = await self.retry(post, perhaps_stored)
            outcome = await self._outcome(user, response, request_id)
        except ApiError as error:
            return Result("given up", detail=f"The API {error}", request_id=request_id)
        return Result(outcome, response, request_id)

    async def _outcome(self, user: User, response: Response, request_id: str) -> Outcome:
        mine, success = (user.name, user.age), response.status < 300
        if success and response.get("user_id") == user.user_id:
            return "created"
        # The first API of the course responds with 200 and an error inside, instead of 409.
        conflict = response.status == 409 or (success and response.get("error"))
        doubtful = success and not conflict  # another API? Each POST might create a user there
        if not (conflict or doubtful or response.perhaps_stored):
            return "rejected"

        async def get() -> Response:
            try:
                shown = await self.ask("GET", f"/users/{user.user_id}", request_id)
            except ApiError as error:
                if doubtful and error.perhaps_stored:
                    raise BadResponse(str(error)) from None
                raise
            found = name_and_age(shown.body)
            if (doubtful and found != mine) or (conflict and response.perhaps_stored and not found):
                # The stored user may be ours: with a new id it would be stored twice.
                what = "an id is taken" if conflict else "a user was created"
                raise BadResponse(f"responded that {what}, but does not show its user")
            self._bad_responses = 0
            return shown

        stored = name_and_age(response.get("user"))
        if not stored:  # an older API does not show it; and a user may be stored, then rejected
            stored = name_and_age((await self.retry(get)).body)
        if stored == mine:
            return "created" if response.perhaps_stored or doubtful else "already there"
        return "taken" if conflict else "rejected"

    async def retry(self, attempt: Attempt, perhaps_stored: bool = False) -> Response:
        """Repeat `attempt` until success; raise the third BadResponse in a row."""
        started, errors = now(), 0
        try:
            while True:
                try:
                    response = await attempt()
                    if self._reported is attempt:
                        self.say(f"The API is back after {now() - started:.1f} s")
                    return response._replace(perhaps_stored=perhaps_stored)
                except ApiError as error:
                    self.errors[str(error)] += 1
                    if isinstance(error, BadResponse):
                        self._bad_responses += 1
                        if self._bad_responses >= MOST_BAD_RESPONSES:
                            raise
                    perhaps_stored |= error.perhaps_stored
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
    jittered = ceiling * random.uniform(0.5, 1.0)
    return max(jittered, min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))


def name_and_age(user: object) -> tuple[object, object] | None:
    """Name and age of a stored user; the first API of the course shows them as a pair."""
    match user:
        case {"name": name, "age": age} | [name, age]:
            return name, age
    return None


def now() -> float:
    """Seconds on the clock of the event loop."""
    return asyncio.get_running_loop().time()
