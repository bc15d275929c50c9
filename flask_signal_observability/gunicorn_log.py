"""Gunicorn's own log as records: ``gunicorn --logger-class flask_signal_observability.gunicorn.Logger app:app``.

https://docs.gunicorn.org/en/stable/settings.html#logger-class
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]

from .config import Config
from .log_formatter import LineFormatter
from .rendering import make_renderer
from .streams import LogStream

__all__ = ["Logger"]


class Logger(glogging.Logger):  # type: ignore[misc]
    """Gunicorn's logger, whose error and access log are records, in the master as in the workers.

    They go where gunicorn's settings say. An access log, off as ever unless ``--access-logfile`` asks for it, tells of
    each request what ``request_finished`` does, but for the app's part. The form is ``OBSERVABILITY_LOG_FORMAT``'s. The
    service is ``OBSERVABILITY_SERVICE_NAME``, else ``OTEL_SERVICE_NAME``, else ``--name``, else the app's module, after
    which most apps are called: the master has no app to ask. A logging configuration of one's own stays as it is.

    Raises:
        ConfigurationError: A value in the environment cannot work.
    """

    def setup(self, cfg: Any) -> None:
        """Set the logs up; gunicorn calls it at the start, and again when it reads its configuration anew."""
        super().setup(cfg)
        if cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
            return
        config = Config.resolve(_name_of_process(cfg), {}, {})
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            if isinstance(handler, logging.StreamHandler):  # syslog's is none
                render = make_renderer(config.log_format, LogStream(handler.stream), config.log_schema)
                there = dataclasses.replace(config, log_stream=_name_of(handler.stream))
                handler.setFormatter(LineFormatter(there, render))


def _name_of_process(cfg: Any) -> str:
    name: str = cfg.proc_name
    return name.partition(":")[0] if name == cfg.default_proc_name else name


def _name_of(stream: Any) -> Any:
    """Return a stream as ``log_stream`` has it: an error whose traceback is in it already is told in short."""
    return {sys.stdout: "stdout", sys.stderr: "stderr"}.get(stream, stream)
