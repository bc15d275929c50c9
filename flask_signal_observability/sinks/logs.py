"""Requests and what happens in them as structured records."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

from structlog.tracebacks import safe_str

from ..event_line import EventLines
from ..log_output import open_output
from ..log_output import warn_of_place
from ..log_sampling import LogSampling
from ..record import error_type_of
from ..record import Sink
from ..redaction import mask_message
from ..redaction import mask_strings
from ..redaction import Redaction
from ..rendering import timestamp_of
from ..rendering import to_json_line
from ..request_line import level_of
from ..request_line import RequestLines
from ..told_errors import place_of
from ..told_errors import tell
from ..tracebacks import exception_dicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Config
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord

    Line = dict[str, Any]

__all__ = ["LogsSink"]

RANKS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

IDS = ("service", "request_id", "trace_id", "span_id")

OWN_KEYS = frozenset(
    {
        *("timestamp", "level", "event", "service", "truncated", "request_id", "trace_id", "span_id"),
        *("http.request.method", "http.request.method_original", "url.path", "url.query", "http.route"),
        *("http.response.status_code", "error.type", "client.address", "network.peer.address", "user.id"),
        *("flask.endpoint", "http.request.body.size", "http.response.body.size", "duration_seconds"),
        *("client_disconnected", "exception.type", "exception.message", "exception", "handled"),
        *("flask.template", "category"),
    }
)
"""What an annotation cannot say, whether the record itself says it or not. OpenTelemetry's names (HTTP semantic
conventions) for what it names."""


class LogsSink(Sink):
    """Writes ``request_started`` and ``request_finished``, exceptions, renders and flashes, one record a line.

    structlog renders them for people and takes errors apart; its global configuration is neither read nor changed.
    Nothing is built for a level that is off. Safe to use from several threads.

    Args:
        config: ``service_name``, ``log_*``, ``slow_request_seconds``, ``exception_message`` and ``redact`` are read.
        dropped: Is told the reason and the number of records that no collector will see.
        follows_traces: Whether the flag of a sampled trace means that somebody will see it.
    """

    name = "logs"
    reads_details = False

    def __init__(
        self, config: Config, *, dropped: Callable[[str, int], None] | None = None, follows_traces: bool = True
    ) -> None:
        self._service = config.service_name
        self._exception_message = config.exception_message
        self._redaction = Redaction(config.redact)
        warn_of_place(config)
        self._place = place_of(config.log_stream)
        self._stream, self._render = open_output(config, dropped)
        self._least: int = getattr(logging, config.log_level)
        self._sampling = LogSampling(config.log_sample_rate, config.slow_request_seconds, follows_traces=follows_traces)
        # From here on a record is written without a look at the sampling.
        self._certain = self._least if config.log_sample_rate == 1 else max(self._least, logging.ERROR)
        if self._least > logging.DEBUG:
            self.skips = frozenset({"start"})

    def start(self, record: RequestRecord) -> None:
        """Write ``request_started`` (debug)."""
        if self._keeps_debug(record):
            self._write(self._request(record, record.started_unix_ns, "debug", "request_started"), record)

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Write an error (error; a handled one warning), a render or a flash (both debug), and nothing else."""
        if event.name == "exception" and self._least <= logging.ERROR:
            line = self._line(event, record, "error")
            self._add_exception(line, event.error)
        elif event.name == "handled_exception" and self._least <= logging.WARNING:
            line = self._line(event, record, "warning")
            line["event"] = "exception"
            line["handled"] = True
            self._add_exception(line, event.error)
        elif event.name == "template_rendered" and self._keeps_debug(record):
            line = self._line(event, record, "debug")
            _add_render(line, event)
        elif event.name == "message_flashed" and self._keeps_debug(record):
            line = self._line(event, record, "debug")
            line["category"] = event.fields.get("category")
        elif event.name == "worker_started" and self._least <= logging.INFO:
            line = self._line(event, record, "info")
            line.update(event.fields)
        else:
            return
        self._write(line, record)
        if event.error is not None and "exception" in line:
            tell(event.error, self._place, {key: line[key] for key in IDS if key in line})

    def teller(self, outputs: Outputs) -> Callable[[EventRecord, RequestRecord | None], None] | None:
        """Return what writes an event at the level that was asked for; its fields are plain and redacted."""
        level = outputs.level
        if level is None or outputs.level_number < self._least:
            return None
        if self._render is not to_json_line:
            return partial(self._write_event, level)
        line_of, write_line = EventLines(level, outputs.name, self._service, OWN_KEYS).of, self._stream.write

        def write(event: EventRecord, record: RequestRecord | None) -> None:
            line = line_of(event, record)
            if line is not None:
                write_line(line)
            else:
                self._write_event(level, event, record)

        return write

    def _write_event(self, level: str, event: EventRecord, record: RequestRecord | None) -> None:
        line = self._line(event, record, level)
        line |= {key: value for key, value in event.fields.items() if key not in OWN_KEYS}
        if event.duration_ns is not None:
            line["duration_seconds"] = event.duration_ns / 1e9
        self._write(line, record)

    def finish(self, record: RequestRecord) -> None:
        """Write ``request_finished``: an error if ``error_type`` is set, a warning for a 4xx, else info."""
        if self._keeps(record):
            self._write(self._request(record, record.ended_unix_ns, level_of(record), "request_finished"), record)

    def finisher(self) -> Callable[[RequestRecord], None]:
        """Return what tells of finished requests: ``finish``, or what writes the same for plain ones in less time."""
        finish = self.finish
        is_own = getattr(finish, "__func__", None) is LogsSink.finish
        if is_own and self._certain <= logging.INFO and self._render is to_json_line:
            return RequestLines(self._service, self._stream.write, finish).finish
        return finish

    def _keeps(self, record: RequestRecord) -> bool:
        """Tell whether the end of a request is written."""
        rank = RANKS[level_of(record)]
        return rank >= self._certain or (rank >= self._least and self._sampling.keeps(record))

    def _keeps_debug(self, record: RequestRecord | None) -> bool:
        """Tell whether a debug record is written; nobody knows yet how its request will end."""
        return self._least <= logging.DEBUG and (
            self._certain <= logging.DEBUG or record is None or self._sampling.keeps(record)
        )

    def close(self) -> None:
        """Close the log file, where there is one; a later record opens it again."""
        self._stream.close()

    def _write(self, line: Line, record: RequestRecord | None) -> None:
        if record is not None and record.annotations:
            # A copy first: another thread of the request may annotate, too.
            for key, value in self._redaction.mask_mapping(dict(record.annotations)).items():
                if key not in OWN_KEYS:
                    line[key] = value
        self._stream.write(self._render(line))

    def _request(self, record: RequestRecord, unix_ns: int, level: str, event: str) -> Line:
        """Return what is known of a request; at its start that is less than at its end."""
        # The hot path: a dict that is written down and rarely thinned out costs half of one made key by key.
        line: Line = {
            "timestamp": timestamp_of(unix_ns),
            "level": level,
            "event": event,
            "service": self._service,
            "request_id": record.request_id,
            "trace_id": record.trace_id,
            "span_id": record.span_id,
            "http.request.method": record.method,
            "url.path": record.path,
            "http.route": record.route,
            "http.response.status_code": record.status,
            "client.address": record.client_address,
            "network.peer.address": record.peer_address,
            "flask.endpoint": record.endpoint,
            "http.response.body.size": record.response_size,
            "duration_seconds": None if record.duration_ns is None else record.duration_ns / 1e9,
        }
        if None in line.values():
            line = {key: value for key, value in line.items() if value is not None}
        if record.error_type is not None:
            line["error.type"] = record.error_type
        if record.user is not None:
            line["user.id"] = record.user
        if record.query is not None:
            line["url.query"] = record.query
        if record.request_size is not None:
            line["http.request.body.size"] = record.request_size
        if record.method_original is not None:
            line["http.request.method_original"] = record.method_original
        if record.client_disconnected:
            line["client_disconnected"] = True
        return line

    def _line(self, event: EventRecord, record: RequestRecord | None, level: str) -> Line:
        """Return the beginning of an event's record, with the ids of its request."""
        line: Line = {
            "timestamp": timestamp_of(event.unix_ns),
            "level": level,
            "event": event.name,
            "service": self._service,
        }
        if record is not None:
            ids = {"request_id": record.request_id, "trace_id": record.trace_id, "span_id": record.span_id}
            line |= {key: value for key, value in ids.items() if value is not None}
        return line

    def _add_exception(self, line: Line, error: BaseException | None) -> None:
        if error is None:
            return
        line["exception.type"] = error_type_of(error)
        if self._exception_message:
            line["exception.message"] = mask_strings(safe_str(error), mask_message)
        line["exception"] = mask_strings(exception_dicts(error, message=self._exception_message), mask_message)


def _add_render(line: Line, event: EventRecord) -> None:
    line["flask.template"] = event.fields.get("template")
    if event.duration_ns is not None:
        line["duration_seconds"] = event.duration_ns / 1e9
    if event.error is not None:
        line["error.type"] = error_type_of(event.error)
