"""The line of JSON that ends a plain request, put together from parts that were rendered before."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import Any
from typing import TYPE_CHECKING

from .rendering import to_json_line
from .timestamps import SECOND_US
from .timestamps import THOUSAND
from .timestamps import utc_second

if TYPE_CHECKING:
    from collections.abc import Callable

    from .record import RequestRecord

    Shape = tuple[str, str, str, str]

__all__ = ["RequestLines", "level_of"]

SERVER_ERROR = 500
CLIENT_ERROR = 400

MAX_SHAPES = 4096
"""Shapes that are kept: methods, routes and statuses, which an app has few of."""

MAX_TEXT = 1024
MAX_SHAPE = 4096
"""Characters of what goes by here: nothing in it is ever to be cut, as fields beyond 8 KiB are."""

MAX_SIZES = 1024
"""Sizes of responses whose text is kept."""
SIZE = '"http.response.body.size":%d,'

BEFORE_NS = tuple(f"0.{'0' * (9 - digits)}" for digits in range(10))
"""What makes nanoseconds of so many digits a number of seconds."""


def level_of(record: RequestRecord) -> str:
    """Return the level of a finished request: an error if ``error_type`` is set, a warning for a 4xx, else info."""
    status = record.status or 0
    if record.error_type is not None or status >= SERVER_ERROR:
        return "error"
    return "warning" if status >= CLIENT_ERROR else "info"


class RequestLines:
    """Writes ``request_finished`` for the requests that nothing unusual is to be told of. Safe to use from threads.

    Equal to what the renderer makes of the sink's dict, key for key, as a test holds: the same words are not turned
    into JSON, nor looked through for what JSON has no word for, at every request.

    Args:
        service: The service's name, if it has one.
        write: Takes a line.
        otherwise: Takes a request that the renderer has to look at.
    """

    def __init__(
        self,
        service: str | None,
        write: Callable[[bytes], None],
        otherwise: Callable[[RequestRecord], None],
    ) -> None:
        self._service = service
        self._write = write
        self._otherwise = otherwise
        # By route, status, method and endpoint: four looks into dicts take less than one with a key made of the four.
        self._shapes: dict[Any, dict[Any, dict[Any, dict[Any, Shape | None]]]] = {}
        self._kept = 0
        self._sizes = _Sizes()
        # The last second and its text, replaced as a whole: whichever thread's it is, the two belong together.
        self._second = (0, "")

    def finish(self, record: RequestRecord) -> None:
        """Tell of a finished request."""
        # The hot path, flat, each value looked at once: `python tests/benchmarks/log_record.py`.
        path, request_id, trace_id, span_id = record.path, record.request_id, record.trace_id, record.span_id
        if (
            record.annotations is not None
            or record.error_type is not None
            or record.query is not None
            or record.method_original is not None
            or record.client_disconnected
            or request_id is None
            or len(path) > MAX_TEXT
            or not path.isascii()
        ):
            self._otherwise(record)
            return
        try:
            shape = self._shapes[record.route][record.status][record.method][record.endpoint]
        except KeyError:
            shape = self._keep(record)
        if shape is None:
            self._otherwise(record)
            return
        head, before_path, route, endpoint = shape
        if trace_id is None:
            before_trace = trace_id = before_span = span_id = ""
        else:
            before_trace, before_span = '","trace_id":"', '","span_id":"'
        second_ns, second = self._second
        rest_us = (record.ended_unix_ns - second_ns) // 1000
        if not 0 <= rest_us < SECOND_US:
            second, rest_us = self._new_second(record.ended_unix_ns)
        duration = f"{record.duration_ns}"
        try:
            line = "".join(
                (  # type: ignore[arg-type]
                    second,
                    THOUSAND[rest_us // 1000],
                    THOUSAND[rest_us % 1000],
                    head,
                    request_id,
                    before_trace,
                    trace_id,
                    before_span,
                    span_id,
                    before_path,
                    encode_basestring_ascii(path),
                    route,
                    record.client_address,
                    '","network.peer.address":"',
                    record.peer_address,
                    endpoint,
                    self._sizes[record.response_size],
                    BEFORE_NS[len(duration)],
                    duration,
                    "}\n" if record.user is None and record.request_size is None else _end(record),
                )
            ).encode()
        except (TypeError, IndexError):  # a part is not known, or not short enough; a second or more
            self._otherwise(record)
            return
        self._write(line)

    def _new_second(self, unix_ns: int) -> tuple[str, int]:
        second_ns, text = utc_second(unix_ns)
        second = f'{{"timestamp":"{text}'
        self._second = second_ns, second
        return second, (unix_ns - second_ns) // 1000

    def _keep(self, record: RequestRecord) -> Shape | None:
        if self._kept >= MAX_SHAPES:
            self._shapes, self._kept = {}, 0
        self._kept += 1
        of_status = self._shapes.setdefault(record.route, {}).setdefault(record.status, {})
        of_status.setdefault(record.method, {})[record.endpoint] = shape = self._shape(record)
        return shape

    def _shape(self, record: RequestRecord) -> Shape | None:
        head, route, endpoint = (
            _members({"level": level_of(record), "event": "request_finished", "service": self._service}),
            _members({"http.route": record.route, "http.response.status_code": record.status}),
            _members({"flask.endpoint": record.endpoint}),
        )
        if len(head) + len(route) + len(endpoint) > MAX_SHAPE or not record.method.replace("_", "").isalnum():
            return None
        return (
            f'Z",{head}"request_id":"',
            f'","http.request.method":"{record.method}","url.path":',
            f',{route}"client.address":"',
            f'",{endpoint}',
        )


class _Sizes(dict[Any, str]):
    """What stands between the endpoint and the digits of the duration, by the size of the response."""

    def __missing__(self, size: int | None) -> str:
        if len(self) >= MAX_SIZES:
            self.clear()
        self[size] = text = f'{"" if size is None else SIZE % size}"duration_seconds":'
        return text


def _end(record: RequestRecord) -> str | None:
    """Return how the line of a request ends that has a user or a body; None where they are long."""
    end = "}\n" if record.request_size is None else f',"http.request.body.size":{record.request_size}}}\n'
    user = record.user
    if user is None:
        return end
    if len(user) > MAX_TEXT or not user.isascii():
        return None
    return f',"user.id":{encode_basestring_ascii(user)}{end}'


def _members(part: dict[str, object]) -> str:
    """Return what is known of these as members of a JSON object, each with a comma after it."""
    known = {key: value for key, value in part.items() if value is not None}
    return f"{to_json_line(known).decode()[1:-2]}," if known else ""
