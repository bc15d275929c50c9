"""The TracerProvider: the app's own where there is one, else one made from the standard ``OTEL_*`` variables.

One that is made here may be made before a fork: every process exports for itself, with ids of its own, and does not
wait for ever when it ends.

The only room that sets up ``opentelemetry.sdk``. What the variables mean:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from .errors import ConfigurationError
from .exporters import TRACES
from .shutdown import BoundedShutdown
from .shutdown import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExporter

    from .span_export import Exported

__all__ = [
    "BoundedTracerProvider",
    "KernelIdGenerator",
    "LocalTracerProvider",
    "deliver",
    "exports",
    "flush",
    "tracer_provider",
]

logger = logging.getLogger("flask_signal_observability")

NOT_DELIVERED = "the last spans of this process could not be delivered within %s s; is the collector there?"


def tracer_provider(
    service_name: str,
    exported: Exported | None,
    flush_timeout_seconds: float,
    *,
    queue_full: Callable[[], None] | None = None,
) -> trace.TracerProvider:
    """Return the global TracerProvider; install one where nobody has.

    With no exporter and no endpoint named in the environment the installed one exports nothing and connects nowhere,
    but its spans have ids.

    Args:
        service_name: ``service.name`` of the resource; ``OTEL_RESOURCE_ATTRIBUTES`` adds the rest.
        exported: called on the exporter's thread with a number of spans and the ``error.type`` that their export ended
            with, empty where they were delivered.
        flush_timeout_seconds: how long the installed one waits for its last spans to be delivered when it is shut down,
            which it is at the end of the process.
        queue_full: called, where ``exported`` is, for each span that the queue has no room for, on its own thread.

    Raises:
        ConfigurationError: one of the variables has a value that the SDK refuses, or names a provider that is none.
    """
    current = _provider_of_the_api()
    if not isinstance(current, trace.ProxyTracerProvider):
        return current
    try:
        trace.set_tracer_provider(
            _provider_of_environment(service_name, exported, flush_timeout_seconds, queue_full or _nobody)
        )
    except ValueError as error:
        raise ConfigurationError(f"the OTEL_* environment variables cannot be used: {error}; mend that one") from error
    return trace.get_tracer_provider()


def _provider_of_the_api() -> trace.TracerProvider:
    try:
        return trace.get_tracer_provider()
    except (StopIteration, ImportError, AttributeError, TypeError) as error:  # no such entry point, or none of a class
        named = os.environ.get(OTEL_PYTHON_TRACER_PROVIDER)
        raise ConfigurationError(
            f"{OTEL_PYTHON_TRACER_PROVIDER}={named!r} names no TracerProvider that can be loaded "
            f"({str(error) or 'no distribution has it'}); install the one that has it, or remove the variable."
        ) from error


def _provider_of_environment(
    service_name: str, exported: Exported | None, flush_timeout_seconds: float, queue_full: Callable[[], None]
) -> TracerProvider:
    exporters = [(name, exporter) for name in exporter_names() if (exporter := make_exporter(name)) is not None]
    resource = Resource.create({"service.name": service_name})
    if not exporters:
        return LocalTracerProvider(resource=resource, id_generator=KernelIdGenerator(), shutdown_on_exit=False)
    provider = BoundedTracerProvider(resource, flush_timeout_seconds)
    from .span_export import processor  # noqa: PLC0415 - of no use where nothing is exported

    for name, exporter in exporters:
        make = partial(make_exporter, name)
        provider.add_span_processor(processor(exporter, make, exported, queue_full, is_console=name == "console"))
    return provider


def _nobody() -> None:
    """Take the place of who counts."""


def deliver(provider: trace.TracerProvider, timeout_seconds: float) -> None:
    """Hand over the spans that are queued, since the process ends: in bounded time, whatever provider it is.

    Args:
        provider: one that was made here is shut down, and nothing more is exported; another one is flushed.
        timeout_seconds: how long to wait for another one; ours has its own limit.
    """
    if isinstance(provider, BoundedTracerProvider):
        provider.shutdown()
    else:
        flush(provider, timeout_seconds)


def flush(provider: trace.TracerProvider, timeout_seconds: float) -> None:
    """Hand over the spans that are queued, in bounded time; more may follow."""
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is not None and not within(timeout_seconds, force_flush):
        logger.warning(NOT_DELIVERED, timeout_seconds)


def exports(provider: trace.TracerProvider | None) -> bool:
    """Tell whether somebody may see the spans of this provider."""
    return provider is not None and not isinstance(provider, LocalTracerProvider)


def exporter_names() -> list[str]:
    """Return the exporters that the environment names; an endpoint alone means ``otlp``."""
    names = TRACES.named() or (["otlp"] if TRACES.has_endpoint() else [])
    return [name for name in names if name != "none"]


def make_exporter(name: str) -> SpanExporter | None:
    """Return the exporter called ``name``; where it cannot be had, warn once and return None."""
    if name == "console":
        return ConsoleSpanExporter()
    exporter: SpanExporter | None = TRACES.make_exporter(name)
    return exporter


class KernelIdGenerator(RandomIdGenerator):
    """Random ids from the kernel.

    Those of ``random`` repeat themselves from worker to worker where an app seeds it, or where a server forks behind
    Python's back, as uWSGI does.
    """

    def generate_span_id(self) -> int:
        """Return 64 random bits, not all of them 0."""
        return int.from_bytes(os.urandom(8), "big") or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """Return 128 random bits, not all of them 0."""
        return int.from_bytes(os.urandom(16), "big") or self.generate_trace_id()


class LocalTracerProvider(TracerProvider):
    """The SDK's provider where no exporter is named: its spans have ids and go nowhere."""


class BoundedTracerProvider(TracerProvider):
    """The SDK's provider, which takes no longer than a limit to shut down; the SDK calls that at the process's end."""

    def __init__(self, resource: Resource, flush_timeout_seconds: float) -> None:
        super().__init__(resource=resource, id_generator=KernelIdGenerator())
        self._flush_timeout_seconds = flush_timeout_seconds
        self._bounded_shutdown = BoundedShutdown(super().shutdown, flush_timeout_seconds)
        self._told_in: int | None = None

    def shutdown(self) -> None:
        """Deliver what is queued, and export nothing more."""
        if not self._bounded_shutdown() and self._told_in != os.getpid():  # the SDK comes here again at the end
            self._told_in = os.getpid()
            logger.warning(NOT_DELIVERED, self._flush_timeout_seconds)
