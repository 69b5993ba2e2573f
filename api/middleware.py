"""The one ASGI middleware: what happens to every request before and after its route."""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"}
CLOSE = (b"connection", b"close")
ADDRESSES = {b"location", b"link"}  # headers that contain a path of this API

# Called after each request with its method, route template, status, seconds and request id.
Observe = Callable[[str, str, int, float, str], None]
# Returns the error response for a request that may not reach its route.
Refusal = Callable[[Scope, dict[bytes, bytes]], JSONResponse | None]

_request_id_pattern = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    """Asks `refusal` first, runs HEAD as GET, and gives each request an id.

    It responds to an unexpected exception with 500. So this response has a request id, too, and
    the log has the traceback with the same id. `report` gets what a simulator says about itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        refusal: Refusal,
        observers: tuple[Observe, ...],
        report: Callable[[bytes], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._refusal = refusal
        self._observers = observers
        self._report = report
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            handle = _refuse_websocket if scope["type"] == "websocket" else self._app
            await handle(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        if b"x-simulator" in headers:
            self._report(headers[b"x-simulator"])
        status = 0
        prefix = ""

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if prefix:
                    message["headers"] = _with_prefix(message["headers"], prefix.encode())
                if self._is_stopping():  # no new request on it: the process ends soon
                    message["headers"].append(CLOSE)
            elif method == "HEAD":
                message = {**message, "body": b""}
            return send(message)

        try:
            app = self._refusal(scope, headers) or self._app  # a response is an ASGI app, too
            prefix = scope["root_path"]
            await app(scope, receive, send_with_id)
        except Exception:
            logging.getLogger("api").exception("request %s failed", request_id.decode())
            if status:
                raise  # the response has begun: only closing the connection can tell the client
            failed = JSONResponse({"detail": "Internal Server Error"}, 500)
            await failed(scope, receive, send_with_id)
        finally:
            # A mount, such as that of the static files, has added its path to `root_path`.
            mount = scope["root_path"].removeprefix(prefix)
            route = getattr(scope.get("route"), "path", None) or mount or "unmatched"
            seconds = time.perf_counter() - started
            for observe in self._observers:
                observe(method, route, status, seconds, request_id.decode())


def _request_id(headers: dict[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id", b"")
    if _request_id_pattern.fullmatch(given):
        return given
    # It distinguishes requests and protects nothing, so it need not be hard to guess.
    return random.randbytes(8).hex().encode()  # noqa: S311


def _with_prefix(headers: list[tuple[bytes, bytes]], prefix: bytes) -> list[tuple[bytes, bytes]]:
    """Put the path prefix of a proxy before the API's own addresses in a response."""
    return [
        (name, value.replace(b"/", prefix + b"/", 1) if name in ADDRESSES else value)
        for name, value in headers
    ]


async def _refuse_websocket(scope: Scope, _: Receive, send: Send) -> None:
    """Respond to a WebSocket with 404: the API has none."""
    if "websocket.http.response" not in scope.get("extensions", ()):
        await send({"type": "websocket.close"})
        return
    kind = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": 404, "headers": kind})
    await send({"type": "websocket.http.response.body", "body": b'{"detail":"Not Found"}'})
