"""Requests to the API, with limits on time and size, and the poller that all viewers share."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urljoin

import httpx2
import msgspec

SILENCE_TIMEOUT_SECONDS = 2.0  # to connect, and between two parts of a response
TOTAL_TIMEOUT_SECONDS = 5.0
MAX_RETRY_AFTER_SECONDS = 60
MAX_RESPONSE_BYTES = 64 * 1024
TICK_SECONDS = 2  # the poller sends at most one request in this time
HISTORY_LENGTH = 900  # responses that a poller keeps

T = TypeVar("T")

now = time.monotonic  # the clock of the pages; tests replace it


@dataclass(eq=False)
class ApiError(Exception):
    """Why there is no usable response: a badge, a sentence; without a response, the exception."""

    kind: str
    url: str
    reason: str = ""
    body: bytes | bytearray = b""
    status: int | None = None
    retry_after_seconds: float = 0.0
    cause: Exception | None = None


class Response(NamedTuple):
    """A response with a 2xx status."""

    url: str
    body: bytearray
    headers: Mapping[str, str]

    def decode(self, kind: type[T]) -> T:
        """Return the JSON body as `kind`. Raises ApiError."""
        # Invalid UTF-8 makes one name partly unreadable, not the whole response.
        text = self.body.decode("utf-8-sig", errors="replace")
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            reason = f"The response is not as expected: {str(error)[:200]}."
            raise ApiError("Not understood", self.url, reason) from None


class ApiClient:
    """Sends requests to one API, from any thread; the `token` is sent with writes only."""

    def __init__(self, users_url: str, token: str | None = None) -> None:
        self.users_url, self._token = users_url, token
        self._http = _new_http_client()

    def beside(self, path: str) -> str:
        """Return the address of another path of the API, such as `health`, with the same prefix."""
        return urljoin(self.users_url.rstrip("/") + "/", f"../{path}")

    def request(
        self,
        url: str,
        method: str = "GET",
        params: Mapping[str, str | int] | None = None,
        max_bytes: int = MAX_RESPONSE_BYTES,
        if_match: str | None = None,
    ) -> Response:
        """Return the complete response within TOTAL_TIMEOUT_SECONDS. Raises ApiError."""
        http, headers = self._http, {"X-Request-ID": secrets.token_hex(8)}
        headers |= {"If-Match": if_match} if if_match else {}
        if self._token and method != "GET":
            headers["Authorization"] = f"Bearer {self._token}"
        # The timeouts of httpx2 start again with each byte, and do not limit the host name lookup.
        thread = ThreadPoolExecutor(1, "request")
        try:
            request = http.build_request(method, url, params=params, headers=headers)
            response = thread.submit(_exchange, http, request, max_bytes)
            return response.result(TOTAL_TIMEOUT_SECONDS)
        except (OSError, RuntimeError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            if isinstance(error, TimeoutError):
                self._http = _new_http_client()
                http.close()  # this ends the thread that still reads
            raise ApiError("API down", url, cause=error) from None
        finally:
            thread.shutdown(wait=False)


def _new_http_client() -> httpx2.Client:
    # Proxies and credentials in the environment are ignored, redirects are not followed.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return httpx2.Client(headers=headers, timeout=SILENCE_TIMEOUT_SECONDS, trust_env=False)


def _exchange(http: httpx2.Client, request: httpx2.Request, max_bytes: int) -> Response:
    url, body = str(request.url), bytearray()
    try:
        response = http.send(request, stream=True)
    except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
        if request.method != "GET":
            raise
        response = http.send(request, stream=True)  # the API had closed a kept connection
    with closing(response):
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > max_bytes:
                break
    if not response.is_success or (request.method == "GET" and response.status_code != 200):
        raise _error_of(response, body)
    if len(body) > max_bytes:
        raise ApiError("API error", url, f"The response is larger than {max_bytes:,} bytes.")
    return Response(url, body, response.headers)


def _error_of(response: httpx2.Response, body: bytearray) -> ApiError:
    status, request = response.status_code, response.request
    if status not in (404, 405, 422):  # the path alone: the query may hold a name
        place = f"{request.method} {request.url.path}"
        logging.warning("%s: status %d, request %s", place, status, request.headers["x-request-id"])
    kind = "API refuses" if 400 <= status < 500 or status == 507 else "API error"
    reason = f"The API responded with {status} {response.reason_phrase[:50]}".strip()
    if response.is_redirect:
        reason += f", a redirect to {response.headers.get('location', 'nowhere')[:100]}"
    wait, wait_seconds = response.headers.get("retry-after", ""), 0.0
    with suppress(ValueError):  # a number of seconds, or a date (RFC 9110, section 10.2.3)
        then = parsedate_to_datetime(wait).timestamp() if not wait.isdecimal() else 0
        wait_seconds = then - time.time() if then else float(wait)
    wait_seconds = min(max(wait_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
    return ApiError(kind, str(request.url), f"{reason}.", body, status, wait_seconds)


class Latest(NamedTuple, Generic[T]):
    """The last good responses and failed requests with their times, and the error now, if any."""

    history: tuple[tuple[float, T], ...] = ()
    error: ApiError | None = None
    failures: tuple[tuple[float, str], ...] = ()

    @property
    def value(self) -> T | None:
        """The last good response, or None before the first one."""
        return self.history[-1][1] if self.history else None

    @property
    def seconds_old(self) -> float:
        """The age of the last good response; infinite before the first one."""
        return now() - self.history[-1][0] if self.history else float("inf")


class Poller(Generic[T]):
    """Calls `fetch` if a page needs data: at most once per `tick_seconds`, never two at a time."""

    def __init__(self, fetch: Callable[[], T], tick_seconds: int = TICK_SECONDS) -> None:
        self._fetch, self._tick_seconds, self._lock = fetch, tick_seconds, threading.Lock()
        self._thread = threading.Thread()  # of the last request; this one is never started
        self._next_at = float("-inf")
        self._latest = Latest[T]()

    def latest(self, wait_seconds: float, patience_seconds: float = 0.0) -> Latest[T]:
        """Start a request if one is due; return what is known after at most `wait_seconds`.

        With patience, it is started only if no other part of a page has done so for that time.
        """
        with self._lock:
            if now() >= self._next_at + patience_seconds and not self._thread.is_alive():
                self._next_at = (now() // self._tick_seconds + 1) * self._tick_seconds
                self._thread = threading.Thread(target=self._poll, name="poller", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(wait_seconds)
        return self._latest

    def _poll(self) -> None:
        history, error, failures = self._latest
        error, began, wait_seconds = None, now(), 0.0
        try:
            response = self._fetch()
            history = (*history[1 - HISTORY_LENGTH :], (now(), response))
            wait_seconds = getattr(response, "retry_after_seconds", 0.0)  # asked for by a part
        except ApiError as caught:
            error = caught.with_traceback(None)  # its frames would keep whole responses in memory
            wait_seconds = error.retry_after_seconds
        except Exception:  # the page must still work
            logging.exception("Reading a response failed.")
            error = ApiError("API error", "", "The dashboard failed to read the response.")
        if error:
            failures = (*failures[1 - HISTORY_LENGTH :], (began, error.kind))
        self._next_at = max(self._next_at, now() + wait_seconds)
        self._latest = Latest(history, error, failures)
