"""Traces, for those who ask for them: where a request's time went, across services.

FastAPI makes a span of each request, within the trace that its sender names in `traceparent`. Here
it is given the name that the log has for it, and relieved of what the log may not have; the store's
part gets a span of its own; and all go to an OpenTelemetry collector.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any, Final

from opentelemetry import trace

from guard import ASGIApp, Message, Receive, Scope, Send

VERBS: Final = ("create", "create_many", "get", "update", "delete", "page", "age_counts", "check")
PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
EXPORT_TIMEOUT_SECONDS: Final = 2.0  # a collector that is away does not hold up the end

# FastAPI's `telemetry` when nobody asks for traces. Without it, each request would spend 5 us on
# finding out that nobody listens.
NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False}


class Tracing:
    """Spans of requests, and of a store's verbs, sent to a collector by OTLP over HTTP."""

    def __init__(self, endpoint: str, version: str, store: Any) -> None:
        # Only where it is asked for: the SDK takes half as long to load as all of the API.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        about = Resource.create({"service.name": "api", "service.version": version})
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_TIMEOUT_SECONDS)
        self._provider = TracerProvider(resource=about)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        # FastAPI's `telemetry`: spans of requests, but for those of probes.
        self.config: Any = NO_TELEMETRY | {
            "tracing": True,
            "operation_spans": False,
            "tracer_provider": self._provider,
            "exclude": lambda scope: scope.get("path") in PROBES,
        }
        tracer = self._provider.get_tracer("api.store")
        for verb in VERBS:
            setattr(store, verb, _in_a_span(tracer, store.kind, verb, getattr(store, verb)))
        store.snapshot = _listing_in_a_span(tracer, store.kind, store.snapshot)

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _in_a_span(
    tracer: trace.Tracer, kind: str, verb: str, call: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    attributes = {"db.system.name": kind, "db.operation.name": verb}

    async def in_a_span(*arguments: Any, **named: Any) -> Any:
        if not trace.get_current_span().is_recording():
            return await call(*arguments, **named)
        with tracer.start_as_current_span(
            f"store.{verb}", kind=trace.SpanKind.CLIENT, attributes=attributes,
            record_exception=False,  # its words may hold what a log may not
        ):  # fmt: skip
            return await call(*arguments, **named)

    return in_a_span


def _listing_in_a_span(
    tracer: trace.Tracer, kind: str, call: Callable[[], AsyncGenerator[Any, None]]
) -> Callable[[], AsyncGenerator[Any, None]]:
    """Return a listing with a span that lasts as long as somebody reads it."""
    attributes = {"db.system.name": kind, "db.operation.name": "snapshot"}

    async def in_a_span() -> AsyncGenerator[Any, None]:
        span: Any = nullcontext()
        if trace.get_current_span().is_recording():
            # Never the current one: between two chunks it would be that of whoever asks for them.
            span = tracer.start_span(
                "store.snapshot", kind=trace.SpanKind.CLIENT, attributes=attributes,
                record_exception=False,
            )  # fmt: skip
        with span:
            async with aclosing(call()) as chunks:
                async for chunk in chunks:
                    yield chunk

    return in_a_span


class SpanNames:
    """ASGI middleware around all others: a span says of its request what the log says, no more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = trace.get_current_span()
        if scope["type"] != "http" or not span.is_recording():
            await self._app(scope, receive, send)
            return
        # FastAPI has put the address there, and the address of a write holds a name and an age.
        span.set_attributes({"url.path": "", "url.query": ""})

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None) or "unmatched"
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
                request_id = dict(message["headers"]).get(b"x-request-id", b"")
                span.set_attribute("request_id", request_id.decode())
            await send(message)

        await self._app(scope, receive, send_named)
