"""The OpenAPI document and the page that shows it.

FastAPI makes the document from the functions of the calls. `openapi_overlay.json` adds what they do
not say: error responses, headers, groups and security.
"""

import json
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from models import ListedUser

OVERLAY: Final = Path(__file__).with_name("openapi_overlay.json")
# What pages of ALLOWED_ORIGINS may send and read.
CORS: Final[dict[str, Any]] = {
    "allow_methods": ["GET", "POST", "PUT", "DELETE"],
    "allow_headers": ["Authorization", "Content-Type", "If-Match", "X-Request-ID"],
    "expose_headers": ["ETag", "Link", "Location", "Retry-After", "X-Request-ID"],
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the whole document."""
    document = app.openapi()
    if "servers" not in document:  # FastAPI keeps the document, so this is done once
        for path in document["paths"].values():
            for call in path.values():
                call["responses"].pop("422", None)  # FastAPI's own, of another form
        schemas = document["components"]["schemas"]
        del schemas["HTTPValidationError"], schemas["ValidationError"]
        schemas["ListedUser"] = ListedUser.model_json_schema()
        _merge(document, json.loads(OVERLAY.read_text(encoding="utf-8")))
    return document


def _merge(document: dict[str, Any], overlay: dict[str, Any]) -> None:
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value


class Files(StaticFiles):
    """The static files. They ignore Range (RFC 9110, 14.2): its errors would not be JSON."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a whole file."""
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def swagger_page(title: str) -> HTMLResponse:
    """Return the page of Swagger UI. Its addresses are relative: they work behind each prefix."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url="static/swagger-ui-bundle.js",
        swagger_css_url="static/swagger-ui.css",
        swagger_favicon_url="static/favicon.png",
    )
