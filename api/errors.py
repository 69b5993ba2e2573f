"""One table gives each exception its status; every error response has a `detail` in JSON."""

from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.routing import Match

import crud

STATUS_OF_ERROR: dict[type[Exception], int] = {
    crud.UserNotFound: 404,
    crud.UserExists: 409,
    crud.UserChanged: 412,
    crud.StoreUnavailable: 503,
    crud.StoreFull: 507,
}
RETRY_AFTER = {503: {"Retry-After": "1"}}  # seconds
BODY_HINT = "Send the values in the address: "
BODY_HINT += "POST /users/?user_id=123&name=Alice&age=30 or PUT /users/123?name=Alice&age=30"
MAX_TEXT_CHARACTERS = 100  # of a name or message that may repeat a part of the request


def add_error_handlers(app: FastAPI) -> None:
    """Register the functions that turn an exception into an error response."""
    for error in STATUS_OF_ERROR:
        app.add_exception_handler(error, store_error)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(405, method_not_allowed)


async def store_error(_: Request, error: Exception) -> JSONResponse:
    """Respond with the status of an error of the store, and with the stored user if it has one."""
    status = STATUS_OF_ERROR[type(error)]
    body: dict[str, Any] = {"detail": str(error)}
    headers = RETRY_AFTER.get(status)
    if isinstance(error, crud.StoredUser):
        user = error.user
        body["user"] = {"user_id": error.user_id, "name": user.name, "age": user.age}
        headers = {"ETag": f'"{crud.version(user)}"'}
    return JSONResponse(body, status, headers)


async def invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Respond with 422, and a description of each invalid value."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for no other
    if "content-type" in request.headers and all(e["type"] == "missing" for e in error.errors()):
        hint = {"type": "body", "loc": ["body"], "msg": BODY_HINT}
        return JSONResponse({"detail": [hint]}, 422)
    # Leave the invalid value out: it may be a name or an age, and very long.
    detail = [
        {
            "type": each["type"],
            "loc": [_shortened(part) for part in each["loc"]],
            "msg": _shortened(each["msg"], 2 * MAX_TEXT_CHARACTERS),
        }
        for each in error.errors()
    ]
    return JSONResponse({"detail": detail}, 422)


async def method_not_allowed(request: Request, _: Exception) -> JSONResponse:
    """Respond with 405, and list all methods of the address in `Allow` (RFC 9110, 15.5.6).

    Starlette would list only the methods of the first route with this address.
    """
    matching = [r for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE]
    allowed: set[str] = set().union(*(route.methods for route in matching))
    if "GET" in allowed:
        allowed.add("HEAD")
    headers = {"Allow": ", ".join(sorted(allowed))}
    return JSONResponse({"detail": "Method Not Allowed"}, 405, headers)


def query_errors(query: bytes, known: list[str]) -> list[dict[str, Any]]:
    """Return the errors in a query string; the values are checked elsewhere.

    Each parameter must be one of `known` and given once. All must be percent-encoded UTF-8.
    """
    try:
        names = [name for name, _ in parse_qsl(query.decode("ascii"), True, errors="strict")]
    except UnicodeDecodeError:
        return [_error("query_encoding", "Query should be UTF-8, percent-encoded")]
    unknown = f"Unknown parameter; known: {', '.join(known) or 'none'}"
    errors = []
    for name in dict.fromkeys(names):
        if name not in known:
            errors.append(_error("extra_forbidden", unknown, name))
        elif names.count(name) > 1:
            errors.append(_error("repeated", "Parameter should be given once", name))
    return errors


def _error(kind: str, message: str, *where: str) -> dict[str, Any]:
    return {"type": kind, "loc": ("query", *where), "msg": message}


def _shortened(text: Any, characters: int = MAX_TEXT_CHARACTERS) -> str:
    return str(text)[:characters].encode(errors="replace").decode()
