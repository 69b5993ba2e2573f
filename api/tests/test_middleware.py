"""What happens to every request: the checks of Host and Origin, its id, and a 500 for a bug."""

import re
from typing import Any

import pytest
from conftest import api_client
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from crud import MemoryStore
from main import create_app
from middleware import RequestMiddleware
from settings import read_settings

CREATE = "/users/?user_id=1&name=Bo&age=1"


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "", "testserver@evil"])
def test_an_unknown_host_is_rejected(api: TestClient, host: str) -> None:
    """A Host header that is not in ALLOWED_HOSTS is 400: it may be a DNS rebinding attack."""
    assert api.get("/stats/ages", headers={"host": host}).status_code == 400
    assert api.post(CREATE, headers={"host": host}).status_code == 400
    assert api.get("/users/").json() == {}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_the_hosts_of_this_machine_are_allowed(api: TestClient, host: str) -> None:
    """Whatever ALLOWED_HOSTS is, the names of this machine are allowed, with any port."""
    assert api.get("/users/", headers={"host": host}).status_code == 200


def test_a_star_allows_every_host() -> None:
    """With ALLOWED_HOSTS=* the Host header is not checked."""
    with api_client(ALLOWED_HOSTS="*") as api:
        assert api.get("/users/", headers={"host": "anything.example"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver:81", ""])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", CREATE), ("PUT", CREATE), ("DELETE", "/users/1")]
)
def test_a_page_of_another_site_may_not_write(
    api: TestClient, origin: str, method: str, path: str
) -> None:
    """A browser sends the Origin of the page; a write from another site is 403."""
    assert api.request(method, path, headers={"origin": origin}).status_code == 403
    assert api.get("/users/").json() == {}


def test_swagger_may_write(api: TestClient) -> None:
    """Swagger's page has the Origin of the API, so "Try it out" works."""
    assert api.post(CREATE, headers={"origin": "http://testserver"}).status_code == 201


def test_a_request_id_is_kept_or_generated(api: TestClient) -> None:
    """The response has the request's X-Request-ID, or a new one if that cannot be used."""
    kept = api.get("/health", headers={"x-request-id": "Lab_1.a-Z"})
    assert kept.headers["x-request-id"] == "Lab_1.a-Z"
    generated = set()
    for unusable in ("", "a b", "x" * 65, "ä", "a;b"):
        sent: Any = {"x-request-id": unusable.encode()}
        generated.add(api.get("/health", headers=sent).headers["x-request-id"])
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in generated)
    assert len(generated) == 5


def test_an_unexpected_exception_is_500_and_logged_under_its_request_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The response has the usual shape and the request id; the log has the traceback."""

    async def broken(*_: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(MemoryStore, "get", broken)
    with api_client() as api:
        response = api.get("/users/1", headers={"x-request-id": "fire-1"})
    log = capsys.readouterr().out

    assert response.status_code == 500
    assert response.json() == {"detail": "Internal Server Error"}
    assert response.headers["x-request-id"] == "fire-1"
    assert "request fire-1 failed" in log
    assert "the disk is on fire" in log
    assert re.search(r"INFO GET /users/\{user_id\} 500 [\d.]+ ms fire-1$", log.rstrip())


def test_the_layers_of_fastapi_are_known() -> None:
    """A FastAPI with another layer fails here: ADR 12 says why each of these is left out."""
    app = create_app(read_settings({}))
    layer: Any = FastAPI.build_middleware_stack(app)
    layers = []
    while layer is not app.router:
        layers.append(type(layer).__name__)
        layer = layer._app if isinstance(layer, RequestMiddleware) else layer.app
    ours: Any = app.build_middleware_stack()

    assert layers == [
        "ServerErrorMiddleware",
        "ExceptionTelemetryMiddleware",
        "AppBodyLimitMiddleware",
        "RequestMiddleware",
        "ExceptionMiddleware",
        "AsyncExitStackMiddleware",
    ]
    assert isinstance(ours, RequestMiddleware)
    assert type(ours._app).__name__ == "ExceptionMiddleware"


def test_an_added_middleware_is_called() -> None:
    """`app.add_middleware` works as in every FastAPI app: the last one added is called first."""
    paths = []

    class Recorder:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            paths.append(scope.get("path"))
            await self._app(scope, receive, send)

    app = create_app(read_settings({"ALLOWED_HOSTS": "testserver"}))
    app.add_middleware(Recorder)
    with TestClient(app) as api:
        assert api.get("/health").json() == {"status": "healthy"}
        assert api.get("/docs", headers={"host": "evil.example"}).status_code == 400

    assert paths[-2:] == ["/health", "/docs"]
