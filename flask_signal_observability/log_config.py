"""The app's own log lines, its libraries' and the server's in the same form as ours: for those who ask for it."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any
from typing import TYPE_CHECKING

import flask.logging
import structlog

from .config import Config
from .log_formatter import LineFormatter
from .log_output import open_output
from .pipeline import EXTENSION

if TYPE_CHECKING:
    from .log_output import LineStream
    from .settings import TextStream

    StreamHandler = logging.StreamHandler["_Text"]
else:
    StreamHandler = logging.StreamHandler

__all__ = ["configure_logging"]

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
    for themselves are removed; those of the app stay. Warnings become records of the logger ``py.warnings``.

    Args:
        app: Its ``Observability``, else its ``OBSERVABILITY_*`` configuration, gives what is not given here; without
            an app the environment does.
        level: The least level that is written; default ``log_level``.
        format: ``auto``, ``json`` or ``console``; default ``log_format``.
        stream: ``stdout``, ``stderr``, ``otlp``, a path or an open text stream; default ``log_stream``.

    Raises:
        ConfigurationError: A value cannot work.
    """
    given = {"log_level": level, "log_format": format, "log_stream": stream}
    config = _config_of(app, {key: value for key, value in given.items() if value is not None})
    _install(_Handler(config))
    _take_over_libraries()
    logging.captureWarnings(capture=True)
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

    def __init__(self, config: Config) -> None:
        stream, render = open_output(config)
        super().__init__(_Text(stream))
        self.setFormatter(LineFormatter(config, render))
        # Not setLevel: Flask and Werkzeug look for a handler of their logger's own level before they add theirs.
        threshold: int = getattr(logging, config.log_level)
        self.addFilter(lambda record: record.levelno >= threshold)
        self.least_level = threshold

    def close(self) -> None:
        """Close the log file, where there is one."""
        self.stream.close()
        super().close()


class _Text:
    """A stream of lines for what writes text."""

    def __init__(self, stream: LineStream) -> None:
        self._stream = stream
        self.close = stream.close

    def write(self, text: str) -> None:
        self._stream.write(text.encode())


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
