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
from .redaction import mask_strings
from .redaction import Redaction
from .rendering import timestamp_of
from .tracebacks import exception_dicts

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import MutableMapping

    from .config import Config

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
        config: ``service_name``, ``redact``, ``exception_message`` and ``request_id_header`` are read.
        render: Makes the line.
    """

    def __init__(self, config: Config, render: Callable[[dict[str, Any]], bytes]) -> None:
        super().__init__()
        self._config = config
        self._render = render
        self._redaction = Redaction(config.redact)
        self._sent_id = f"{{{config.request_id_header.lower()}}}o"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message: Any = record.msg
        is_wrapped = isinstance(message, dict) and hasattr(record, "_logger") and hasattr(record, "_name")
        said = _without(STRUCTLOGS_OWN, message) if is_wrapped else _fields_of(record)
        error = _error_in(said.pop("exc_info", None))
        if error is not None:
            if _is_told(error, self._config):
                said["exception.type"] = error_type_of(error)
            else:
                said["exception"] = exception_dicts(error, message=self._config.exception_message)
        fields = self._redaction.mask_mapping(said)
        line = {
            "timestamp": timestamp_of(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "event": fields.pop("event", ""),
            "service": self._config.service_name,
            "logger": record.name,
        }
        if record.name == ACCESS_LOGGER and isinstance(record.args, Mapping):
            line |= {"event": "request_served", **mask_strings(_access_fields(record.args, self._sent_id))}
        elif record.name == CAPTURED_WARNINGS:
            line["event"] = _without_source(str(line["event"]))
        add_request_context(None, "", line)
        return self._render({**line, **fields, **line})[:-1].decode()


def _is_told(error: BaseException, config: Config) -> bool:
    """Tell whether the stream has the traceback already: Flask logs an error that nobody handled, as the sink does."""
    record = current_record.get()
    if record is None or record.pipeline is None or not any(told is error for told in record.errors):
        return False
    observed: Config = record.pipeline.config
    return observed.logs and observed.log_stream == config.log_stream


def _without_source(warning: str) -> str:
    """Return a warning's text without the line of source that the standard library puts below it."""
    text = warning.rstrip("\n")
    above, _, last = text.rpartition("\n")
    return above if above and last.startswith("  ") else text


def _access_fields(atoms: Mapping[str, Any], sent_id: str) -> dict[str, Any]:
    """Return what gunicorn knows of a request, by its names for the parts of an access log's line."""
    fields = {
        "request_id": atoms[sent_id],
        "http.request.method": atoms["m"],
        "url.path": atoms["U"],
        "http.response.status_code": int(status) if (status := str(atoms["s"])).isdecimal() else status,
        "client.address": atoms["h"],
        "user_agent.original": atoms["a"],
        "http.response.body.size": atoms["B"],
        "duration_seconds": float(atoms["L"]),
    }
    return {key: value for key, value in fields.items() if value not in ("-", "", None)}


def _without(keys: frozenset[str], fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in keys}


_extra = structlog.stdlib.ExtraAdder()


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record of the standard library says; where ``extra`` holds an ``event``, the message stays."""
    fields = dict(_extra(logging.root, "", {"_record": record}))
    for key in ("_record", *SET_BY_FORMATTERS):
        fields.pop(key, None)
    fields["event"] = record.getMessage()
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
