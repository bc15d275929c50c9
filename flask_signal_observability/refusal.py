"""``audit_on_error="closed"``: a request that could not be audited is answered with a 503, whatever the view said.

The audit line is written at request_finished, when user, client and status are known, or else when the app has
returned; the response goes no further than to the callable that ``install`` puts between the app and the boundary.
"""

from __future__ import annotations

import time
from typing import Any
from typing import TYPE_CHECKING

from flask import signals
from werkzeug.exceptions import ServiceUnavailable

from .record import record_here
from .record import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    import flask

    from .pipeline import Pipeline
    from .record import RequestRecord

__all__ = ["install"]


def install(app: flask.Flask) -> None:
    """Answer for ``app`` where its requests cannot be audited; called before the boundary is put around it."""
    app.wsgi_app = ClosedApp(app.wsgi_app)  # type: ignore[method-assign]
    signals.request_finished.connect(_request_finished, sender=app, weak=False)


def _request_finished(app: flask.Flask, /, response: flask.Response, **_: Any) -> None:
    record = record_here()
    if record is None or record.observed_app is not app:
        return
    record.pipeline.learn_user(record)
    _audit(record, response.status_code)


def _audit(record: RequestRecord, status_code: int | None) -> None:
    """Write the line of a request that is about to be answered with this status; mark it where that cannot be."""
    pipeline: Pipeline = record.pipeline
    if not record.started:
        pipeline.guard.call("identity", "describe", record.describe)
    status, record.status = record.status, status_code
    if not pipeline.guard.call("audit", "answer", _write, pipeline, record, default=False):
        record.state[REFUSED] = True
    record.status = status


def _write(pipeline: Pipeline, record: RequestRecord) -> bool:
    for sink in pipeline.sinks:
        answer = getattr(sink, "answer", None)
        if answer is not None:
            answer(record, time.time_ns())
    return True


class ClosedApp:
    """Hands on what the app answers, or a 503 where the request is marked; the app's body is then closed unread."""

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self.wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        record = record_here()
        held = _HeldStart(start_response)
        body = self.wsgi_app(environ, held)
        if record is not None and record.observed_app is not None and not record.audited and not held.is_sent:
            # No request_finished: a middleware has answered, or an after_request function fails for error pages too.
            _audit(record, held.status_code)
        if record is None or REFUSED not in record.state or held.is_sent:
            held.send()
            return body
        close = getattr(body, "close", None)
        if close is not None:
            close()
        return ServiceUnavailable()(environ, start_response)


class _HeldStart:
    """A ``start_response`` (PEP 3333) that waits for ``send``, or for the first byte that goes out past the body."""

    def __init__(self, start_response: Callable[..., Any]) -> None:
        self._start_response = start_response
        self._arguments: tuple[Any, ...] | None = None
        self._write: Callable[[bytes], Any] | None = None
        self._is_holding = True
        self.is_sent = False

    def __call__(self, *arguments: Any, **keywords: Any) -> Callable[[bytes], Any]:
        if not self._is_holding or self.is_sent:
            self.is_sent = True
            write: Callable[[bytes], Any] = self._start_response(*arguments, **keywords)
            return write
        self._arguments = (arguments, keywords)
        return self.write

    @property
    def status_code(self) -> int | None:
        """The status that is held; None where there is none."""
        arguments, keywords = self._arguments or ((), {})
        code = str(arguments[0] if arguments else keywords.get("status", ""))[:3]
        return int(code) if code.isdecimal() else None

    def write(self, data: bytes) -> Any:
        self.send()
        assert self._write is not None
        return self._write(data)

    def send(self) -> None:
        """Tell the server what was held, once; what comes later goes on at once."""
        self._is_holding = False
        if self._arguments is not None and not self.is_sent:
            self.is_sent = True
            arguments, keywords = self._arguments
            self._write = self._start_response(*arguments, **keywords)
