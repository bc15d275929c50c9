"""The WSGI envelope of a request: it holds the clock, and closes the record exactly once.

Flask's signals cannot tell the status that was really sent, the end of a streamed body, a SystemExit, or a request that
failed before request_started. Everything else comes from them.
"""

from __future__ import annotations

import logging
from typing import Any
from typing import TYPE_CHECKING

from .record import current_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from .pipeline import Pipeline
    from .record import RequestRecord

    Headers = list[tuple[str, str]]
    WSGIApplication = Callable[..., Iterable[bytes]]

__all__ = ["Boundary", "ObservedBody"]

logger = logging.getLogger("flask_signal_observability")

NO_BODY_STATUSES = frozenset({204, 304})


class Boundary:
    """Wraps ``app.wsgi_app``. What the server and the client see of a request is the same as without it."""

    def __init__(self, wsgi_app: WSGIApplication, pipeline: Pipeline, exposition: WSGIApplication | None) -> None:
        self.wsgi_app = wsgi_app
        self._pipeline = pipeline
        self._metrics_path = pipeline.config.metrics_path
        self._exposition = None if self._metrics_path is None else exposition
        self._request_id_header = pipeline.config.request_id_header
        self._request_id_lower = pipeline.config.request_id_header.lower()
        self._trace_response = pipeline.config.trace_response
        self._warned = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request, or answer the scrape."""
        if self._exposition is not None and environ.get("PATH_INFO") == self._metrics_path:
            self._pipeline.finish_dropped()
            self.warn_of_hidden_view()
            return self._exposition(environ, start_response)
        pipeline = self._pipeline
        record = pipeline.open(environ)
        token = current_record.set(record)
        try:
            pipeline.attach(record)
            body = self.wsgi_app(environ, self._capture(record, start_response))
            if not self._is_streamed(body, record):
                pipeline.finish(record)
                return body
        except BaseException as error:
            # What start_response was given is not sent before the first chunk of a body: the server answers now.
            record.status = None
            pipeline.fail(record, error)
            pipeline.finish(record)
            raise
        finally:
            pipeline.detach(record)
            current_record.reset(token)
        return ObservedBody(body, record)

    def warn_of_hidden_view(self) -> None:
        """Warn, once, if the app has a view where the metrics are; called at set-up and at a scrape."""
        rules = self._pipeline.app.url_map.iter_rules()
        if not self._warned and any(rule.rule == self._metrics_path for rule in rules):
            self._warned = True
            logger.warning(
                "the metrics hide the app's view at %r; set metrics_path to another path, or to None",
                self._metrics_path,
            )

    def _capture(self, record: RequestRecord, start_response: Callable[..., Any]) -> Callable[..., Any]:
        guard = self._pipeline.guard

        def observed_start_response(status: str, headers: Headers, *exc_info: Any) -> Any:
            headers = guard.call("boundary", "response", self._read_response, record, status, headers, default=headers)
            return start_response(status, headers, *exc_info)

        return start_response if record.excluded else observed_start_response

    def _read_response(self, record: RequestRecord, status: str, headers: Headers) -> Headers:
        if record.excluded:
            return headers
        code = status[:3]
        record.status = int(code) if code.isdecimal() else None
        record.response_headers = headers
        record.response_size = None
        has_request_id = False
        for name, value in headers:
            lower = name.lower()
            if lower == "content-length":
                record.response_size = int(value) if value.isdecimal() else None
            elif lower == self._request_id_lower:
                has_request_id = True
        added = [] if has_request_id or record.request_id is None else [(self._request_id_header, record.request_id)]
        if self._trace_response and record.trace_id is not None:
            parent = f"00-{record.trace_id}-{record.span_id}-{record.sampled:02x}"
            added += [("traceresponse", parent), ("Server-Timing", f'traceparent;desc="{parent}"')]
        return [*headers, *added]

    @staticmethod
    def _is_streamed(body: Iterable[bytes], record: RequestRecord) -> bool:
        if record.excluded:
            return False
        if record.streamed is not None:
            return record.streamed
        # No Flask response was seen: an after_request function failed, or a middleware answered.
        return record.response_size is None and not isinstance(body, (list, tuple))


class ObservedBody:
    """A streamed body: the request goes on while it is read, and ends with it.

    The request is current while a chunk is made and at no other time, so that nothing is left behind between two
    chunks, whatever thread, greenlet or context asks for the next one.
    """

    def __init__(self, body: Iterable[bytes], record: RequestRecord) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._record = record
        self._sent_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk: bytes = self._within(self._next_chunk)
        return chunk

    def close(self) -> None:
        """Close the body; a body that was not read to its end belongs to a client that left."""
        self._within(self._close)

    def __del__(self) -> None:
        # A server that neither reads nor closes a body must not keep the request in flight for ever. The garbage
        # collector may come here at any moment, even while this thread holds a sink's lock: the next request ends it.
        if self._record.duration_ns is None:
            self._record.response_size = self._sent_bytes
            self._record.pipeline.drop(self._record)

    def _within(self, step: Callable[[], Any]) -> Any:
        record = self._record
        pipeline: Pipeline = record.pipeline
        token = current_record.set(record)
        try:
            pipeline.attach(record)
            return step()
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            if self._sent_bytes == 0:
                record.status = None
            pipeline.fail(record, error)
            self._end()
            raise
        finally:
            pipeline.detach(record)
            current_record.reset(token)

    def _next_chunk(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._body)
        chunk = next(self._iterator)
        self._sent_bytes += len(chunk)
        return chunk

    def _close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
        record = self._record
        if record.duration_ns is None and record.method != "HEAD" and record.status not in NO_BODY_STATUSES:
            record.client_disconnected = True
        self._end()

    def _end(self) -> None:
        record = self._record
        if record.duration_ns is None:
            record.response_size = self._sent_bytes
            record.pipeline.finish(record)
