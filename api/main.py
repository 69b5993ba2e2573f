"""The User Management API: what it answers, and how it is assembled.

`fastapi dev main.py` serves it for development, `uvicorn main:app` for use.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

import schema
from crud import MAX_PAGE_USERS, MemoryStore, StoreFull, User, UserExists, UserNotFound
from guard import Guard
from lifecycle import Lifecycle
from schema import Absent, Age, AgeCounts, Health, Name, PageLimit, Readiness, UserId
from settings import Settings, SettingsError, read_settings
from telemetry import METRICS_MEDIA_TYPE, Metrics, Telemetry, configure_logging, log

VERSION = "0.1.0"
STATIC_FOLDER = Path(__file__).parent / "static"

STATUS_OF_ERROR = {UserNotFound: 404, UserExists: 409, StoreFull: 507}


def create_app(settings: Settings) -> FastAPI:
    """Return the API with a store of its own, ready to be served."""
    configure_logging(settings.log_format)
    store = MemoryStore(settings.max_users)
    metrics = Metrics(VERSION, count_users=store.__len__)
    lifecycle = Lifecycle(settings.drain_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        lifecycle.drain_on_sigterm()
        log.info("User Management API %s: %s", VERSION, describe(settings, store))
        yield

    app = FastAPI(
        title="User Management API",
        version=VERSION,
        description="Keeps users and counts their ages. Every error is a `detail` that says why.",
        responses=refusals(400, 422),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.router.route_class = StrictRoute
    add_users(app, store)
    add_probes(app, store, lifecycle, metrics)
    add_docs(app)
    add_error_answers(app)
    app.add_middleware(Guard, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(Telemetry, metrics=metrics)
    return app


def describe(settings: Settings, store: MemoryStore) -> str:
    """Return the resolved configuration, and what becomes of the users, in one line."""
    return (
        f"store={store.kind} (users are lost when this process ends),"
        f" max_users={settings.max_users}, allowed_hosts={','.join(settings.allowed_hosts)},"
        f" log_format={settings.log_format}, drain_seconds={settings.drain_seconds:g}"
    )


# ---------------------------------------------------------------------------------------- users


def add_users(app: FastAPI, store: MemoryStore) -> None:
    """Add the calls that create, read, update and delete users."""

    @app.post("/users", include_in_schema=False, status_code=201)
    @app.post("/users/", status_code=201, responses=refusals(403, 409, 507), tags=["users"])
    async def create_user(user_id: UserId, name: Name, age: Age, response: Response) -> schema.User:
        """Create a user. You choose the id, so repeating is safe: 409 says that it is there."""
        await store.create(user_id, name, age)
        response.headers["Location"] = f"/users/{user_id}"
        return schema.User(user_id=user_id, name=name, age=age)

    @app.get("/users", include_in_schema=False)
    @app.get("/users/", responses={200: LISTING}, tags=["users"])
    async def list_users(
        limit: PageLimit | Absent = None, after: UserId | Absent = None
    ) -> Response:
        """List all users as one consistent snapshot, or a page of them by ascending id."""
        if limit is None and after is None:
            return StreamingResponse(listing(store.snapshot()), media_type="application/json")
        limit = MAX_PAGE_USERS if limit is None else limit
        after = -1 if after is None else after
        return page_answer(await store.page(after, limit + 1), limit)

    @app.get("/users/{user_id}", responses=refusals(404), tags=["users"])
    async def get_user(user_id: UserId) -> schema.User:
        """Get one user."""
        name, age = await store.get(user_id)
        return schema.User(user_id=user_id, name=name, age=age)

    @app.put("/users/{user_id}", responses=refusals(403, 404), tags=["users"])
    async def update_user(user_id: UserId, name: Name, age: Age) -> schema.User:
        """Replace a user's name and age."""
        await store.update(user_id, name, age)
        return schema.User(user_id=user_id, name=name, age=age)

    @app.delete("/users/{user_id}", status_code=204, responses=refusals(403, 404), tags=["users"])
    async def delete_user(user_id: UserId) -> None:
        """Delete a user."""
        await store.delete(user_id)

    @app.get("/stats/ages", tags=["statistics"])
    async def count_ages() -> AgeCounts:
        """Count users by age. Kept up to date by every write, so it costs the same at any size."""
        ages = await store.age_counts()
        return AgeCounts(total=sum(ages.values()), ages=ages)


