"""The one ASGI middleware: what happens to every request before and after its route.

A web page of another site can send requests to localhost from the user's own browser. Two headers
reveal such requests, because a page cannot forge them: `Origin` names the page's site, and `Host`
is a foreign name if that name resolves to this machine (DNS rebinding).
"""

import logging
import random
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
METHODS = SAFE_METHODS | {"POST", "PUT", "DELETE", "PATCH"}
CLOSE = (b"connection", b"close")

# Called after each request with its method, route template, status, seconds and request id.
Observe = Callable[[str, str, int, float, str], None]

_port_pattern = re.compile(rb":[0-9]+\Z")
_request_id_pattern = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    """Checks `Host`, `Origin` and the token, runs HEAD as GET, and gives each request an id.

    It responds to an unexpected exception with 500. So this response has a request id, too, and
    the log has the traceback with the same id.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed_hosts: tuple[str, ...],
        api_token: str | None,
        observers: tuple[Observe, ...],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._is_allowed_host = _host_check(allowed_hosts)
        self._api_token = None if api_token is None else api_token.encode()
        self._observers = observers
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        request_id = _request_id(scope)
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if self._is_stopping():  # no new request on it: the process ends soon
                    message["headers"].append(CLOSE)
            elif method == "HEAD":
                message = {**message, "body": b""}
            return send(message)

        try:
            app = self._refusal(scope) or self._app  # a response is an ASGI app, too
            await app(scope, receive, send_with_id)
        except Exception:
            logging.getLogger("api").exception("request %s failed", request_id.decode())
            if status:
                raise  # the response has begun: only closing the connection can tell the client
            await _error(500, "Internal Server Error")(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            seconds = time.perf_counter() - started
            for observe in self._observers:
                observe(method, route, status, seconds, request_id.decode())

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """Return the error response for a request that may not reach its route."""
        headers = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            return _error(400, "A request has one Host header")
        if not self._is_allowed_host(hosts[0]):
            return _error(400, "The Host header names a host that is not in ALLOWED_HOSTS")
        if scope["path"].endswith("\n"):  # "$" in Starlette's patterns ignores it
            return _error(404, "Not Found")
        if scope["method"] in SAFE_METHODS:
            return None
        for name, value in headers:
            if name == b"origin" and value.lower().partition(b"://")[2] != hosts[0].lower():
                return _error(403, "A page of another site may not write here")
        if self._api_token and not _has_token(headers, self._api_token):
            return _error(401, "A write needs the API's token", {"WWW-Authenticate": "Bearer"})
        return None


def _has_token(headers: list[tuple[bytes, bytes]], token: bytes) -> bool:
    scheme, _, given = dict(headers).get(b"authorization", b"").partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), token)


def _host_check(allowed_hosts: tuple[str, ...]) -> Callable[[bytes], bool]:
    """Return the check of a Host header. Results are cached: clients repeat the same header."""

    @lru_cache(maxsize=100)
    def is_allowed(host: bytes) -> bool:
        name = _port_pattern.sub(b"", host.lower()).decode("latin-1")
        return "*" in allowed_hosts or name in allowed_hosts

    return is_allowed


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _request_id_pattern.fullmatch(value):
            return bytes(value)
    # It distinguishes requests and protects nothing, so it need not be hard to guess.
    return random.randbytes(8).hex().encode()  # noqa: S311


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
