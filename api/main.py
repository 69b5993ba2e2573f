"""The User Management API: its calls, and how it is assembled.

`fastapi dev main.py` starts it for development, `uvicorn main:app` for everything else.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

import openapi
from access import Access
from bulk import MAX_SEARCHED_USERS, Listing, page_response, read_batch, search_response
from crud import MAX_PAGE_USERS, BatchResult, MemoryStore, Record, Users
from errors import RETRY_AFTER, add_error_handlers
from fast_route import FastRoute
from middleware import RequestMiddleware
from models import (
    After,
    Age,
    AgeCounts,
    Health,
    IfMatch,
    Name,
    NamePart,
    PageLimit,
    Readiness,
    User,
    UserId,
    entity_tag,
    versions_in,
)
from settings import Settings, SettingsError, read_settings, refuse_unsafe_start
from shutdown import Shutdown, fail_start, refuse_second_worker
from telemetry import Metrics, configure_log, log

VERSION = "0.1.0"
# FastAPI's own traces would contain addresses, and those of writes contain names and ages.
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}

calls = APIRouter(route_class=FastRoute)


async def get_store(request: Request) -> Any:
    """Return the store that the app was assembled with: a MemoryStore or an SqlStore."""
    return request.app.state.store


Store = Annotated[Any, Depends(get_store)]


@calls.post("/users", include_in_schema=False, status_code=201)
@calls.post("/users/", status_code=201)
async def create_user(
    user_id: UserId, name: Name, age: Age, store: Store, response: Response
) -> User:
    """Create a user. You choose the id, so you may repeat it: 409 shows the user who has the id."""
    await store.create(user_id, name, age)
    response.headers["Location"] = f"/users/{user_id}"
    response.headers["ETag"] = entity_tag(Record(name, age))
    return User(user_id=user_id, name=name, age=age)


@calls.get("/users/{user_id}")
async def get_user(user_id: UserId, store: Store, response: Response) -> User:
    """Get one user."""
    user = await store.get(user_id)
    response.headers["ETag"] = entity_tag(user)
    return User(user_id=user_id, name=user.name, age=user.age)


@calls.put("/users/{user_id}")
async def update_user(
    user_id: UserId,
    name: Name,
    age: Age,
    store: Store,
    response: Response,
    if_match: IfMatch = None,
) -> User:
    """Replace a user's name and age; with If-Match, only if nobody else has changed them."""
    await store.update(user_id, name, age, versions_in(if_match))
    response.headers["ETag"] = entity_tag(Record(name, age))
    return User(user_id=user_id, name=name, age=age)


@calls.delete("/users/{user_id}", status_code=204)
async def delete_user(user_id: UserId, store: Store, if_match: IfMatch = None) -> None:
    """Delete a user; with If-Match, only if nobody else has changed it."""
    await store.delete(user_id, versions_in(if_match))


@calls.post("/users/batch")
async def create_users(request: Request, store: Store) -> BatchResult:
    """Create users in the shape of the list, all at once; a user with a taken id is not changed."""
    result: BatchResult = await store.create_many(await read_batch(request))
    return result


@calls.get("/users", include_in_schema=False)
@calls.get("/users/")
async def list_users(
    store: Store,
    limit: PageLimit = None,
    after: After = None,
    name: NamePart = None,
) -> Response:
    """List all users as one consistent snapshot, or a page of them by ascending id.

    With `name`, the page has users whose name contains this text. One response looks at no more
    than 10,000 users, so it may have few users or none: follow its Link to see more.
    """
    if limit is None and after is None and name is None:
        snapshot = store.snapshot()
        # Read a chunk before the response begins: until then an error can become a 503.
        first: Users = await anext(snapshot, {})
        return Listing(first, snapshot)
    limit = MAX_PAGE_USERS if limit is None else limit
    after = -1 if after is None else after
    if name is not None:
        return search_response(await store.page(after, MAX_SEARCHED_USERS), name, limit)
    return page_response(await store.page(after, limit + 1), limit)


