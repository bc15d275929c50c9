"""Requests and what happens in them as structured records."""

from __future__ import annotations

import logging
from typing import Any
from typing import TYPE_CHECKING

import structlog
from structlog.tracebacks import safe_str

from ..record import error_type_of
from ..record import Sink
from ..redaction import mask_strings
from ..redaction import Redaction
from ..rendering import make_renderer
from ..rendering import timestamp_of
from ..streams import LogStream
from ..tracebacks import exception_dicts

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import MutableMapping

    from ..config import Config
    from ..record import EventRecord
    from ..record import RequestRecord

__all__ = ["LogsSink"]

SERVER_ERROR = 500
CLIENT_ERROR = 400

IDS = (("request_id", "request_id"), ("trace_id", "trace_id"), ("span_id", "span_id"))

REQUEST = (
    ("http.request.method_original", "method_original"),
    ("url.query", "query"),
    ("http.route", "route"),
    ("http.response.status_code", "status"),
    ("error.type", "error_type"),
    ("client.address", "client_address"),
    ("network.peer.address", "peer_address"),
    ("user.id", "user"),
    ("flask.endpoint", "endpoint"),
    ("http.request.body.size", "request_size"),
    ("http.response.body.size", "response_size"),
)
"""OpenTelemetry's names (HTTP semantic conventions), and where the record keeps what they name."""

OWN_KEYS = frozenset(
    {key for key, _ in (*IDS, *REQUEST)}
    | {"timestamp", "level", "event", "service", "truncated"}
    | {"http.request.method", "url.path", "duration_seconds", "client_disconnected"}
    | {"exception.type", "exception.message", "exception", "flask.template", "category", "handled"}
)
"""What an annotation cannot say, whether the record itself says it or not."""


class LogsSink(Sink):
    """Writes ``request_started`` and ``request_finished``, exceptions, renders and flashes, one record a line.

    The records go through a structlog logger of its own; structlog's global configuration is neither read nor changed.
    Nothing is built for a level that is off. Safe to use from several threads.

    Args:
        config: ``service_name``, ``log_level``, ``log_format``, ``log_stream``, ``exception_message`` and ``redact``
            are read.
    """

    name = "logs"

    def __init__(self, config: Config) -> None:
        self._service = config.service_name
        self._exception_message = config.exception_message
        self._redaction = Redaction(config.redact)
        self._stream = LogStream(config.log_stream)
        self._render = make_renderer(config.log_format, self._stream)
        self._log: Any = structlog.wrap_logger(
            self._stream,
            processors=[self._process],
            wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.log_level)),
            context_class=dict,
        ).bind()

    def start(self, record: RequestRecord) -> None:
        """Write ``request_started`` (debug)."""
        self._log.debug("request_started", record=record, unix_ns=record.started_unix_ns, add=_add_request, of=record)

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Write an error (error; a handled one warning), a render or a flash (both debug), and nothing else."""
        if event.name == "exception":
            self._log.error("exception", record=record, unix_ns=event.unix_ns, add=self._add_exception, of=event)
        elif event.name == "handled_exception":
            self._log.warning("exception", record=record, unix_ns=event.unix_ns, add=self._add_handled, of=event)
        elif event.name == "template_rendered":
            self._log.debug("template_rendered", record=record, unix_ns=event.unix_ns, add=_add_render, of=event)
        elif event.name == "message_flashed":
            self._log.debug("message_flashed", record=record, unix_ns=event.unix_ns, add=_add_flash, of=event)

    def finish(self, record: RequestRecord) -> None:
        """Write ``request_finished``: an error if ``error_type`` is set, a warning for a 4xx, else info."""
        status = record.status or 0
        if record.error_type is not None or status >= SERVER_ERROR:
            write = self._log.error
        else:
            write = self._log.warning if status >= CLIENT_ERROR else self._log.info
        write("request_finished", record=record, unix_ns=record.ended_unix_ns, add=_add_request, of=record)

    def close(self) -> None:
        """Close the log file, where there is one; a later record opens it again."""
        self._stream.close()

    def _process(self, _logger: object, level: str, event_dict: MutableMapping[str, Any]) -> bytes:
        # structlog's one processor: from what there is to tell to the bytes of a line. It is the hot path; a finished
        # request costs about 60 k instructions (callgrind) down to the stream, 16 k of them structlog's own.
        record: RequestRecord | None = event_dict["record"]
        add_fields: Callable[[dict[str, Any], Any], None] = event_dict["add"]
        line: dict[str, Any] = {
            "timestamp": timestamp_of(event_dict["unix_ns"]),
            "level": level,
            "event": event_dict["event"],
            "service": self._service,
        }
        if record is None:
            add_fields(line, event_dict["of"])
            return self._render(line)
        _add_known(line, record, IDS)
        add_fields(line, event_dict["of"])
        if record.annotations:
            # A copy first: another thread of the request may annotate, too.
            for key, value in mask_strings(self._redaction.mask_mapping(dict(record.annotations))).items():
                if key not in OWN_KEYS:
                    line[key] = value
        return self._render(line)

    def _add_exception(self, line: dict[str, Any], event: EventRecord) -> None:
        error = event.error
        if error is None:
            return
        line["exception.type"] = error_type_of(error)
        if self._exception_message:
            line["exception.message"] = mask_strings(safe_str(error))
        line["exception"] = mask_strings(exception_dicts(error, message=self._exception_message))

    def _add_handled(self, line: dict[str, Any], event: EventRecord) -> None:
        line["handled"] = True
        self._add_exception(line, event)


def _add_known(line: dict[str, Any], record: RequestRecord, keys: tuple[tuple[str, str], ...]) -> None:
    for key, attribute in keys:
        value = getattr(record, attribute)
        if value is not None:
            line[key] = value


def _add_request(line: dict[str, Any], record: RequestRecord) -> None:
    """Add what is known of a request; at its start that is less than at its end."""
    line["http.request.method"] = record.method
    line["url.path"] = record.path
    _add_known(line, record, REQUEST)
    if record.duration_ns is not None:
        line["duration_seconds"] = record.duration_seconds
    if record.client_disconnected:
        line["client_disconnected"] = True


def _add_render(line: dict[str, Any], event: EventRecord) -> None:
    line["flask.template"] = event.fields.get("template")
    if event.duration_ns is not None:
        line["duration_seconds"] = event.duration_ns / 1e9
    if event.error is not None:
        line["error.type"] = error_type_of(event.error)


def _add_flash(line: dict[str, Any], event: EventRecord) -> None:
    line["category"] = event.fields.get("category")
