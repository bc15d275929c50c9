"""The line of JSON that ends a plain request, put together from parts that were rendered before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from .rendering import to_json_line
from .timestamps import utc_text

if TYPE_CHECKING:
    from .record import RequestRecord

    Shape = tuple[str, str, str, str]

__all__ = ["RequestLines"]

MAX_SHAPES = 4096
"""Shapes that are kept: methods, routes and statuses, which an app has few of."""

MAX_PATH = 1024
MAX_SHAPE = 4096
"""Characters of what goes by here: nothing in it is ever to be cut, the line stays below a field's 8 KiB."""


class RequestLines:
    """Makes ``request_finished`` for the requests that nothing unusual is to be told of. Safe to use from threads.

    Equal to what the renderer makes of the sink's dict, key for key, as a test holds: the same words are not turned
    into JSON, nor looked through for what JSON has no word for, at every request.
    """

    def __init__(self, service: str | None) -> None:
        self._service = service
        self._shapes: dict[tuple[object, ...], Shape | None] = {}

    def of(self, record: RequestRecord, level: str) -> bytes | None:
        """Return the line, or None for a request that the renderer has to look at."""
        # The hot path: `python tests/benchmarks/log_record.py`.
        if (
            record.annotations
            or record.error_type is not None
            or record.query is not None
            or record.request_size is not None
            or record.method_original is not None
            or record.client_disconnected
        ):
            return None
        key = (level, record.method, record.route, record.status, record.endpoint, record.user)
        try:
            shape = self._shapes[key]
        except KeyError:
            shape = self._keep(key)
        path = record.path
        client, peer, request_id = record.client_address, record.peer_address, record.request_id
        if shape is None or client is None or peer is None or request_id is None or len(path) > MAX_PATH:
            return None
        if not path.isascii():
            return None
        head, route, endpoint, user = shape
        duration_ns = record.duration_ns or 0
        ids = "" if record.trace_id is None else f'","trace_id":"{record.trace_id}","span_id":"{record.span_id}'
        size = "" if record.response_size is None else f'"http.response.body.size":{record.response_size},'
        return (
            f'{{"timestamp":"{utc_text(record.ended_unix_ns)}Z",{head}"request_id":"{request_id}{ids}",'
            f'"http.request.method":"{record.method}","url.path":{orjson.dumps(path).decode()},{route}'
            f'"client.address":"{client}","network.peer.address":"{peer}",{endpoint}{size}'
            f'"duration_seconds":{duration_ns // 1_000_000_000}.{duration_ns % 1_000_000_000:09d}{user}}}\n'
        ).encode()

    def _keep(self, key: tuple[object, ...]) -> Shape | None:
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape = self._shape(*key)
        return shape

    def _shape(
        self, level: object, method: object, route: object, status: object, endpoint: object, user: object
    ) -> Shape | None:
        parts = (
            {"level": level, "event": "request_finished", "service": self._service},
            {"http.route": route, "http.response.status_code": status},
            {"flask.endpoint": endpoint},
            {"user.id": user},
        )
        head, middle, end, last = (_members(part) for part in parts)
        if len(head) + len(middle) + len(end) + len(last) > MAX_SHAPE or not str(method).replace("_", "").isalnum():
            return None
        return head, middle, end, f",{last[:-1]}" if last else ""


def _members(part: dict[str, object]) -> str:
    """Return what is known of these as members of a JSON object, each with a comma after it."""
    known = {key: value for key, value in part.items() if value is not None}
    return f"{to_json_line(known).decode()[1:-2]}," if known else ""
