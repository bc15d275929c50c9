"""Between the SDK's processors and an exporter: one for each process, counted, with a queue that refuses."""

from __future__ import annotations

import os
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from .catalogue import OTHER
from .queue_room import QueueRoom
from .record import error_type_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace import SpanProcessor

    Exported = Callable[[int, str], None]

__all__ = ["CountingExporter", "ProcessExporter", "SpanQueue", "processor"]

QUEUE_VARIABLE = "OTEL_BSP_MAX_QUEUE_SIZE"
DEFAULT_QUEUE_SIZE = 2048
"""The specification's, as the SDK's."""


def processor(
    exporter: SpanExporter,
    make: Callable[[], SpanExporter | None],
    exported: Exported | None,
    queue_full: Callable[[], None],
    *,
    is_console: bool,
) -> SpanProcessor:
    """Return what hands spans to an exporter: at once on a console, elsewhere in batches.

    Args:
        exporter: The one of this process.
        make: Makes the next one, as for :class:`ProcessExporter`.
        exported: As in :class:`CountingExporter`; None: nobody counts.
        queue_full: As in :class:`SpanQueue`.
        is_console: Who looks at it waits for each span.
    """
    of_process = ProcessExporter(exporter, make)
    if is_console:
        return SimpleSpanProcessor(of_process if exported is None else CountingExporter(of_process, exported))
    return BatchSpanProcessor(of_process) if exported is None else SpanQueue(of_process, exported, queue_full)


class ProcessExporter(SpanExporter):
    """An exporter that is made anew in a forked process: two that share a connection read each other's answers.

    Args:
        exporter: the one of this process.
        make: makes the next one, or None where that fails.
    """

    def __init__(self, exporter: SpanExporter, make: Callable[[], SpanExporter | None]) -> None:
        self._exporter = exporter
        self._make = make
        self._process_id = os.getpid()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export through the exporter of this process."""
        if self._process_id != os.getpid():
            self._process_id = os.getpid()
            self._exporter = self._make() or self._exporter
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)


class SpanQueue(BatchSpanProcessor):
    """The SDK's batch processor, which refuses and counts a span for which its queue has no room.

    The SDK throws the oldest one away instead, tells nobody how many, and logs it again and again.

    Args:
        exporter: where the spans go.
        exported: as in :class:`CountingExporter`.
        queue_full: told of each span that is refused.
    """

    def __init__(self, exporter: SpanExporter, exported: Exported, queue_full: Callable[[], None]) -> None:
        size = int(os.environ.get(QUEUE_VARIABLE) or DEFAULT_QUEUE_SIZE)
        room = QueueRoom(size, queue_full)
        self._take = room.take
        super().__init__(CountingExporter(exporter, exported, room.leave), max_queue_size=size)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that is sampled, where there is room."""
        context = span.context
        if context is not None and context.trace_flags.sampled and self._take():
            super().on_end(span)


class CountingExporter(SpanExporter):
    """Hands spans to an exporter and tells how it went. Called on the span processor's thread."""

    def __init__(
        self, exporter: SpanExporter, exported: Exported, leaving: Callable[[int], None] = lambda _: None
    ) -> None:
        self._exporter = exporter
        self._exported = exported
        self._leaving = leaving

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export; what raises counts as given up too, and goes on to the processor, which logs it."""
        error_type = OTHER
        self._leaving(len(spans))
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
