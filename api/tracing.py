"""Traces of requests and of the store's verbs, for those who ask for them by a setting.

FastAPI makes the span of a request, with the sender's trace as its parent. Each verb of the store
gets its own span inside. All spans go to an OpenTelemetry collector.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from opentelemetry import trace

VERBS: Final = ("create", "create_many", "get", "update", "delete", "page", "age_counts", "check")
PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
EXPORT_TIMEOUT_SECONDS: Final = 2.0  # a collector that is away does not delay the shutdown

# FastAPI's `telemetry` without tracing. By default, each request would spend 5 us to find out that
# there is no collector.
NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False}


class Tracing:
    """Spans of requests and of a store's verbs, sent to a collector by OTLP over HTTP."""

    def __init__(self, endpoint: str, version: str, store: Any) -> None:
        """`endpoint` is the collector's address; the verbs of `store` are wrapped."""
        # Imported only on request: the SDK takes half as long to load as all of the API.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        class RemoveAddress(SpanProcessor):
            """Removes the address from a request's span: that of a write has a name and an age."""

            def on_start(self, span: trace.Span, parent_context: Any = None) -> None:  # noqa: ARG002
                span.set_attributes({"url.path": "", "url.query": ""})

        about = Resource.create({"service.name": "api", "service.version": version})
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_TIMEOUT_SECONDS)
        self._provider = TracerProvider(resource=about)
        self._provider.add_span_processor(RemoveAddress())
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        # FastAPI's `telemetry`: spans of requests, except those of probes.
        self.config: Any = NO_TELEMETRY | {
            "tracing": True,
            "operation_spans": False,
            "tracer_provider": self._provider,
            "exclude": lambda scope: scope.get("path") in PROBES,
        }
        tracer = self._provider.get_tracer("api.store")
        for verb in VERBS:
            setattr(store, verb, _traced(tracer, store.kind, verb, getattr(store, verb)))

    def close(self) -> None:
        """Send the spans that are still buffered."""
        self._provider.shutdown()


def _traced(
    tracer: trace.Tracer, kind: str, verb: str, call: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    attributes = {"db.system.name": kind, "db.operation.name": verb}

    async def traced(*arguments: Any, **named: Any) -> Any:
        if not trace.get_current_span().is_recording():
            return await call(*arguments, **named)
        with tracer.start_as_current_span(
            f"store.{verb}", kind=trace.SpanKind.CLIENT, attributes=attributes,
            record_exception=False,  # its message may contain what a log may not
        ):  # fmt: skip
            return await call(*arguments, **named)

    return traced
