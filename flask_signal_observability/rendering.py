"""A log record as one line: JSON for machines, columns for people."""

from __future__ import annotations

import os
import time
from datetime import date
from datetime import time as time_of_day
from functools import lru_cache
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

import orjson
from structlog.dev import ConsoleRenderer
from structlog.dev import plain_traceback

from .redaction import mask_patterns
from .tracebacks import traceback_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from .streams import LogStream

    EventDict = dict[str, Any]

__all__ = ["make_renderer", "mask_strings", "timestamp_of", "to_console_line", "to_json_line"]

MAX_FIELD_BYTES = 8 * 1024
MAX_RECORD_BYTES = 256 * 1024
"""Room for 32 fields of full length; what comes after it is left out."""

MAX_DEPTH = 32
INT_BITS = 64
ELLIPSIS = "…"

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""orjson 3.13 ends the process where a dataclass has an unset slot or a tzinfo raises: ``_plain`` takes both."""

_LINE = _OPTIONS | orjson.OPT_APPEND_NEWLINE


def to_json_line(event_dict: EventDict) -> bytes:
    r"""Return the record as one line of JSON in UTF-8 that ends with ``\n``; whatever it holds, nothing is raised.

    What JSON has no word for becomes its ``repr``. A string of more than 8 KiB is cut and ends with ``…``, as does what
    lies deeper than 32 levels, and beyond 256 KiB the rest is left out: the record then says ``truncated: true``.
    ``BaseException`` that is no ``Exception`` passes.
    """
    # The hot path: 7 k instructions (callgrind) for a finished request. A line that fits into a field has none to cut.
    try:
        line = orjson.dumps(event_dict, _plain, _LINE)
    except TypeError as error:
        _pass_on(error)
    else:
        if len(line) <= MAX_FIELD_BYTES:
            return line
    return orjson.dumps(_SafeCopy().of_record(event_dict), option=_LINE)


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
        "level": _printable(str(fields.pop("level", "info"))),
        "event": _printable(str(fields.pop("event", ""))),
    }
    if _is_request(fields):
        shown["event"] += _request_columns(fields)
    elif "trace_id" in fields:
        fields["trace"] = str(fields["trace_id"])[:SHORT_ID]
    shown |= {
        _printable(key): _printable(value) if isinstance(value, str) else value
        for key, value in fields.items()
        if key not in LEFT_OUT
    }
    if stack is not None:
        shown["stack"] = _block(str(stack))
    if exception:
        shown = {key: value for key, value in shown.items() if key not in IN_TRACEBACK}
        shown["exception"] = _exception_text(exception)
    return f"{_console(colors)(None, '', shown)}\n".encode()


def make_renderer(log_format: str, stream: LogStream) -> Callable[[EventDict], bytes]:
    """Return what makes lines for ``stream``.

    Args:
        log_format: ``json``, ``console`` or ``auto``: console on a terminal, JSON elsewhere.
        stream: Asked once whether it is a terminal; colours need one, and no ``NO_COLOR`` (https://no-color.org).
    """
    is_terminal = stream.is_terminal
    if log_format == "console" or (log_format == "auto" and is_terminal):
        return partial(to_console_line, colors=is_terminal and not os.environ.get("NO_COLOR"))
    return to_json_line


def timestamp_of(unix_ns: int) -> str:
    """Return Unix nanoseconds as ISO 8601 in UTC, cut to microseconds, always six digits."""
    seconds, rest_ns = divmod(unix_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest_ns // 1000:06d}Z"


@lru_cache(maxsize=16)
def _second(unix_seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_seconds))


def mask_strings(value: Any) -> Any:
    """Return a copy with what looks like a credential masked in every string, at any depth of dicts, lists and tuples.

    A string is looked at as far as it can be written; ``value`` must not contain itself.
    """
    kind = type(value)
    if issubclass(kind, str):
        # Some more than is written, so that it is still seen to be too long.
        return mask_patterns(value if len(value) <= MAX_FIELD_BYTES else value[: 2 * MAX_FIELD_BYTES])
    if issubclass(kind, dict):
        return {key: mask_strings(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [mask_strings(item) for item in value]
    return value


# What JSON has no word for.


class _SafeCopy:
    """Makes a copy that orjson takes, whatever the original holds, and cuts it where it is too long.

    Types are asked for with ``type``, and built-in methods called on their class: an object may lie about both.
    """

    def __init__(self) -> None:
        self._room_bytes = MAX_RECORD_BYTES
        self._truncated = False

    def of_record(self, event_dict: EventDict) -> EventDict:
        copy = self._of_dict(event_dict, 0)
        if self._truncated:
            copy["truncated"] = True
        return copy

    def _of(self, value: Any, depth: int) -> Any:
        self._room_bytes -= 1
        kind = type(value)
        if issubclass(kind, str):
            return self._of_text(value)
        if value is None or kind is bool or kind is float or (kind is int and value.bit_length() < INT_BITS):
            return value
        is_dict = issubclass(kind, dict)
        if not is_dict and not issubclass(kind, list) and kind is not tuple:
            return self._of_other(value, depth)
        if depth > MAX_DEPTH:
            self._truncated = True
            return ELLIPSIS
        return self._of_dict(value, depth) if is_dict else self._of_items(value, depth)

    def _of_text(self, text: str) -> str:
        limit = max(min(MAX_FIELD_BYTES, self._room_bytes), 0)
        data = str.encode(str.__getitem__(text, slice(limit + 1)), "utf-8", "backslashreplace")
        if len(data) > limit:
            self._truncated = True
            data = data[: max(limit - len(ELLIPSIS.encode()), 0)].decode(errors="ignore").encode() + ELLIPSIS.encode()
        self._room_bytes -= len(data)
        return data.decode()

    def _of_dict(self, value: EventDict, depth: int) -> EventDict:
        copy: EventDict = {}
        # A list first: another thread may add to the dict.
        for key, item in self._while_room(iter(list(dict.items(value)))):
            # Of two keys that look alike the first one stays.
            copy.setdefault(
                self._of_text(key if issubclass(type(key), str) else _safe_repr(key)), self._of(item, depth + 1)
            )
        return copy

    def _of_items(self, value: Any, depth: int) -> list[Any]:
        items = list.__iter__(value) if issubclass(type(value), list) else tuple.__iter__(value)
        return [self._of(item, depth + 1) for item in self._while_room(items)]

    def _of_other(self, value: object, depth: int) -> Any:
        try:
            plain = orjson.loads(orjson.dumps(value, _plain, _OPTIONS))
        except TypeError as error:
            _pass_on(error)
            return self._of_text(_safe_repr(value))
        return plain if type(plain) is int else self._of(plain, depth)

    def _while_room(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if self._room_bytes <= 0:
                self._truncated = True
                return
            yield item


def _plain(value: object) -> str:
    """Return what stands for ``value`` in JSON: orjson's ``default``."""
    return value.isoformat() if isinstance(value, (date, time_of_day)) else repr(value)


class _Shell:
    """Hides a value from orjson, so that it goes to ``default`` whatever it is."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def _repr_in(shell: _Shell) -> str:
    return repr(shell.value).encode("utf-8", "backslashreplace").decode()


def _safe_repr(value: object) -> str:
    """Return the ``repr`` of ``value``, else the one that every object has: orjson makes what it raises a TypeError."""
    try:
        text: str = orjson.loads(orjson.dumps(_Shell(value), _repr_in))
    except TypeError as error:
        _pass_on(error)
        return object.__repr__(value)
    return text


def _pass_on(error: TypeError) -> None:
    """Raise again what orjson caught though it was meant for the server: a SystemExit during a ``repr``."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, Exception):
        raise cause


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

IN_TRACEBACK = ("exception.type", "exception.message")


def _is_request(fields: EventDict) -> bool:
    return isinstance(fields.get("duration_seconds"), float) and "http.request.method" in fields


def _request_columns(fields: EventDict) -> str:
    """Take the columns of a request out of ``fields``."""
    path = fields.get("url.path", "")
    method, route, status, duration_seconds = (fields.pop(key, None) for key in IN_COLUMNS)
    for key in ELSEWHERE:
        fields.pop(key, None)
    where = _printable(str(route or path))
    trace = str(fields.get("trace_id", ""))[:SHORT_ID]
    return f" {method!s:<7} {where:<32} {status or '-':>3} {duration_seconds * 1000:>9.1f} ms {trace}"


def _exception_text(exception: Any) -> str:
    try:
        return _block(traceback_text(exception))
    except (AttributeError, KeyError, TypeError, ValueError):  # a field of the user's own
        return _block(str(exception))


def _block(text: str) -> str:
    """Indent several lines, none of which can then be taken for a record."""
    return "\n".join(f"  {_printable(line)}" for line in text.rstrip("\n").split("\n"))


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


@lru_cache(maxsize=2)
def _console(colors: bool) -> ConsoleRenderer:  # noqa: FBT001
    return ConsoleRenderer(colors=colors, sort_keys=False, exception_formatter=plain_traceback)
