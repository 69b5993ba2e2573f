"""What is settled about a request before its route sees it.

A web page that a student happens to visit can send requests to localhost from the student's own
browser. Two headers that browsers do not let pages forge give such requests away: `Host`, when a
foreign name was made to resolve to this machine (DNS rebinding), and `Origin`.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """ASGI middleware: refuses foreign hosts and cross-site writes, and answers HEAD as GET."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._is_allowed = _host_check(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal:
            await send_error(send, *refusal)
        elif scope.get("method") == "HEAD":
            as_get = {**scope, "method": "GET"}
            await self._app(as_get, receive, _as_head(scope, as_get, send))
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return 400, "A request has one Host header"
        if not self._is_allowed(hosts[0]):
            return 400, "The Host header names a host that is not in ALLOWED_HOSTS"
        if scope["method"] in SAFE_METHODS:
            return None
        for name, value in scope["headers"]:
            if name == b"origin" and value.lower().partition(b"://")[2] != hosts[0].lower():
                return 403, "A page of another site may not write here"
        return None


def _host_check(allowed_hosts: tuple[str, ...]) -> Callable[[bytes], bool]:
    """Return the check of a Host header, which remembers its answers: a client's never changes."""

    @lru_cache(maxsize=100)
    def is_allowed(host: bytes) -> bool:
        name = _without_port(host.decode("latin-1").lower())
        return "*" in allowed_hosts or name in allowed_hosts

    return is_allowed


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _as_head(scope: Scope, as_get: Scope, send: Send) -> Send:
    """Return a `send` that leaves out bodies, and tells those around which route answers."""

    async def send_headers(message: Message) -> None:
        scope["route"] = as_get.get("route")
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


async def send_error(send: Send, status: int, detail: str) -> None:
    """Answer with an error of the one shape that all of them have, `{"detail": …}`."""
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
