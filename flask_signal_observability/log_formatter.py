"""The standard library's and structlog's records as lines like those of a request. Needs neither Flask nor the SDK."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace

from .current_span import context_here
from .record import current_record
from .record import error_type_of
from .redaction import mask_message
from .redaction import mask_strings
from .redaction import Redaction
from .rendering import timestamp_of
from .server_lines import access_fields
from .server_lines import masked_queries
from .server_lines import SERVER_LOGGERS
from .server_lines import unstyled
from .told_errors import place_of
from .told_errors import told_of
from .tracebacks import exception_dicts

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import MutableMapping

    from .config import Config
    from .told_errors import Told

    EventDict = MutableMapping[str, Any]

__all__ = ["LineFormatter", "add_request_context"]

ACCESS_LOGGER = "gunicorn.access"
CAPTURED_WARNINGS = "py.warnings"

SET_BY_FORMATTERS = ("message", "asctime")
"""Another handler's formatter leaves these on the record; as ``extra`` the standard library refuses them."""

STRUCTLOGS_OWN = frozenset({"positional_args", "_record", "_from_structlog"})
"""What one of structlog's processors tells another; no fields that somebody logs."""


def add_request_context(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Add ``request_id``, ``trace_id``, ``span_id`` and ``service`` of here and now: a structlog processor.

    The ids of a trace are the current span's, so that a line from inside a child span names the child. What is not
    known is left as it was, such as ``service`` outside of a request.
    """
    record = current_record.get()
    context = context_here()
    if record is not None:
        if record.request_id is not None:
            event_dict["request_id"] = record.request_id
        if record.pipeline is not None:
            event_dict["service"] = record.pipeline.config.service_name
    if context.is_valid:
        event_dict["trace_id"] = trace.format_trace_id(context.trace_id)
        event_dict["span_id"] = trace.format_span_id(context.span_id)
    elif record is not None and record.trace_id is not None:
        event_dict["trace_id"] = record.trace_id
        event_dict["span_id"] = record.span_id
    return event_dict


class LineFormatter(logging.Formatter):
    """Makes a line, without its end, of a record that structlog wrapped for a formatter or that is none of its own.

    The record stays as it is, for other handlers: structlog's ProcessorFormatter works on a copy, which costs a tenth
    of a line.

    Args:
        config: ``service_name``, ``redact``, ``capture_query``, ``exception_message``, ``request_id_header`` and
            ``log_stream``, where the lines go, are read.
        render: Makes the line.
    """

    def __init__(self, config: Config, render: Callable[[dict[str, Any]], bytes]) -> None:
        super().__init__()
        self._config = config
        self._render = render
        self._redaction = Redaction(config.redact)
        self._place = place_of(config.log_stream)
        self._sent_id = f"{{{config.request_id_header.lower()}}}o"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message: Any = record.msg
        is_wrapped = isinstance(message, dict) and hasattr(record, "_logger") and hasattr(record, "_name")
        said = _without(STRUCTLOGS_OWN, message) if is_wrapped else _fields_of(record)
        if record.name in SERVER_LOGGERS:
            said["event"] = masked_queries(str(said["event"]), self._redaction if self._config.capture_query else None)
        error = _error_in(said.pop("exc_info", None))
        told = None if error is None else _told(error)
        if error is not None:
            said |= self._error_fields(error, told)
        fields = self._redaction.mask_mapping(said)
        line = {
            "timestamp": timestamp_of(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "event": fields.pop("event", ""),
            "service": self._config.service_name,
            "logger": record.name,
        }
        if record.name == ACCESS_LOGGER and isinstance(record.args, Mapping):
            line |= {"event": "request_served", **mask_strings(access_fields(record.args, self._sent_id))}
        elif record.name == CAPTURED_WARNINGS:
            line["event"] = _without_source(str(line["event"]))
        if told is not None:
            line |= told.ids
        add_request_context(None, "", line)
        return self._render({**line, **fields, **line})[:-1].decode()

    def _error_fields(self, error: BaseException, told: Told | None) -> dict[str, Any]:
        """Return the traceback, or the type alone where the stream has the traceback already."""
        if told is not None and self._place in told.places:
            return {"exception.type": error_type_of(error)}
        stacks = exception_dicts(error, message=self._config.exception_message)
        return {"exception": mask_strings(stacks, mask_message)}


def _told(error: BaseException) -> Told | None:
    """Return what a record told of the error: Flask logs one that nobody handled, a server one of a broken stream.

    In a request it must be this request's: an app may raise the same object again and again.
    """
    record = current_record.get()
    is_anothers = record is not None and not any(mine is error for mine in record.errors)
    return None if is_anothers else told_of(error)


def _without_source(warning: str) -> str:
    """Return a warning's text without the line of source that the standard library puts below it."""
    text = warning.rstrip("\n")
    above, _, last = text.rpartition("\n")
    return above if above and last.startswith("  ") else text


def _without(keys: frozenset[str], fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in keys}


_extra = structlog.stdlib.ExtraAdder()


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record of the standard library says; where ``extra`` holds an ``event``, the message stays."""
    fields = dict(_extra(logging.root, "", {"_record": record}))
    for key in ("_record", *SET_BY_FORMATTERS):
        fields.pop(key, None)
    fields["event"] = unstyled(record.getMessage())
    if record.exc_info:
        fields["exc_info"] = record.exc_info
    if record.stack_info:
        fields["stack"] = record.stack_info  # structlog's name for it
    return fields


def _error_in(exc_info: Any) -> BaseException | None:
    """Return the exception that any form of ``exc_info`` means; ``(None, None, None)`` means none."""
    if isinstance(exc_info, tuple) and len(exc_info) == 3:  # noqa: PLR2004
        exc_info = exc_info[1]
    if isinstance(exc_info, BaseException):
        return exc_info
    return sys.exc_info()[1] if exc_info else None
