"""The route class of the API: it rejects unknown parameters, and has a fast path.

For each request FastAPI solves dependencies, validates the parameters one by one, and builds
request and response objects. The fast path does less: one validation, the call, and one encoding.
FastAPI handles invalid requests, and each endpoint that has a body or optional parameters, or that
returns a Response. Both ways give the same response; tests compare them.
"""

from collections.abc import Callable, Coroutine
from dataclasses import is_dataclass
from inspect import get_annotations
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, core_schema
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from errors import query_errors

encode = msgspec.json.Encoder().encode
JSON = (b"content-type", b"application/json")
BATCH_PATH = "/users/batch"
NO_MATCH: tuple[Match, Scope] = (Match.NONE, {})


class FastRoute(APIRoute):
    """A route that rejects unknown and repeated parameters, and uses the fast path if it can."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._prefix, self._has_path_parameter, _ = self.path.partition("{")
        self._validate = _validator(self)
        self._takes_store = any(each.name == "store" for each in self.dependant.dependencies)
        self._headers = {each.alias.encode() for each in self.dependant.header_params}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Compare the beginning of the path first: this is faster than the pattern.

        `/users/{user_id}` never matches /users/batch, which has other methods.
        """
        path = scope["path"]
        below = self._has_path_parameter and path != BATCH_PATH and path.startswith(self._prefix)
        if below or path == self._prefix or scope["root_path"]:
            return super().matches(scope)
        return NO_MATCH

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request: on the fast path if it is valid and its endpoint is simple."""
        simple = self._validate and scope["method"] in (self.methods or ())
        if simple and self._headers:  # optional ones: few requests have them
            simple = self._headers.isdisjoint(name for name, _ in scope["headers"])
        if self._validate and simple:
            try:
                arguments = self._validate(_parameters(scope))
            except ValueError:
                pass  # FastAPI finds out what is wrong
            else:
                await self._respond(arguments, scope, send)
                return
        await AsyncExitStackMiddleware(super().handle)(scope, receive, send)

    async def _respond(self, arguments: dict[str, Any], scope: Scope, send: Send) -> None:
        if self._takes_store:
            arguments["store"] = scope["app"].state.store
        added = SimpleNamespace(headers={})
        if name := self.dependant.response_param_name:
            arguments[name] = added
        result = await self.endpoint(**arguments)
        status = self.status_code or 200
        body = b"" if status == 204 else encode(result)
        headers = [JSON, (b"content-length", b"%d" % len(body))] if status != 204 else [JSON]
        headers += [(key.lower().encode(), value.encode()) for key, value in added.headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, after a check of the query string."""
        handle = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]

        async def check_and_handle(request: Request) -> Response:
            if errors := query_errors(request.scope["query_string"], known):
                raise RequestValidationError(errors)
            return await handle(request)

        return check_and_handle


def _validator(route: APIRoute) -> Callable[[Any], dict[str, Any]] | None:
    """Return a function that validates all parameters at once, or None for a complex endpoint.

    The function raises ValueError if FastAPI would find an error.
    """
    wants = route.dependant
    parameters = wants.path_params + wants.query_params
    simple = not (wants.body_params or wants.request_param_name)
    simple &= all(each.field_info.is_required() for each in parameters)
    simple &= not any(each.field_info.is_required() for each in wants.header_params)
    if not (simple and (is_dataclass(route.response_model) or route.status_code == 204)):
        return None
    hints = get_annotations(route.endpoint)
    fields = {
        each.name: core_schema.typed_dict_field(TypeAdapter(hints[each.name]).core_schema)
        for each in parameters
    }
    schema = core_schema.typed_dict_schema(fields, extra_behavior="forbid")
    return SchemaValidator(schema).validate_python


def _parameters(scope: Scope) -> dict[str, str]:
    """Return the parameters of a request. Raises ValueError if one is repeated or not UTF-8."""
    values: dict[str, str] = dict(scope["path_params"])
    if query := scope["query_string"]:
        for pair in query.decode("ascii").split("&"):
            name, _, value = pair.partition("=")
            if name in values:
                raise ValueError
            if "%" in value or "+" in value:
                value = unquote_to_bytes(value.replace("+", " ")).decode()
            values[name] = value
    return values