@calls.get("/stats/ages")
async def count_ages(store: Store) -> AgeCounts:
    """Count users by age. Each write keeps the counts up to date: any size costs the same."""
    ages = await store.age_counts()
    return AgeCounts(total=sum(ages.values()), ages=ages)


@calls.get("/health")
async def health() -> Health:
    """Say that the process is alive. No other service is asked, so only a restart can help."""
    return Health(status="healthy")


@calls.get("/ready")
async def ready(request: Request, store: Store) -> Readiness:
    """Say whether to send requests here, and whether users outlive the process."""
    if request.app.state.shutdown.stopping.is_set():
        raise HTTPException(503, "The process is stopping", RETRY_AFTER[503])
    await store.check()
    return Readiness(status="ready", store=store.kind, durable=store.durable)


@calls.get("/metrics")
async def prometheus_metrics(request: Request, store: Store) -> Response:
    """Give the metrics in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    return Response(await metrics.render(store), media_type=Metrics.MEDIA_TYPE)


@calls.get("/openapi.json", include_in_schema=False)
async def document(request: Request) -> JSONResponse:
    """Give the description of the API in OpenAPI's format."""
    return JSONResponse(openapi.openapi_document(request.app))


@calls.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Lead a browser to the documentation."""
    return RedirectResponse("/docs")


@calls.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Show Swagger UI, with its files from here: it works without internet."""
    return openapi.swagger_page("User Management API")


class Api(FastAPI):
    """FastAPI with one layer of its own around the router, instead of five."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the added middleware around ExceptionMiddleware around the router.

        RequestMiddleware does the work of the other layers, FastRoute that of the last one. Each
        layer would cost about a microsecond a request.
        """
        app: ASGIApp = ExceptionMiddleware(self.router, self.exception_handlers)
        for each in reversed(self.user_middleware):
            app = each.cls(app, *each.args, **each.kwargs)
        return app


def create_app(settings: Settings) -> FastAPI:
    """Return the API with its own store, ready to be served."""
    metrics = Metrics(VERSION)
    access_log = configure_log(settings.log_format)
    store = open_store(settings, metrics)
    shutdown = Shutdown(settings.drain_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not store.durable:
            refuse_second_worker()
        shutdown.drain_on_sigterm()
        future = "outlive this process" if store.durable else "are lost when this process ends"
        start = f"User Management API {VERSION}: store={store.kind} (users {future})"
        log.info("%s, writes=%s, %s", start, "token" if settings.api_token else "open", settings)
        yield
        store.close()

    app = Api(
        title="User Management API",
        version=VERSION,
        description="Keeps users and counts their ages. Every error is a `detail` that says why.",
        routes=list(calls.routes),
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.store, app.state.shutdown, app.state.metrics = store, shutdown, metrics
    app.mount("/static", openapi.Files(directory=Path(__file__).parent / "static"), name="static")
    add_error_handlers(app)
    app.add_middleware(
        RequestMiddleware,
        refusal=Access(settings).refusal,
        observers=(metrics.observe, access_log.observe),
        report=metrics.report,
        is_stopping=shutdown.stopping.is_set,
    )
    if settings.allowed_origins:
        origins = settings.allowed_origins
        app.add_middleware(CORSMiddleware, allow_origins=origins, **openapi.CORS)
    return app


def open_store(settings: Settings, metrics: Metrics) -> Any:
    """Return the store in memory, or the one that DATABASE_URL names."""
    if settings.database_url is None:
        return MemoryStore(settings.max_users)
    from engines import engine_for  # only here: the memory store needs no database driver
    from sql import SqlStore

    return SqlStore(engine_for(settings.database_url), metrics.commit_seconds.observe)


try:
    settings = read_settings()
    refuse_unsafe_start(settings)
except SettingsError as error:
    fail_start(str(error))

app = create_app(settings)
