"""The calls for operators and developers: metrics, the OpenAPI document, and its page.

FastAPI makes the document from the functions of the calls. `openapi_overlay.json` adds what they do
not say: error responses, headers, groups and security.
"""

import json
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from fast_route import FastRoute
from models import ListedUser
from telemetry import Metrics

pages = APIRouter(route_class=FastRoute)

OVERLAY: Final = Path(__file__).with_name("openapi_overlay.json")
FILES: Final = {  # of Swagger UI, with their media types
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
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


@pages.get("/metrics", response_class=PlainTextResponse)
async def prometheus_metrics(request: Request) -> Response:
    """Give the metrics in Prometheus' text format."""
    state = request.app.state
    return Response(await state.metrics.render(state.store), media_type=Metrics.MEDIA_TYPE)


@pages.get("/openapi.json", include_in_schema=False)
async def document(request: Request) -> JSONResponse:
    """Give the description of the API in OpenAPI's format."""
    return JSONResponse(openapi_document(request.app))


@pages.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Show Swagger UI, with its files from here: it works without internet, behind each prefix."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="User Management API",
        swagger_js_url="static/swagger-ui-bundle.js",
        swagger_css_url="static/swagger-ui.css",
        swagger_favicon_url="static/favicon.png",
    )


@pages.get("/static/{name}", include_in_schema=False)
async def file(name: str) -> Response:
    """Give a whole file of Swagger UI: Range is ignored (RFC 9110, 14.2)."""
    if name not in FILES:
        raise HTTPException(404)
    return Response(OVERLAY.parent.joinpath("static", name).read_bytes(), media_type=FILES[name])
