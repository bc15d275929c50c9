"""Log records over OTLP, through OpenTelemetry's SDK: ``log_stream="otlp"``.

The SDK's side of logs is not stable yet and lies in packages with an underscore; nothing else here imports them.
https://opentelemetry.io/docs/specs/otel/logs/data-model/
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

import orjson
from opentelemetry import _logs as api
from opentelemetry import trace
from opentelemetry.sdk import _logs as sdk
from opentelemetry.sdk._logs import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan
from opentelemetry.trace import SpanContext

from .current_span import context_here
from .errors import ConfigurationError
from .exporters import LOGS
from .exporters import sdk_is_disabled
from .queue_room import QueueRoom
from .shutdown import BoundedShutdown
from .shutdown import within
from .tracebacks import traceback_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from .config import Config

    Dropped = Callable[[str, int], None]
    Fields = dict[str, Any]

__all__ = ["OtlpStream", "open_otlp_stream"]

logger = logging.getLogger("flask_signal_observability")

QUEUE_VARIABLE = "OTEL_BLRP_MAX_QUEUE_SIZE"
DEFAULT_QUEUE_SIZE = 2048
"""The specification's, as the SDK's."""

INSTEAD = "the records go to stdout instead"

SEVERITIES = {
    "debug": (api.SeverityNumber.DEBUG, "DEBUG"),
    "info": (api.SeverityNumber.INFO, "INFO"),
    "warning": (api.SeverityNumber.WARN, "WARN"),
    "error": (api.SeverityNumber.ERROR, "ERROR"),
    "critical": (api.SeverityNumber.FATAL, "FATAL"),
}
"""By our level: severity number and text, as the specification maps Python's."""

NAMES = {"request_id": "flask.request_id"}
"""Attributes that have another name than our key: the one that they have on a span."""

NO_ATTRIBUTES = ("timestamp", "level", "event", "service", "logger", "trace_id", "span_id")
"""What the data model has a field of its own for; the service is the resource's."""


def open_otlp_stream(config: Config, dropped: Dropped | None) -> OtlpStream | None:
    """Return what sends records to where the ``OTEL_*`` variables say; None, with a warning, where it cannot.

    A LoggerProvider that is set globally is used as it is; else one is made and set. Without ``OTEL_LOGS_EXPORTER``
    the records go to a collector.

    Args:
        config: ``service_name`` and ``flush_timeout_seconds`` are read.
        dropped: Is told the reason and the number of records that are given up.

    Raises:
        ConfigurationError: One of the variables has a value that the SDK refuses.
    """
    if sdk_is_disabled():
        logger.warning('log_stream="otlp" sends nothing while OTEL_SDK_DISABLED is true; %s', INSTEAD)
        return None
    if not hasattr(export, "LogRecordExporter"):
        logger.warning('log_stream="otlp" needs opentelemetry-sdk 1.39 or newer; %s', INSTEAD)
        return None
    provider = api.get_logger_provider()
    if not isinstance(provider, sdk.LoggerProvider):
        if LOGS.named() == ["none"]:
            logger.warning('log_stream="otlp" sends nothing while OTEL_LOGS_EXPORTER is none; %s', INSTEAD)
            return None
        exporters = LOGS.make_exporters(["otlp"])
        if not exporters:
            return None
        try:
            provider = BoundedLoggerProvider(config, exporters, dropped)
        except ValueError as error:
            raise ConfigurationError(f"the OTEL_* variables cannot be used: {error}; mend that one") from error
        api.set_logger_provider(provider)
    return OtlpStream(provider, config.flush_timeout_seconds)


class OtlpStream:
    """Takes lines of JSON under our own names, and emits them as log records. Safe to use from several threads."""

    is_terminal = False

    def __init__(self, provider: sdk.LoggerProvider, flush_timeout_seconds: float) -> None:
        self._provider = provider
        self._flush_timeout_seconds = flush_timeout_seconds
        self._queue = provider.queue if isinstance(provider, BoundedLoggerProvider) else None

    def write(self, line: bytes) -> None:
        """Queue one record, or write it to standard error where it could not go out.

        Such as what the exporter has to say of its own troubles, and whatever is told after :meth:`close`.
        """
        queue = self._queue
        if queue is not None:
            if queue.is_exporting or queue.is_closed:
                if sys.stderr is not None:
                    sys.stderr.write(line.decode())
                return
            if not queue.has_room():
                return
        fields: Fields = orjson.loads(line)
        named = self._provider.get_logger(str(fields.get("logger", "flask_signal_observability")))
        named.emit(_log_record(fields))

    def close(self) -> None:
        """Deliver what is queued, in bounded time; nothing goes out through a provider of ours after that."""
        if isinstance(self._provider, BoundedLoggerProvider):
            self._provider.shutdown()
        elif not within(self._flush_timeout_seconds, self._provider.force_flush):
            logger.warning(NOT_DELIVERED, self._flush_timeout_seconds)


