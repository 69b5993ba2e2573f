"""What a request is refused for, and in which words: one shape, `{"detail": …}`, for all of it."""

import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

import schema
from crud import StoreFull, StoreUnavailable, UserExists, UserNotFound

STATUS_OF_ERROR = {
    UserNotFound: 404,
    UserExists: 409,
    schema.TooManyUsers: 413,
    StoreUnavailable: 503,
    StoreFull: 507,
}
RETRY_AFTER = {503: {"Retry-After": "1"}}
AUTHENTICATE = {"WWW-Authenticate": "Bearer"}
MAX_ECHO_CHARACTERS = 100  # of a refused value, in the answer that refuses it
MAX_ECHO_ERRORS = 100  # of a batch


class BearerToken(HTTPBearer):
    """The check that a request brings the API's token: Swagger's "Authorize" gives it, too."""

    def __init__(self, token: str) -> None:
        super().__init__(
            scheme_name="HTTPBearer", description="The API's API_TOKEN", auto_error=False
        )
        self._token = token.encode()

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        credentials = await super().__call__(request)
        given = credentials.credentials if credentials else ""
        if not secrets.compare_digest(given.encode(), self._token):
            raise HTTPException(401, "A write needs the API's token", AUTHENTICATE)
        return credentials


class StrictRoute(APIRoute):
    """A route that refuses parameters it does not know, or is given twice."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Let no `{user_id}` stand for the word `batch`, whose address has methods of its own."""
        match, child_scope = super().matches(scope)
        if child_scope.get("path_params", {}).get("user_id") == "batch":
            return Match.NONE, {}
        return match, child_scope

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a body that says it is too long, in JSON: FastAPI's own refusal is plain text."""
        length = Headers(scope=scope).get("content-length", "0")
        if self.max_body_size is not None and int(length) > self.max_body_size:
            raise HTTPException(413, f"A body has at most {self.max_body_size} bytes")
        await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = {parameter.alias for parameter in self.dependant.query_params}
        checks = [each.dependency for each in self.dependencies if each.dependency]

        async def check_and_handle(request: Request) -> Response:
            for check in checks:  # FastAPI asks them after it has read and parsed a body
                await check(request)
            if errors := _query_errors(request.scope["query_string"], known):
                raise RequestValidationError(errors)
            return await handle(request)

        return check_and_handle


def end_addresses(app: FastAPI) -> None:
    """Let each address end where it ends.

    Starlette's patterns end in `$`, which is also before a last line feed: `/users/%0A` would be
    the list.
    """
    for route in app.routes:
        if isinstance(route, Route):
            route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of the errors that a call may answer with."""
    descriptions = {
        400: "The Host header names a foreign host, or the body is not JSON at all",
        401: "A write needs the API's token",
        403: "A page of another site may not write",
        404: "No user has this id",
        409: "A user has this id already",
        413: "More users, or more bytes, than a batch may have",
        422: "A parameter is missing, unknown, repeated or out of its bounds",
        503: "The store does not answer, or the process is stopping",
        507: "The store is full",
    }
    models = {422: schema.Invalid}
    headers = {401: AUTHENTICATE, **RETRY_AFTER}
    return {
        status: {
            "model": models.get(status, schema.Refusal),
            "description": descriptions[status],
            "headers": {
                name: {"schema": {"type": "string"}, "example": value}
                for name, value in headers.get(status, {}).items()
            },
        }
        for status in statuses
    }


def add_error_answers(app: FastAPI) -> None:
    """Add the one table from errors to statuses, and the two answers FastAPI has otherwise."""

    def answer_with(status: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
        async def answer(_: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status, RETRY_AFTER.get(status))

        return answer

    for error, status in STATUS_OF_ERROR.items():
        app.add_exception_handler(error, answer_with(status))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(
            {"detail": [_shortened(e) for e in error.errors()[:MAX_ECHO_ERRORS]]}, 422
        )

    @app.exception_handler(405)
    async def method_not_allowed(request: Request, error: HTTPException) -> JSONResponse:
        """List every method of the address (RFC 9110, 15.5.6), not only its first route's."""
        allowed: set[str] = set()
        # Among the files, the address has been cut to what is below their folder.
        scope = {**request.scope, "root_path": request.scope.get("app_root_path", "")}
        for route in app.routes:
            if route.matches(scope)[0] is not Match.NONE:
                allowed |= getattr(route, "methods", {"GET"})  # files are there to be read
        if "GET" in allowed:
            allowed.add("HEAD")
        headers = {"Allow": ", ".join(sorted(allowed))}
        return JSONResponse({"detail": error.detail}, 405, headers)


def _query_errors(query: bytes, known: set[str]) -> list[dict[str, Any]]:
    """Return what is wrong with a query string before its values are looked at.

    Each parameter may be given once and must be one of `known`; all must be ASCII, with anything
    else percent-encoded as UTF-8. Otherwise something other than what was sent would be stored.
    """
    try:
        names = [name for name, _ in parse_qsl(query.decode("ascii"), True, errors="strict")]
    except UnicodeDecodeError:
        return [_error("query_encoding", "Query should be UTF-8, percent-encoded")]
    unknown = [
        _error("extra_forbidden", "Extra inputs are not permitted", name)
        for name in dict.fromkeys(names)
        if name not in known
    ]
    repeated = [
        _error("repeated", "Parameter should be given once", name)
        for name in known
        if names.count(name) > 1
    ]
    return unknown + repeated


def _error(kind: str, message: str, *where: str) -> dict[str, Any]:
    return {"type": kind, "loc": ("query", *where), "msg": message, "input": None}


def _shortened(error: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's description of an invalid value without echoing more than a little of it."""
    return {
        "type": error["type"],
        "loc": [_short(part) for part in error["loc"]],
        "msg": error["msg"],
        "input": _short(error["input"]),
    }


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_ECHO_CHARACTERS].encode(errors="replace").decode()
    is_small = isinstance(value, int) and abs(value) < 10**MAX_ECHO_CHARACTERS
    return value if is_small else None
