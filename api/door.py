"""The short way to an endpoint, for requests that are in perfect order.

FastAPI's own way (matching routes one after the other, solving dependencies, validating each
parameter by itself, building request and response objects) takes longer than everything else
together. Here, what an endpoint's signature says is looked at once, when the API starts: then a
request takes one look-up, one validation, the call, and one encoding.

Whatever is not in perfect order takes FastAPI's way, so its answers are FastAPI's own: an address,
method or parameter that is not known, missing, repeated or refused, and every endpoint whose
signature holds more than scalars, or a body without a `schema.ShortWay`. tests/test_door.py proves
that nobody can tell the two apart.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import get_annotations, iscoroutinefunction
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import HTTPConnection

import schema
from crud import encode
from guard import ASGIApp, Message, Receive, Scope, Send

JSON = (b"content-type", b"application/json")

Check = Callable[[HTTPConnection], Awaitable[Any]]  # raises if the request may not pass


class AddedHeaders(Response):
    """The `response` that an endpoint may ask for, to add headers to its answer."""

    def __init__(self) -> None:
        self.raw_headers = []


@dataclass(frozen=True, slots=True)
class Call:
    """An endpoint, and what its signature says, made ready."""

    route: APIRoute
    endpoint: Callable[..., Awaitable[Any]]
    status: int
    number_name: str  # of the parameter that is the last part of the address, or nothing
    response_name: str | None
    body_name: str  # or nothing
    read_body: Callable[[bytes], Any] | None
    checks: list[Check]
    validate: Callable[[dict[str, str]], dict[str, Any]]

    @classmethod
    def of(cls, route: APIRoute) -> "Call":
        """Return what is to be known of a plain route."""
        wants = route.dependant
        hints = get_annotations(route.endpoint)
        names = [field.name for field in wants.path_params + wants.query_params]
        return cls(
            route=route,
            endpoint=route.endpoint,
            status=route.status_code or 200,
            number_name="".join(field.name for field in wants.path_params),
            response_name=wants.response_param_name,
            body_name="".join(field.name for field in wants.body_params),
            read_body=next((schema.reader_of(hints[f.name]) for f in wants.body_params), None),
            checks=[cast(Check, check.call) for check in wants.dependencies],
            validate=schema.validator_of({name: hints[name] for name in names}),
        )


class KeptBody:
    """A request's body, read here to its end; FastAPI may receive it once more."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()

    async def json(self, scope: Scope, max_bytes: int) -> bytes:
        """Return the body. Raises ValueError unless it says that it is JSON, and not too long."""
        headers = Headers(scope=scope)
        if headers.get("content-type") != "application/json":
            raise ValueError
        if int(headers.get("content-length", "")) > max_bytes:
            raise ValueError
        pieces = []
        more = True
        while more:
            message = await self._receive()
            self._kept.append(message)
            if message["type"] != "http.request":  # the client is gone
                raise ValueError
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def __call__(self) -> Message:
        """Return what was read first, then what comes."""
        return self._kept.popleft() if self._kept else await self._receive()


class Door:
    """ASGI middleware around FastAPI's routes, inside of everything that looks at all requests."""

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self._app = app
        self._exception_handlers = api.exception_handlers
        self._calls: dict[tuple[str, str], Call] = {}  # by method and address
        self._numbered: dict[tuple[str, str], Call] = {}  # by method and address up to the number
        for route in api.routes:
            if isinstance(route, APIRoute) and _is_plain(route):
                address, brace, _ = route.path.partition("{")
                table = self._numbered if brace else self._calls
                for method in route.methods or ():
                    table.setdefault((method, address), Call.of(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        values: dict[str, str] = {}
        call = self._find(scope, values)
        if call:
            try:
                _read_query(scope["query_string"], values)
                arguments = call.validate(values)
                for check in call.checks:  # before a body is read
                    await check(HTTPConnection(scope))
                if call.read_body:
                    receive = kept = KeptBody(receive)
                    text = await kept.json(scope, call.route.max_body_size or 0)
                    arguments[call.body_name] = call.read_body(text)
            except (ValueError, HTTPException):
                call = None
        if call is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = call.route
        added: list[tuple[bytes, bytes]] = []
        try:
            if call.response_name:
                arguments[call.response_name] = response = AddedHeaders()
                added = response.raw_headers
            body = encode(await call.endpoint(**arguments))
        except Exception as error:
            await self._answer_error(error, scope, receive, send)
            return
        if call.status == 204:
            body = b""
            headers = [JSON, *added]
        else:
            headers = [(b"content-length", b"%d" % len(body)), JSON, *added]
        await send({"type": "http.response.start", "status": call.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope, values: dict[str, str]) -> Call | None:
        """Return the call of a request if it has one; put the number in its address in `values`."""
        if scope["type"] != "http" or scope["root_path"]:
            return None
        call = self._calls.get((scope["method"], scope["path"]))
        if call is None:
            before, slash, last = scope["path"].rpartition("/")
            call = self._numbered.get((scope["method"], before + slash))
            if call:
                values[call.number_name] = last
        return call

    async def _answer_error(
        self, error: Exception, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer as FastAPI does when an endpoint raises; the endpoint is not called again."""

        async def endpoint_raised(*_: object) -> None:
            raise error

        answer = ExceptionMiddleware(endpoint_raised, self._exception_handlers)
        await answer(scope, receive, send)


def _read_query(query: bytes, values: dict[str, str]) -> None:
    """Put a query's parameters into `values`. Raises ValueError for what FastAPI has to look at."""
    if not query:
        return
    for pair in query.decode("ascii").split("&"):
        name, _, value = pair.partition("=")
        if name in values:
            raise ValueError
        if "%" in value or "+" in value:
            value = unquote_to_bytes(value.replace("+", " ")).decode()
        values[name] = value


def _is_plain(route: APIRoute) -> bool:
    """Tell whether an endpoint is all about the values that it takes and the one it returns."""
    wants = route.dependant
    parameters = wants.path_params + wants.query_params + wants.body_params
    hints = get_annotations(route.endpoint)
    result = hints.pop("return", Response)
    hints.pop(wants.response_param_name or "", None)
    return (
        iscoroutinefunction(route.endpoint)
        and hints.keys() == {field.name for field in parameters}
        and all(field.field_info.is_required() for field in parameters)
        # A number at the end of an address is never what another route has there as a word.
        and all(field.field_info.annotation is int for field in wants.path_params)
        and route.path.partition("/{")[2] == "".join(f"{f.name}}}" for f in wants.path_params)
        and all(isinstance(check.call, SecurityBase) for check in wants.dependencies)
        and all(schema.reader_of(hints[field.name]) for field in wants.body_params)
        and len(wants.body_params) == (0 if route.max_body_size is None else 1)
        and result is route.response_model
        and schema.has_one_spelling(result)
        and isinstance(route.response_class, DefaultPlaceholder)
        and route.response_model_by_alias
        and not (
            route.response_model_include
            or route.response_model_exclude
            or route.response_model_exclude_unset
            or route.response_model_exclude_defaults
            or route.response_model_exclude_none
        )
    )
