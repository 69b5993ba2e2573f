"""How the API is assembled. `fastapi dev main.py` starts it for development.

`uvicorn main:app` starts it for everything else.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

import batch
import listing
import openapi
from calls import calls
from crud import MemoryStore, StoreUnavailable, StoreUnusable
from errors import add_error_handlers
from middleware import Observe, RequestMiddleware
from settings import Settings, SettingsError, read_settings, refuse_unsafe_start
from shutdown import Shutdown, fail_start, refuse_second_worker
from telemetry import Metrics, configure_log, log

VERSION = "0.1.0"
# FastAPI's own traces would contain addresses, and those of writes contain names and ages.
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}


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
        await check_at_start(store)
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
        routes=[
            r for each in (calls, batch.routes, listing.routes, openapi.pages) for r in each.routes
        ],
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.store, app.state.shutdown, app.state.metrics = store, shutdown, metrics
    add_error_handlers(app)
    observers = (metrics.observe, access_log.observe)
    add_middleware(app, settings, observers, metrics.report)
    return app


def add_middleware(
    app: FastAPI,
    settings: Settings,
    observers: tuple[Observe, ...],
    report: Callable[[bytes], None],
) -> None:
    """Put RequestMiddleware around the routes, and CORS around it if there are other origins."""
    app.add_middleware(
        RequestMiddleware,
        allowed_hosts=settings.allowed_hosts,
        public_urls=settings.public_url,
        allowed_origins=settings.allowed_origins,
        api_token=settings.api_token,
        observers=observers,
        report=report,
        is_stopping=app.state.shutdown.stopping.is_set,
    )
    if settings.allowed_origins:
        origins = settings.allowed_origins
        app.add_middleware(CORSMiddleware, allow_origins=origins, **openapi.CORS)


def open_store(settings: Settings, metrics: Metrics) -> Any:
    """Return the store in memory, or the one that DATABASE_URL names."""
    if settings.database_url is None:
        return MemoryStore(settings.max_users)
    from engines import engine_for  # only here: the memory store needs no database driver
    from sql import SqlStore

    return SqlStore(engine_for(settings.database_url), metrics.commit_seconds.observe)


async def check_at_start(store: Any) -> None:
    """End the process if the store can never be used. One that is unavailable may come later."""
    try:
        await store.check()
    except StoreUnusable as error:
        fail_start(f"DATABASE_URL cannot be used: {error.reason}")
    except StoreUnavailable:
        log.warning("the store is not available yet")


try:
    settings = read_settings()
    refuse_unsafe_start(settings)
except SettingsError as error:
    fail_start(str(error))

app = create_app(settings)
