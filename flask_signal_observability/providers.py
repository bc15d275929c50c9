"""The TracerProvider: the app's own where there is one, else one made from the standard ``OTEL_*`` variables.

The only room that sets up ``opentelemetry.sdk``. What the variables mean:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import entry_points
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from .catalogue import OTHER
from .errors import ConfigurationError
from .record import error_type_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    Exported = Callable[[int, str], None]

__all__ = ["CountingExporter", "tracer_provider"]

logger = logging.getLogger("flask_signal_observability")

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

EXPORTER_GROUP = "opentelemetry_traces_exporter"
"""The entry point group under which OpenTelemetry's exporters register."""


def tracer_provider(service_name: str, exported: Exported | None) -> trace.TracerProvider:
    """Return the global TracerProvider; install one where nobody has.

    With no exporter and no endpoint named in the environment the installed one exports nothing and connects nowhere,
    but its spans have ids.

    Args:
        service_name: ``service.name`` of the resource; ``OTEL_RESOURCE_ATTRIBUTES`` adds the rest.
        exported: called on the exporter's thread with a number of spans and the ``error.type`` that their export ended
            with, empty where they were delivered.

    Raises:
        ConfigurationError: one of the variables has a value that the SDK refuses.
    """
    current = trace.get_tracer_provider()
    if not isinstance(current, trace.ProxyTracerProvider):
        return current
    try:
        trace.set_tracer_provider(_provider_of_environment(service_name, exported))
    except ValueError as error:
        raise ConfigurationError(f"the OTEL_* environment variables cannot be used: {error}; mend that one") from error
    return trace.get_tracer_provider()


def _provider_of_environment(service_name: str, exported: Exported | None) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    for name in exporter_names():
        exporter = make_exporter(name)
        if exporter is not None:
            if exported is not None:
                exporter = CountingExporter(exporter, exported)
            batched = name != "console"
            provider.add_span_processor(BatchSpanProcessor(exporter) if batched else SimpleSpanProcessor(exporter))
    return provider


def exporter_names() -> list[str]:
    """Return the exporters that the environment names; an endpoint alone means ``otlp``."""
    named = os.environ.get("OTEL_TRACES_EXPORTER", "")
    names = [name for part in named.split(",") if (name := part.strip().lower())]
    if not names and any(os.environ.get(variable) for variable in ENDPOINT_VARIABLES):
        names = ["otlp"]
    return [name for name in names if name != "none"]


def make_exporter(name: str) -> SpanExporter | None:
    """Return the exporter called ``name``; where it is not installed, warn once and return None."""
    if name == "console":
        return ConsoleSpanExporter()
    if name == "otlp":
        protocol = next((value for v in PROTOCOL_VARIABLES if (value := os.environ.get(v))), "http/protobuf")
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for entry_point in entry_points(group=EXPORTER_GROUP, name=name):
        try:
            exporter: SpanExporter = entry_point.load()()
        except (ImportError, AttributeError, ValueError, RuntimeError, TypeError) as error:
            logger.warning("the span exporter %r cannot be used, so it gets no spans: %s", name, error)
            return None
        return exporter
    remedy = 'pip install "flask-signal-observability[otlp]"' if name == "otlp_proto_http" else "install its package"
    logger.warning(
        "the environment asks for the span exporter %r, which is not installed, so it gets no spans: %s", name, remedy
    )
    return None


class CountingExporter(SpanExporter):
    """Hands spans to an exporter and tells how it went. Called on the span processor's thread."""

    def __init__(self, exporter: SpanExporter, exported: Exported) -> None:
        self._exporter = exporter
        self._exported = exported

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export; what raises counts as given up too, and goes on to the processor, which logs it."""
        error_type = OTHER
        try:
            result = self._exporter.export(spans)
            if result is SpanExportResult.SUCCESS:
                error_type = ""
        except BaseException as error:
            error_type = error_type_of(error)
            raise
        finally:
            self._exported(len(spans), error_type)
        return result

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exporter, name)
