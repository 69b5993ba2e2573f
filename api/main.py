"""The User Management API: what it answers, and how it is assembled.

`fastapi dev main.py` serves it for development, `uvicorn main:app` for use.
"""

import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import schema
from crud import MAX_PAGE_USERS, StoreUnavailable
from door import Door
from guard import ASGIApp, Guard
from lifecycle import Lifecycle, stop_supervisor
from lines import configure_logging, log
from listing import LISTING, Listing, Users, page_answer
from refusals import (
    RETRY_AFTER,
    BearerToken,
    StrictRoute,
    add_error_answers,
    end_addresses,
    refusals,
)
from schema import (
    Absent,
    Age,
    AgeCounts,
    Batch,
    Created,
    Health,
    Name,
    PageLimit,
    Readiness,
    UserId,
)
from settings import Settings, SettingsError, read_settings, refuse_unsafe_start
from stores import Store, open_store
from telemetry import METRICS_MEDIA_TYPE, Metrics, Telemetry
from tracing import NO_TELEMETRY, SpanNames, Tracing

VERSION = "0.1.0"
MAX_BATCH_BYTES = 8 * 1024 * 1024
STATIC_FOLDER = Path(__file__).parent / "static"


class Api(FastAPI):
    """FastAPI without its shells around added middleware, which cost more than most endpoints.

    They answer faults, which `Telemetry` does, and limit all bodies, where one call limits its own.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Return the outermost middleware of those that were added."""
        app: Any = super().build_middleware_stack()
        while not isinstance(app, SpanNames | Telemetry):
            app = app.app
        return app


