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
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
METHODS = SAFE_METHODS | {"POST", "PUT", "DELETE", "PATCH"}
PROBES = {"/health", "/ready"}  # probes use any name or address, and learn nothing secret
DEFAULT_PORTS = {"http": "80", "https": "443"}
CLOSE = (b"connection", b"close")
ADDRESSES = {b"location", b"link"}  # headers that contain a path of this API
PREFIXES = (b"x-forwarded-prefix", b"x-forwarded-context")

Header = tuple[bytes, bytes]
Headers = dict[bytes, bytes]  # the last value of each header
# Called after each request with its method, route template, status, seconds and request id.
Observe = Callable[[str, str, int, float, str], None]

_port = re.compile(":[0-9]+$")
_request_id_pattern = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    """Checks `Host`, `Origin` and the token, runs HEAD as GET, and gives each request an id.

    An unexpected exception is 500, and its traceback is in the log, with the same request id.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed_hosts: Collection[str],
        public_urls: Collection[str],
        allowed_origins: Collection[str],
        api_token: str | None,
        observers: tuple[Observe, ...],
        report: Callable[[bytes], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        urls = [urlsplit(url) for url in public_urls]
        self._prefixes = [(url.netloc, url.path) for url in urls if url.path]
        names = {_port.sub("", name) for name in (*allowed_hosts, *(url.netloc for url in urls))}
        self._is_allowed_host = lru_cache(100)(  # clients repeat the same header
            lambda host: "*" in names or _port.sub("", host.decode("latin-1").lower()) in names
        )
        self._origins = {_origin(url) for url in (*public_urls, *allowed_origins)}
        self._api_token = None if api_token is None else api_token.encode()
        self._observers = observers
        self._report = report
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        elif scope["type"] == "websocket":  # the API has none
            await WebSocket(scope, receive, send).send_denial_response(_error(404, "Not Found"))
        else:
            await self._app(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        prefix = scope["root_path"] or self._prefix(scope["path"], headers)
        if method == "HEAD" or prefix:
            get = "GET" if method == "HEAD" else scope["method"]
            path = prefix + scope["path"].removeprefix(prefix)  # a proxy may have removed it
            scope = {**scope, "method": get, "root_path": prefix, "path": path}
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = (*message.get("headers", ()), (b"x-request-id", request_id))
                message["headers"] = _with_prefix(added, prefix)
                if self._is_stopping():  # no new request on it: the process ends soon
                    message["headers"].append(CLOSE)
            elif method == "HEAD":
                message = {**message, "body": b""}
            return send(message)

        try:
            app = self._refusal(scope, headers) or self._app  # a response is an ASGI app, too
            await app(scope, receive, send_with_id)
        except Exception:
            logging.getLogger("api").exception("request %s failed", request_id.decode())
            if status:
                raise  # the response has begun: only closing the connection can tell the client
            await _error(500, "Internal Server Error")(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - started
            for observe in self._observers:
                observe(method, route, status, seconds, request_id.decode())
            self._report(headers.get(b"x-simulator", b""))

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return the error response for a request that may not reach its route."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        # HTTP/1.0 needs no Host; browsers do not use it.
        path = scope["path"].removeprefix(scope["root_path"])
        if path not in PROBES and (hosts or scope["http_version"] != "1.0"):
            if len(hosts) != 1:
                return _error(400, "A request has one Host header")
            if not self._is_allowed_host(hosts[0]):
                place = "ALLOWED_HOSTS or PUBLIC_URL"
                return _error(400, f"The Host header names a host that is not in {place}")
        if scope["path"].endswith("\n"):  # "$" in Starlette's patterns ignores it
            return _error(404, "Not Found")
        if scope["method"] in SAFE_METHODS:
            return None
        for name, value in scope["headers"]:
            if name == b"origin" and not self._may_write(value, headers.get(b"host", b""), scope):
                return _error(403, "A page of another site may not write here")
        if self._api_token and not _has_token(headers, self._api_token):
            return _error(401, "A write needs the API's token", {"WWW-Authenticate": "Bearer"})
        return None

    def _may_write(self, origin: bytes, host: bytes, scope: Scope) -> bool:
        """Return whether a page of this origin may write: the API's own, or one in the settings.

        A port forwarder may rewrite Host or Origin to the API's own address, but leave the other.
        """
        sent = origin.decode("latin-1").lower()
        scheme = sent.partition("://")[0]
        port = (scope["server"] or ("", 0))[1]
        own = [host.decode("latin-1").lower(), *(f"{name}:{port}" for name in LOCAL_HOSTS)]
        allowed = {*self._origins, *(_origin(f"{scheme}://{name}") for name in own)}
        return scheme in DEFAULT_PORTS and _origin(sent) in allowed

    def _prefix(self, path: str, headers: Headers) -> str:
        """Return the path prefix of the public address by which a request came, or ""."""
        if not self._prefixes:
            return ""
        sent = [headers.get(name, b"").decode("latin-1").rstrip("/") for name in PREFIXES]
        host = headers.get(b"x-forwarded-host", headers.get(b"host", b"")).decode("latin-1").lower()
        named = [prefix for _, prefix in self._prefixes if prefix in sent]
        here = [prefix for name, prefix in self._prefixes if name == host]
        kept = [prefix for prefix in here if path.startswith(f"{prefix}/")]
        return next(iter((*named, *kept, *here)), "")


def _origin(url: str) -> str:
    """Return the scheme, host and port of an address; the default port is always written."""
    scheme, _, rest = url.partition("://")
    netloc = rest.partition("/")[0]
    port = "" if _port.search(netloc) else f":{DEFAULT_PORTS.get(scheme)}"
    return f"{scheme}://{netloc}{port}"


def _has_token(headers: Headers, token: bytes) -> bool:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), token)


def _request_id(headers: Headers) -> bytes:
    if _request_id_pattern.fullmatch(given := headers.get(b"x-request-id", b"")):
        return given
    # It distinguishes requests and protects nothing, so it need not be hard to guess.
    return random.randbytes(8).hex().encode()  # noqa: S311


def _with_prefix(headers: Iterable[Header], prefix: str) -> list[Header]:
    """Put the path prefix of a proxy before the API's own addresses in a response."""
    start = prefix.encode() + b"/"
    if not prefix:
        return [*headers]
    return [(n, v.replace(b"/", start, 1) if n in ADDRESSES else v) for n, v in headers]


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
