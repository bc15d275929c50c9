"""The WSGI envelope of a request: it holds the clock, and closes the record exactly once.

Flask's signals cannot tell the status that was really sent, the end of a streamed body, a SystemExit, or a request that
failed before request_started. Everything else comes from them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any
from typing import TYPE_CHECKING

from .answer import Answer
from .answer import has_body
from .answer import response_reader
from .record import current_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from .pipeline import Pipeline
    from .record import RequestRecord

    WSGIApplication = Callable[..., Iterable[bytes]]

__all__ = ["Boundary", "ObservedBody"]

logger = logging.getLogger("flask_signal_observability")


class Boundary:
    """Wraps ``app.wsgi_app``. What the server and the client see of a request is the same as without it."""

    def __init__(self, wsgi_app: WSGIApplication, pipeline: Pipeline, exposition: WSGIApplication | None) -> None:
        self.wsgi_app = wsgi_app
        self.pipeline = pipeline
        self._metrics_path = pipeline.config.metrics_path
        self._exposition = None if self._metrics_path is None else exposition
        self._warned = False
        config = pipeline.config
        read = response_reader(config.request_id_header, trace_response=config.trace_response)
        self._read = pipeline.guard.around("boundary", "response", read)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request, or answer the scrape."""
        if self._exposition is not None and environ.get("PATH_INFO") == self._metrics_path:
            self.pipeline.finish_dropped()
            self.warn_of_hidden_view()
            return self._exposition(environ, start_response)
        pipeline = self.pipeline
        record = pipeline.open(environ)
        token = current_record.set(record)
        unsent: Iterable[bytes] | None = None
        try:
            pipeline.attach(record)
            if not record.excluded:
                start_response = Answer(record, start_response, self._read)
            body = unsent = self.wsgi_app(environ, start_response)
            if record.streamed is False or not self._is_streamed(body, record):
                pipeline.finish(record)
                return body
        except BaseException as error:
            if not record.written_bytes:
                # What start_response was given goes out with the first byte of a body: the server answers now.
                record.status = None
            self._break_off(record, unsent, error)
            unsent = None
            raise
        finally:
            try:
                pipeline.detach(record)
            except BaseException as error:
                self._break_off(record, unsent, error)
                raise
            finally:
                current_record.reset(token)
        return ObservedBody(body, record)

    def _break_off(self, record: RequestRecord, unsent: Iterable[bytes] | None, error: BaseException) -> None:
        # A body that the server never gets, nobody else can close; Flask 3.0 has pushed its context for a stream.
        try:
            # What strikes in there gives way to ``error``, for which the body is closed.
            with suppress(BaseException):
                self.pipeline.guard.call("boundary", "close", close, unsent)
        finally:
            self.pipeline.break_off(record, error)

    def warn_of_hidden_view(self) -> None:
        """Warn, once, if the app has a view where the metrics are; called at set-up and at a scrape."""
        rules = self.pipeline.app.url_map.iter_rules()
        if not self._warned and any(rule.rule == self._metrics_path for rule in rules):
            self._warned = True
            logger.warning(
                "the metrics hide the app's view at %r; set metrics_path to another path, or to None",
                self._metrics_path,
            )

    @staticmethod
    def _is_streamed(body: Iterable[bytes], record: RequestRecord) -> bool:
        if record.excluded:
            return False
        if record.streamed is not None:
            return record.streamed
        # No Flask response was seen: an after_request function failed, or a middleware answered.
        file_wrapper = record.environ.get("wsgi.file_wrapper")
        is_file = isinstance(file_wrapper, type) and isinstance(body, file_wrapper)
        return not (is_file or hasattr(body, "__len__") or record.response_size is not None)


def close(body: Iterable[bytes] | None) -> None:
    """Close what may have a ``close``, as PEP 3333 says."""
    close_body = getattr(body, "close", None)
    if close_body is not None:
        close_body()


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
            self._record.response_size = self._sent_bytes if has_body(self._record) else None
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
            if not (self._sent_bytes or record.written_bytes):
                record.status = None
            try:
                pipeline.fail(record, error)
            finally:
                self._end()
            raise
        finally:
            try:
                pipeline.detach(record)
            finally:
                current_record.reset(token)

    def _next_chunk(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._body)
        chunk = next(self._iterator)
        self._sent_bytes += len(chunk)
        return chunk

    def _close(self) -> None:
        close(self._body)
        record = self._record
        if record.duration_ns is None and has_body(record):
            record.client_disconnected = True
        self._end()

    def _end(self) -> None:
        record = self._record
        if record.duration_ns is None:
            record.response_size = self._sent_bytes + record.written_bytes if has_body(record) else None
            record.pipeline.finish(record)