LISTING = {
    "description": "Users by id. A page that is not the last has a Link header to the next one.",
    "headers": {"Link": {"schema": {"type": "string"}, "description": 'rel="next" (RFC 8288)'}},
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "propertyNames": {"pattern": "^(0|[1-9][0-9]*)$"},
                "additionalProperties": schema.ListedUser.model_json_schema(),
            },
            "example": {"123": {"name": "Alice", "age": 30}},
        }
    },
}


async def listing(snapshot: AsyncIterator[list[User]]) -> AsyncIterator[str]:
    """Yield a snapshot as the pieces of one JSON object."""
    opening = "{"
    async for users in snapshot:
        yield opening + schema.encode_users(users)
        opening = ","
        await asyncio.sleep(0)  # other requests get their turn between two pieces
    yield "{}" if opening == "{" else "}"


def page_answer(users: list[User], limit: int) -> Response:
    """Answer with the first `limit` of `users`; one more than that shows that a page follows."""
    page = users[:limit]
    headers = {}
    if len(users) > limit:
        headers["Link"] = f'</users/?limit={limit}&after={page[-1][0]}>; rel="next"'
    body = "{" + schema.encode_users(page) + "}"
    return Response(body, headers=headers, media_type="application/json")


# --------------------------------------------------------------------------------------- probes


def add_probes(app: FastAPI, store: MemoryStore, lifecycle: Lifecycle, metrics: Metrics) -> None:
    """Add what orchestrators, load balancers and Prometheus ask."""

    @app.get("/health", tags=["probes"])
    async def health() -> Health:
        """Tell that the process lives. It asks nobody else, so only a restart can help it."""
        return Health(status="healthy")

    @app.get("/ready", responses=refusals(503), tags=["probes"])
    async def ready() -> Readiness:
        """Tell whether to send requests here, and whether users outlive the process."""
        if lifecycle.stopping:
            raise HTTPException(503, "The process is stopping")
        return Readiness(status="ready", store=store.kind, durable=store.durable)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, tags=["probes"])
    async def prometheus_metrics() -> Response:
        """Give the metrics in Prometheus' text format."""
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


# -------------------------------------------------------------------------------------- refusals


class StrictRoute(APIRoute):
    """A route that refuses parameters it does not know, or is given twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = {parameter.alias for parameter in self.dependant.query_params}

        async def check_and_handle(request: Request) -> Response:
            if errors := schema.query_errors(request.scope["query_string"], known):
                raise RequestValidationError(errors)
            return await handle(request)

        return check_and_handle


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of the errors that a call may answer with."""
    descriptions = {
        400: "The Host header names a foreign host",
        403: "A page of another site may not write",
        404: "No user has this id",
        409: "A user has this id already",
        422: "A parameter is missing, unknown, repeated or out of its bounds",
        503: "Not ready",
        507: "The store is full",
    }
    models = {422: schema.Invalid}
    return {
        status: {
            "model": models.get(status, schema.Refusal),
            "description": descriptions[status],
        }
        for status in statuses
    }


def add_error_answers(app: FastAPI) -> None:
    """Add the one table from errors to statuses, and the two answers FastAPI has otherwise."""

    def answer_with(status: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
        async def answer(_: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status)

        return answer

    for error, status in STATUS_OF_ERROR.items():
        app.add_exception_handler(error, answer_with(status))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": [schema.shortened(e) for e in error.errors()]}, 422)

    @app.exception_handler(405)
    async def method_not_allowed(request: Request, error: HTTPException) -> JSONResponse:
        """List every method of the address (RFC 9110, 15.5.6), not only its first route's."""
        allowed: set[str] = set()
        for route in app.routes:
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
                allowed |= route.methods or set()
        if "GET" in allowed:
            allowed.add("HEAD")
        headers = {"Allow": ", ".join(sorted(allowed))}
        return JSONResponse({"detail": error.detail}, 405, headers)


try:
    app = create_app(read_settings())
except SettingsError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