def _log_record(fields: Fields) -> api.LogRecord:
    number, text = SEVERITIES.get(str(fields.get("level")), (api.SeverityNumber.INFO, "INFO"))
    event = fields.get("event")
    return api.LogRecord(
        timestamp=_unix_ns(fields.get("timestamp")),
        context=_context(fields),
        severity_number=number,
        severity_text=text,
        body=event,
        attributes=_attributes(fields),
        # A line of a logger's is a message; what has none is an event of ours, and always of the same few names.
        event_name=None if "logger" in fields else str(event),
    )


def _attributes(fields: Fields) -> Fields:
    attributes = {
        NAMES.get(key, key): value
        for key, value in fields.items()
        if key and value is not None and key not in NO_ATTRIBUTES
    }
    try:
        attributes["exception.stacktrace"] = traceback_text(attributes["exception"])
        del attributes["exception"]
    except (AttributeError, KeyError, TypeError, ValueError):  # there is none, or one of the user's own
        attributes.pop("exception.stacktrace", None)
    return attributes


def _unix_ns(timestamp: object) -> int | None:
    try:
        moment = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
    except ValueError:
        return None
    return round(moment.timestamp() * 1e6) * 1000


def _context(fields: Fields) -> Any:
    """Return the context that a record belongs to: the current span's where that is the one, for its flags."""
    here = context_here()
    try:
        trace_id, span_id = int(fields["trace_id"], 16), int(fields["span_id"], 16)
        flags = here.trace_flags if here.trace_id == trace_id else None
        span = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags))
    except (KeyError, TypeError, ValueError):
        span = NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)
    return trace.set_span_in_context(span)


NOT_DELIVERED = "the last log records of this process could not be delivered within %s s; is the collector there?"


class BoundedLoggerProvider(sdk.LoggerProvider):
    """The SDK's provider with one queue for all exporters, which takes no longer than a limit to shut down.

    The SDK calls that at the process's end.
    """

    def __init__(self, config: Config, exporters: dict[str, Any], dropped: Dropped | None) -> None:
        resource = Resource.create({"service.name": config.service_name or "unknown_service"})
        size = int(os.environ.get(QUEUE_VARIABLE) or DEFAULT_QUEUE_SIZE)
        super().__init__(resource=resource)
        self.queue = _Queue(exporters, size, dropped)
        self._flush_timeout_seconds = config.flush_timeout_seconds
        self._bounded_shutdown = BoundedShutdown(super().shutdown, config.flush_timeout_seconds)
        before_exporter: Any = self.queue
        self.add_log_record_processor(export.BatchLogRecordProcessor(before_exporter, max_queue_size=size))

    def shutdown(self) -> None:
        """Deliver what is queued, and export nothing more."""
        self.queue.is_closed = True
        if not self._bounded_shutdown():
            logger.warning(NOT_DELIVERED, self._flush_timeout_seconds)


class _Queue:
    """An exporter that stands before the real ones and counts what waits for them, so that what is lost is counted.

    The batch processor, which holds the queue, tells nobody what falls out of it. In a forked process the real ones are
    made anew: two that share a connection read each other's answers.
    """

    def __init__(self, exporters: dict[str, Any], size: int, dropped: Dropped | None) -> None:
        self._exporters = exporters
        self._dropped = dropped or _nobody
        room = QueueRoom(size, partial(self._dropped, "queue", 1))
        self.has_room = room.take
        self._leave = room.leave
        self.is_closed = False
        self._here = threading.local()
        self._process_id = os.getpid()

    @property
    def is_exporting(self) -> bool:
        """Whether this thread is exporting now."""
        return bool(getattr(self._here, "is_exporting", False))

    def export(self, batch: Sequence[Any]) -> Any:
        """Export; what no exporter takes is counted, once however many there are."""
        if self._process_id != os.getpid():
            self._process_id = os.getpid()
            self._exporters = {name: LOGS.make_exporter(name) or exporter for name, exporter in self._exporters.items()}
        self._leave(len(batch))
        takers: list[Any] = []
        try:
            with ExitStack() as each:  # the others get it where one raises
                for exporter in self._exporters.values():
                    each.callback(self._export, exporter, batch, takers)
        finally:
            if not takers:
                self._dropped("export", len(batch))
        return export.LogRecordExportResult.SUCCESS

    def _export(self, exporter: Any, batch: Sequence[Any], takers: list[Any]) -> None:
        self._here.is_exporting = True
        try:
            if exporter.export(batch) is export.LogRecordExportResult.SUCCESS:
                takers.append(exporter)
        finally:
            self._here.is_exporting = False

    def shutdown(self) -> None:
        """Shut the exporters down."""
        with ExitStack() as each:
            for exporter in self._exporters.values():
                each.callback(exporter.shutdown)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporters, each of them."""
        flushed = [exporter.force_flush(timeout_millis) for exporter in self._exporters.values()]
        return all(flushed)


def _nobody(reason: str, count: int) -> None:
    """Take the place of who counts."""