def create_app(settings: Settings) -> FastAPI:
    """Return the API with a store of its own, ready to be served."""
    lines = configure_logging(settings.log_format)
    metrics = Metrics(VERSION)
    store = open_store(settings.database_url, settings.max_users, metrics.commit_seconds.observe)
    lifecycle = Lifecycle(settings.drain_seconds)
    tracing = Tracing(settings.otlp_endpoint, VERSION, store) if settings.otlp_endpoint else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        lifecycle.drain_on_sigterm()
        log.info("User Management API %s: %s", VERSION, describe(settings, store))
        yield
        store.close()
        if tracing:
            tracing.close()

    app = Api(
        title="User Management API",
        version=VERSION,
        description="Keeps users and counts their ages. Every error is a `detail` that says why.",
        responses=refusals(400, 422),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        telemetry=tracing.config if tracing else NO_TELEMETRY,
    )
    app.router.route_class = StrictRoute
    add_writes(app, store, settings.api_token)
    add_reads(app, store)
    add_probes(app, store, lifecycle, metrics)
    add_docs(app)
    end_addresses(app)
    add_error_answers(app)
    app.add_middleware(Door, api=app)
    app.add_middleware(Guard, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(Telemetry, metrics=metrics, lines=lines)
    if tracing:
        app.add_middleware(SpanNames)
    return app


def describe(settings: Settings, store: Store) -> str:
    """Return the resolved configuration, and what becomes of the users, in one line."""
    future = "outlive this process" if store.durable else "are lost when this process ends"
    bound = "" if settings.database_url else f" max_users={settings.max_users},"
    return (
        f"store={store.kind} (users {future}),"
        f" writes={'by token' if settings.api_token else 'open'},{bound}"
        f" allowed_hosts={','.join(settings.allowed_hosts)},"
        f" log_format={settings.log_format}, drain_seconds={settings.drain_seconds:g}"
    )


# ---------------------------------------------------------------------------------------- users


def add_writes(app: FastAPI, store: Store, api_token: str | None) -> None:
    """Add the calls that create, update and delete users; with a token, for those who have it."""
    guards = [Depends(BearerToken(api_token))] if api_token else []
    writing = refusals(401, 403) if guards else refusals(403)

    @app.post("/users", include_in_schema=False, status_code=201, dependencies=guards)
    @app.post(
        "/users/",
        status_code=201,
        responses=writing | refusals(409, 503, 507) | {201: CREATED},
        dependencies=guards,
        tags=["users"],
    )
    async def create_user(user_id: UserId, name: Name, age: Age, response: Response) -> schema.User:
        """Create a user. You choose the id, so repeating is safe: 409 says that it is there."""
        await store.create(user_id, name, age)
        response.headers["Location"] = f"/users/{user_id}"
        return schema.User(user_id=user_id, name=name, age=age)

    @app.post(
        "/users/batch",
        responses=writing | refusals(413, 503, 507),
        dependencies=guards,
        max_body_size=MAX_BATCH_BYTES,
        tags=["users"],
    )
    async def create_users(users: Batch) -> Created:
        """Create users in the shape of the list, all at once; a taken id is left alone."""
        existing = await store.create_many(users)
        return Created(created=len(users) - len(existing), existing=existing)

    @app.put(
        "/users/{user_id}",
        responses=writing | refusals(404, 503),
        dependencies=guards,
        tags=["users"],
    )
    async def update_user(user_id: UserId, name: Name, age: Age) -> schema.User:
        """Replace a user's name and age."""
        await store.update(user_id, name, age)
        return schema.User(user_id=user_id, name=name, age=age)

    @app.delete(
        "/users/{user_id}",
        status_code=204,
        responses=writing | refusals(404, 503),
        dependencies=guards,
        tags=["users"],
    )
    async def delete_user(user_id: UserId) -> None:
        """Delete a user."""
        await store.delete(user_id)


def add_reads(app: FastAPI, store: Store) -> None:
    """Add the calls that show users."""

    @app.get("/users", include_in_schema=False)
    @app.get("/users/", responses=refusals(503) | {200: LISTING}, tags=["users"])
    async def list_users(
        limit: PageLimit | Absent = None, after: UserId | Absent = None
    ) -> Response:
        """List all users as one consistent snapshot, or a page of them by ascending id."""
        if limit is None and after is None:
            snapshot = store.snapshot()
            # Before the answer begins, while it can still be 503.
            first: Users = await anext(snapshot, {})
            return Listing(first, snapshot)
        limit = MAX_PAGE_USERS if limit is None else limit
        after = -1 if after is None else after
        return page_answer(await store.page(after, limit + 1), limit)

    @app.get("/users/{user_id}", responses=refusals(404, 503), tags=["users"])
    async def get_user(user_id: UserId) -> schema.User:
        """Get one user."""
        name, age = await store.get(user_id)
        return schema.User(user_id=user_id, name=name, age=age)

    @app.get("/stats/ages", responses=refusals(503), tags=["statistics"])
    async def count_ages() -> AgeCounts:
        """Count users by age. Kept up to date by every write, so it costs the same at any size."""
        ages = await store.age_counts()
        return AgeCounts(total=sum(ages.values()), ages=ages)


# From the answer that created a user to the calls about that user.
LINKS = {
    verb: {
        "operationId": f"{verb}_user_users__user_id__{method}",
        "parameters": {"user_id": "$response.body#/user_id"},
    }
    for verb, method in (("get", "get"), ("update", "put"), ("delete", "delete"))
}

CREATED: dict[str, Any] = {
    "links": LINKS,
    "headers": {"Location": {"schema": {"type": "string"}, "description": "The user's address"}},
}


# --------------------------------------------------------------------------------------- probes


def add_probes(app: FastAPI, store: Store, lifecycle: Lifecycle, metrics: Metrics) -> None:
    """Add what orchestrators, load balancers and Prometheus ask."""

    @app.get("/health", tags=["probes"])
    async def health() -> Health:
        """Tell that the process lives. It asks nobody else, so only a restart can help it."""
        return Health(status="healthy")

    @app.get("/ready", responses=refusals(503), tags=["probes"])
    async def ready() -> Readiness:
        """Tell whether to send requests here, and whether users outlive the process."""
        if lifecycle.stopping:
            raise HTTPException(503, "The process is stopping", RETRY_AFTER[503])
        await store.check()
        return Readiness(status="ready", store=store.kind, durable=store.durable)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, tags=["probes"])
    async def prometheus_metrics() -> Response:
        """Give the metrics in Prometheus' text format."""
        users = math.nan  # unless the store tells it: an old number would be a lie
        with suppress(StoreUnavailable):
            users = sum((await store.age_counts()).values())
        metrics.users.set(users)
        for queue, ratio in store.fullness().items():
            metrics.queues.labels(queue).set(ratio)
        return Response(metrics.render(), media_type=METRICS_MEDIA_TYPE)


def add_docs(app: FastAPI) -> None:
    """Add Swagger's page, with its files from here: it works in a room without internet."""
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/static/swagger-ui-bundle.js",
            swagger_css_url="/static/swagger-ui.css",
            swagger_favicon_url="/static/favicon.png",
        )


try:
    settings = read_settings()
    refuse_unsafe_start(settings)
except SettingsError as error:
    print(error, file=sys.stderr)
    stop_supervisor()
    sys.exit(2)

app = create_app(settings)
