"""What goes to the server: the status and the headers of a request's answer, read once, and the request id added."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from .record import RequestRecord

    Headers = list[tuple[str, str]]
    ReadResponse = Callable[[RequestRecord, str, Headers], Headers]

__all__ = ["Answer", "has_body", "response_reader"]

LENGTH_OF_CONTENT_LENGTH = len("content-length")
NO_BODY_STATUSES = frozenset({204, 304})

MAX_SIZE_DIGITS = 18
MAX_SIZES = 1024
"""Sizes of responses that are kept as text and number."""
UNTOLD: tuple[int | None, Headers | None, int | None] = (None, None, None)


class Answer:
    """The ``start_response`` of one request: it reads what goes to the server, and adds the request id.

    As lenient as servers are: headers may be any iterable, ``exc_info`` a keyword.

    Args:
        record: The request's.
        start_response: The server's.
        read: What :func:`response_reader` returns, behind the guard: None where it raised.
    """

    __slots__ = ("_read", "_record", "_start_response", "_write")

    def __init__(self, record: RequestRecord, start_response: Callable[..., Any], read: ReadResponse) -> None:
        self._record = record
        self._start_response = start_response
        self._read = read

    def __call__(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None
    ) -> Callable[..., Any] | None:
        """See PEP 3333. A server that has sent its headers raises what ``exc_info`` holds: then they stay as told."""
        headers = list(headers)
        record = self._record
        told = (
            UNTOLD
            if record.response_headers is None
            else (record.status, record.response_headers, record.response_size)
        )
        if not record.excluded:
            headers = self._read(record, status, headers) or headers
        start = self._start_response
        try:
            self._write = write = start(status, headers, exc_info) if exc_info else start(status, headers)
        except BaseException:
            record.status, record.response_headers, record.response_size = told
            raise
        # Servers return one, some tests' stand-ins do not: what was None stays None.
        return None if write is None else self.write

    def write(self, data: bytes) -> Any:
        """See PEP 3333: it sends the headers, and a part of the body, past the iterable."""
        self._record.written_bytes += len(data)
        return self._write(data)


def response_reader(request_id_header: str, *, trace_response: bool) -> ReadResponse:
    """Return what learns from a status and headers that go to the server, and returns these headers with our own."""
    id_header = request_id_header.lower()
    id_length = len(id_header)
    sizes = Sizes()

    def read(record: RequestRecord, status: str, headers: Headers) -> Headers:
        # The hot path: most names are told apart by their length, and Werkzeug's by how it spells them.
        record.status = code = code_of(status)
        record.response_headers = headers
        record.response_size = size = None
        has_request_id = False
        for name, value in headers:
            if name == "Content-Length" or (len(name) == LENGTH_OF_CONTENT_LENGTH and name.lower() == "content-length"):
                size = sizes[value]
            elif len(name) == id_length and name.lower() == id_header:
                has_request_id = True
        record.response_size = None if code in NO_BODY_STATUSES or record.method == "HEAD" else size  # as has_body()
        request_id = record.request_id
        # A copy: the record keeps what the app said.
        sent = headers if has_request_id or request_id is None else [*headers, (request_id_header, request_id)]
        if trace_response and record.trace_id is not None:
            parent = f"00-{record.trace_id}-{record.span_id}-{record.sampled:02x}"
            sent = [*sent, ("traceresponse", parent), ("Server-Timing", f'traceparent;desc="{parent}"')]
        return sent

    return read


class Sizes(dict[str, "int | None"]):
    """What a Content-Length says in bytes, by its text; None where that is no number."""

    def __missing__(self, text: str) -> int | None:
        if len(text) > MAX_SIZE_DIGITS or not text.isdecimal():
            return None
        if len(self) >= MAX_SIZES:
            self.clear()
        self[text] = size = int(text)
        return size


def has_body(record: RequestRecord) -> bool:
    """Tell whether HTTP sends a body with this answer, whatever its Content-Length says (RFC 9110, section 6.4.1)."""
    return record.method != "HEAD" and record.status not in NO_BODY_STATUSES


@lru_cache(maxsize=256)
def code_of(status: str) -> int | None:
    """Return the code of a status line; None where it has none."""
    code = status[:3]
    return int(code) if code.isdecimal() else None
