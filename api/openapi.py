"""The parts of the OpenAPI document that FastAPI cannot find in the functions of the calls."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

import models
from crud import MAX_BATCH_USERS
from errors import RETRY_AFTER


class InvalidValue(BaseModel):
    """What is wrong with one value, in FastAPI's form."""

    type: str
    loc: list[str]
    msg: str


class Invalid(BaseModel):
    """What is wrong with each invalid value."""

    detail: list[InvalidValue]


class Error(BaseModel):
    """What was wrong, in a sentence."""

    detail: str


class Exists(Error):
    """The id is taken; `user` is the user who has it."""

    user: models.User


# The range of UserId, 0 to 2**53 - 1, as a pattern: the keys of a JSON object are strings.
USER_ID_PATTERN: Final = (
    "^(0|[1-9][0-9]{0,14}|[1-8][0-9]{15}|900[0-6][0-9]{12}|90070[0-9]{11}|90071[0-8][0-9]{10}"
    "|900719[0-8][0-9]{9}|9007199[01][0-9]{8}|90071992[0-4][0-9]{7}|900719925[0-3][0-9]{6}"
    "|9007199254[0-6][0-9]{5}|90071992547[0-3][0-9]{4}|9007199254740[0-8][0-9]{2}"
    "|90071992547409[0-8][0-9]|900719925474099[01])$"
)
_USERS_BY_ID: Final[dict[str, Any]] = {
    "schema": {
        "type": "object",
        "propertyNames": {"pattern": USER_ID_PATTERN},
        "additionalProperties": models.ListedUser.model_json_schema(),
    },
    "example": {"123": {"name": "Alice", "age": 30}},
}
LISTING: Final[dict[str, Any]] = {
    "description": "Users by id. A page that is not the last has a Link header to the next one.",
    "headers": {"Link": {"schema": {"type": "string"}, "description": 'rel="next" (RFC 8288)'}},
    "content": {"application/json": _USERS_BY_ID},
}
BATCH: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                **_USERS_BY_ID,
                "schema": {**_USERS_BY_ID["schema"], "maxProperties": MAX_BATCH_USERS},
            }
        },
    }
}
CREATED: Final[dict[str, Any]] = {
    "headers": {"Location": {"schema": {"type": "string"}, "description": "The user's address"}}
}
_DESCRIPTIONS: Final = {
    400: "The Host header names a foreign host",
    401: "A write needs the API's token",
    403: "A page of another site may not write",
    404: "No user has this id",
    409: "A user has this id already",
    413: "More users, or more bytes, than a batch may have",
    415: "The body is not JSON",
    422: "A value is missing, unknown, repeated or out of its bounds",
    503: "The store does not respond, or the process is stopping",
    507: "The store is full",
}
_MODELS: Final[dict[int, type[BaseModel]]] = {409: Exists, 422: Invalid}
_HEADERS: Final = {401: {"WWW-Authenticate": "Bearer"}, **RETRY_AFTER}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of the error responses that a call may have."""
    return {
        status: {
            "model": _MODELS.get(status, Error),
            "description": _DESCRIPTIONS[status],
            "headers": {
                name: {"schema": {"type": "string"}, "example": value}
                for name, value in _HEADERS.get(status, {}).items()
            },
        }
        for status in statuses
    }


def _documentation(tag: str, *errors: int, **more: Any) -> dict[str, Any]:
    """Return the arguments that document a call: its group, its error responses, and more."""
    responses = error_responses(*errors) | more.pop("responses", {})
    return {"tags": [tag], "responses": responses, **more}


CREATE_USER = _documentation("users", 403, 409, 503, 507, responses={201: CREATED})
GET_USER = _documentation("users", 404, 503)
CHANGE_USER = _documentation("users", 403, 404, 503)
CREATE_USERS = _documentation("users", 403, 413, 415, 503, 507, openapi_extra=BATCH)
LIST_USERS = _documentation("users", 503, responses={200: LISTING})
COUNT_AGES = _documentation("statistics", 503)
HEALTH = _documentation("probes")
READY = _documentation("probes", 503)
METRICS = _documentation("probes", responses={200: {"content": {"text/plain": {}}}})


def declare_token(app: FastAPI) -> None:
    """Say in the document that writes need the token: Swagger then shows "Authorize"."""
    document = app.openapi()
    scheme = {"type": "http", "scheme": "bearer", "description": "The API's API_TOKEN"}
    document["components"]["securitySchemes"] = {"HTTPBearer": scheme}
    unauthorized = {
        "description": _DESCRIPTIONS[401],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for calls in document["paths"].values():
        for method, call in calls.items():
            if method != "get":
                call["security"] = [{"HTTPBearer": []}]
                call["responses"]["401"] = unauthorized


def swagger_page(title: str) -> HTMLResponse:
    """Return the page of Swagger UI, whose files the API serves itself."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=title,
        swagger_js_url="/static/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger-ui.css",
        swagger_favicon_url="/static/favicon.png",
    )
