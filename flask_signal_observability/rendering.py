"""A log record as one line: JSON for machines, columns for people."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

import orjson
from structlog.dev import ConsoleRenderer
from structlog.dev import plain_traceback

from .ecs import in_ecs
from .safe_copy import MAX_FIELD_BYTES
from .safe_copy import OPTIONS
from .safe_copy import pass_on
from .safe_copy import plain
from .safe_copy import SafeCopy
from .text import printable
from .timestamps import utc_text
from .tracebacks import traceback_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from .streams import LogStream

    EventDict = dict[str, Any]

__all__ = ["make_renderer", "timestamp_of", "to_console_line", "to_ecs_line", "to_json_line"]

LINE = OPTIONS | orjson.OPT_APPEND_NEWLINE

SEPARATORS = re.compile(rb"\xc2\x85|\xe2\x80[\xa8\xa9]")


def to_json_line(event_dict: EventDict) -> bytes:
    r"""Return the record as one line of JSON in UTF-8 that ends with ``\n``; whatever it holds, nothing is raised.

    What JSON has no word for becomes its ``repr``. A string of more than 8 KiB is cut and ends with ``…``, as does what
    lies deeper than 32 levels, and beyond 256 KiB the rest is left out: the record then says ``truncated: true``.
    ``BaseException`` that is no ``Exception`` passes.
    """
    # The hot path: under 10 k instructions (callgrind) for a request. A line that fits into a field has none to cut.
    try:
        line = orjson.dumps(event_dict, plain, LINE)
    except TypeError as error:
        pass_on(error)
    else:
        if len(line) <= MAX_FIELD_BYTES:
            return line if line.isascii() else _on_one_line(line)
    return _on_one_line(orjson.dumps(SafeCopy().of_record(event_dict), option=LINE))


def _on_one_line(line: bytes) -> bytes:
    """Escape what JSON allows in a string and many a reader takes for the end of a line: NEL, U+2028 and U+2029."""
    return SEPARATORS.sub(lambda match: rf"\u{ord(match[0].decode()):04x}".encode(), line)


def to_console_line(event_dict: EventDict, *, colors: bool = False) -> bytes:
    """Return the record for a person: a request as columns, anything else as its event and ``key=value``.

    A structured ``exception`` follows as a traceback. Control characters are escaped, so that a record can neither
    forge another one nor touch the terminal. Times are UTC.
    """
    fields: EventDict = orjson.loads(to_json_line(event_dict))
    exception = fields.pop("exception", None)
    stack = fields.pop("stack", None)
    shown: EventDict = {
        "timestamp": str(fields.pop("timestamp", ""))[11:23] + "Z",
        "level": printable(str(fields.pop("level", "info"))),
        "event": printable(str(fields.pop("event", ""))),
    }
    if _is_request(fields):
        shown["event"] = _request_columns(shown["event"], fields, colors=colors)
    elif "trace_id" in fields:
        fields["trace"] = str(fields["trace_id"])[:SHORT_ID]
    shown |= {
        printable(key): printable(value) if isinstance(value, str) else value
        for key, value in fields.items()
        if key not in LEFT_OUT
    }
    if stack is not None:
        shown["stack"] = _block(str(stack))
    if exception:
        shown = {key: value for key, value in shown.items() if key not in IN_TRACEBACK}
        shown["exception"] = _exception_text(exception)
    return f"{_console(colors)(None, '', shown)}\n".encode()


def make_renderer(log_format: str, stream: LogStream, log_schema: str = "otel") -> Callable[[EventDict], bytes]:
    """Return what makes lines for ``stream``.

    Args:
        log_format: ``json``, ``console`` or ``auto``: console on a terminal, JSON elsewhere.
        stream: Asked once whether it is a terminal; colours need one, and no ``NO_COLOR`` (https://no-color.org).
        log_schema: The names of the fields in JSON, ``otel`` or ``ecs``.
    """
    is_terminal = stream.is_terminal
    if log_format == "console" or (log_format == "auto" and is_terminal):
        return partial(to_console_line, colors=is_terminal and not os.environ.get("NO_COLOR"))
    return to_ecs_line if log_schema == "ecs" else to_json_line


def to_ecs_line(event_dict: EventDict) -> bytes:
    """Return the record as :func:`to_json_line` does, under the names of the Elastic Common Schema and in its units."""
    return to_json_line(in_ecs(event_dict))


def timestamp_of(unix_ns: int) -> str:
    """Return Unix nanoseconds as ISO 8601 in UTC, cut to microseconds, always six digits."""
    return f"{utc_text(unix_ns)}Z"


# The console.

SHORT_ID = 8
LEFT_OUT = frozenset({"service", "request_id", "trace_id", "span_id", "exc_info"})
IN_COLUMNS = ("http.request.method", "http.route", "http.response.status_code", "duration_seconds")
ELSEWHERE = (
    "url.path",
    "client.address",
    "network.peer.address",
    "flask.endpoint",
    "http.request.body.size",
    "http.response.body.size",
)
"""Left out of a request's line: its JSON has them."""

STATUS_COLOURS = {"1": "32", "2": "32", "3": "36", "4": "33"}
"""By the first digit: green, cyan, yellow; red for any other, and where no status was sent (ECMA-48, SGR)."""

RED = "31"

IN_TRACEBACK = ("exception.type", "exception.message")


def _is_request(fields: EventDict) -> bool:
    return isinstance(fields.get("duration_seconds"), float) and "http.request.method" in fields


def _request_columns(event: str, fields: EventDict, *, colors: bool) -> str:
    """Take the columns of a request out of ``fields``; the event is named where it is not the end of a request."""
    path = fields.get("url.path", "")
    method, route, status, duration_seconds = (fields.pop(key, None) for key in IN_COLUMNS)
    for key in ELSEWHERE:
        fields.pop(key, None)
    trace = str(fields.get("trace_id", ""))[:SHORT_ID]
    columns = (
        printable(f"{method!s:<7} {route or path!s:<32} "),
        _status_text(status, colors=colors),
        printable(f" {duration_seconds * 1000:>9.1f} ms {trace:<{SHORT_ID}}"),
        "" if event == "request_finished" else f" {event}",
    )
    return "".join(columns).rstrip()


def _status_text(status: Any, *, colors: bool) -> str:
    text = printable(f"{status or '-'!s:>3}")
    # Bold again after it, as structlog writes the whole event.
    return f"\033[{STATUS_COLOURS.get(text[:1], RED)}m{text}\033[0;1m" if colors else text


def _exception_text(exception: Any) -> str:
    try:
        return _block(traceback_text(exception))
    except (AttributeError, KeyError, TypeError, ValueError):  # a field of the user's own
        return _block(str(exception))


def _block(text: str) -> str:
    """Indent several lines, none of which can then be taken for a record."""
    return "\n".join(f"  {printable(line)}" for line in text.rstrip("\n").split("\n"))


@lru_cache(maxsize=2)
def _console(colors: bool) -> ConsoleRenderer:  # noqa: FBT001
    return ConsoleRenderer(colors=colors, sort_keys=False, exception_formatter=plain_traceback)
