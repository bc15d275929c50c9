"""The app's own log lines, its libraries' and the server's in the same form as ours: for those who ask for it."""

from __future__ import annotations

import dataclasses
import logging
import sys
from typing import Any
from typing import TYPE_CHECKING

import flask.logging
import structlog
from opentelemetry import trace

from .config import Config
from .pipeline import EXTENSION
from .record import current_record
from .redaction import mask_strings
from .redaction import Redaction
from .rendering import make_renderer
from .rendering import timestamp_of
from .streams import LogStream
from .tracebacks import exception_dicts

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import MutableMapping

    from .settings import TextStream

    EventDict = MutableMapping[str, Any]
    StreamHandler = logging.StreamHandler["_Text"]
else:
    StreamHandler = logging.StreamHandler

__all__ = ["add_request_context", "configure_logging"]

NAME_WITHOUT_APP = "unknown_service"
"""OpenTelemetry's name for it: https://opentelemetry.io/docs/specs/semconv/resource/#service"""


def configure_logging(
    app: flask.Flask | None = None,
    *,
    level: str | int | None = None,
    format: str | None = None,  # noqa: A002
    stream: str | TextStream | None = None,
) -> None:
    """Send what structlog and the standard library log to one stream, as records like those of a request.

    Changes both for the whole process: call it where the process begins, after ``Observability(app)`` if there is one.
    A second call replaces what the first one did. The handlers that Flask, Werkzeug and Gunicorn installed
    for themselves are removed; those of the app stay.

    Args:
        app: Its ``Observability``, else its ``OBSERVABILITY_*`` configuration, gives what is not given here; without
            an app the environment does.
        level: The least level that is written; default ``log_level``.
        format: ``auto``, ``json`` or ``console``; default ``log_format``.
        stream: ``stdout``, ``stderr``, a path or an open text stream; default ``log_stream``.

    Raises:
        ConfigurationError: A value cannot work.
    """
    given = {"log_level": level, "log_format": format, "log_stream": stream}
    config = _config_of(app, {key: value for key, value in given.items() if value is not None})
    _install(_Handler(config))
    _take_over_libraries()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )


def add_request_context(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Add ``request_id``, ``trace_id`` and ``span_id`` of here and now; a structlog processor for any chain.

    The ids of a trace are the current span's, so that a line from inside a child span names the child. What is not
    known is left as it was.
    """
    record = current_record.get()
    context = trace.get_current_span().get_span_context()
    if record is not None and record.request_id is not None:
        event_dict["request_id"] = record.request_id
    if context.is_valid:
        event_dict["trace_id"] = trace.format_trace_id(context.trace_id)
        event_dict["span_id"] = trace.format_span_id(context.span_id)
    elif record is not None and record.trace_id is not None:
        event_dict["trace_id"] = record.trace_id
        event_dict["span_id"] = record.span_id
    return event_dict


def _config_of(app: flask.Flask | None, given: dict[str, Any]) -> Config:
    if app is None:
        return Config.resolve(NAME_WITHOUT_APP, {}, given)
    pipeline = app.extensions.get(EXTENSION)
    if pipeline is None:
        return Config.resolve(app.name, app.config, given)
    config: Config = pipeline.config
    return dataclasses.replace(config, **given)


class _Handler(StreamHandler):
    """The one handler: whatever fails in it goes to ``handleError``, as in any handler."""

    terminator = ""  # the line brings its own

    def __init__(self, config: Config) -> None:
        stream = LogStream(config.log_stream)
        super().__init__(_Text(stream))
        self.setFormatter(_formatter(config, make_renderer(config.log_format, stream)))
        # Not setLevel: Flask and Werkzeug look for a handler of their logger's own level before they add theirs.
        threshold: int = getattr(logging, config.log_level)
        self.addFilter(lambda record: record.levelno >= threshold)
        self.least_level = threshold

    def close(self) -> None:
        """Close the log file, where there is one."""
        self.stream.close()
        super().close()


class _Text:
    """A LogStream for what writes text."""

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self.close = stream.close

    def write(self, text: str) -> None:
        self._stream.write(text.encode())


def _formatter(config: Config, render: Callable[[dict[str, Any]], bytes]) -> structlog.stdlib.ProcessorFormatter:
    redaction = Redaction(config.redact)

    def to_line(logger: object, method: str, event_dict: EventDict) -> str:
        log_record: logging.LogRecord = event_dict.pop("_record")
        del event_dict["_from_structlog"]
        error = _error_in(event_dict.pop("exc_info", None))
        if error is not None:
            event_dict["exception"] = exception_dicts(error, message=config.exception_message)
        fields = mask_strings(redaction.mask_mapping(dict(event_dict)))
        line = {
            "timestamp": timestamp_of(int(log_record.created * 1e9)),
            "level": log_record.levelname.lower(),
            "event": fields.pop("event", ""),
            "service": config.service_name,
            "logger": log_record.name,
        }
        add_request_context(logger, method, line)
        return render({**line, **fields, **line}).decode()

    return structlog.stdlib.ProcessorFormatter(processors=[to_line], foreign_pre_chain=[_add_extra])


_extra = structlog.stdlib.ExtraAdder()

SET_BY_FORMATTERS = ("message", "asctime")
"""Another handler's formatter leaves these on the record; as ``extra`` the standard library refuses them."""


def _add_extra(logger: Any, method: str, event_dict: EventDict) -> EventDict:
    """Add what was passed as ``extra``, which may hold an ``event`` of its own: the message stays."""
    extra = _extra(logger, method, {"_record": event_dict["_record"]})
    for key in SET_BY_FORMATTERS:
        extra.pop(key, None)
    if "stack_info" in event_dict:
        event_dict["stack"] = event_dict.pop("stack_info")  # structlog's name for it
    return {**extra, **event_dict}


def _error_in(exc_info: Any) -> BaseException | None:
    """Return the exception that any form of ``exc_info`` means; ``(None, None, None)`` means none."""
    if isinstance(exc_info, tuple) and len(exc_info) == 3:  # noqa: PLR2004
        exc_info = exc_info[1]
    if isinstance(exc_info, BaseException):
        return exc_info
    return sys.exc_info()[1] if exc_info else None


def _install(handler: _Handler) -> None:
    root = logging.getLogger()
    previous = [other for other in root.handlers if isinstance(other, _Handler)]
    root.addHandler(handler)
    root.setLevel(handler.least_level)
    for other in previous:
        root.removeHandler(other)
        other.close()


def _take_over_libraries() -> None:
    """Let what Flask, Werkzeug and Gunicorn log reach the root logger, once."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            own = [handler for handler in logger.handlers if _is_library_default(handler)]
            for handler in own:
                logger.removeHandler(handler)
                logger.propagate = True


def _is_library_default(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and (
        handler is flask.logging.default_handler
        or type(handler).__module__.startswith("werkzeug.")
        or getattr(handler, "_gunicorn", False)  # its syslog handler, which is another place, is no StreamHandler
    )
