"""Requests of every kind, made by many threads or greenlets at once, and what is left when they are over."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from typing import Any
from typing import TYPE_CHECKING

import flask
from flask import Flask
from jinja2 import DictLoader
from opentelemetry import context as otel_context

from flask_signal_observability import exempt
from flask_signal_observability import Sink
from flask_signal_observability.record import current_record

from .conftest import DURATION
from .conftest import Observed
from .test_boundary import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask_signal_observability import EventRecord
    from flask_signal_observability import RequestRecord

__all__ = ["Counts", "expected", "make_requests"]

FAILING = "/failing"

KINDS = {
    "/json": 1,
    "/template": 1,
    "/error": 1,
    "/missing": 1,
    "/stream": 1,
    "/stream-in-context": 1,
    "/stream?leave": 1,
    "/nested": 2,
    "/exempt": 0,
    FAILING: 1,
}
"""Each kind of request, and how many of them are told for one that is made."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each output told a request, and what is left over."""

    spans: int
    samples: int
    records: int
    audit_lines: int
    active_requests: int = 0
    active_contexts: int = 0
    left_current: int = 0
    complaints: tuple[str, ...] = ()
    """What was logged under ``opentelemetry``."""


def expected(requests: int) -> Counts:
    """Return what must come of so many requests."""
    told = sum(itertools.islice(itertools.cycle(KINDS.values()), requests))
    return Counts(told, told, told, told)


def make_requests(requests: int, directory: Path, run: Any) -> Counts:
    """Make the requests, the kinds in turn, and count what they left; ``run`` is a ``map``."""
    observed = Observed(directory, make_app(), strict=False, log_level="INFO", sinks=[FailingSink()])
    complaints = Complaints()
    logging.getLogger("opentelemetry").addHandler(complaints)
    left_current: list[str] = []
    paths = list(KINDS)
    try:
        for _ in run(lambda n: make_one(observed.app, paths[n % len(paths)], left_current), range(requests)):
            pass
    finally:
        logging.getLogger("opentelemetry").removeHandler(complaints)
        for sink in observed.pipeline.sinks:
            getattr(sink, "close", lambda: None)()
    return Counts(
        spans=len(observed.server_spans),
        samples=int(observed.value(f"{DURATION}_count")),
        records=len(observed.records("request_finished")),
        audit_lines=len(observed.audit_lines),
        active_requests=int(observed.value("http_server_active_requests")),
        active_contexts=int(observed.value("flask_app_contexts_active")),
        left_current=len(left_current),
        complaints=tuple(complaints.texts),
    )


def make_one(app: Flask, path: str, left_current: list[str]) -> None:
    """Make a request in a context of its own, and look after each step whether anything else is current."""
    ambient = otel_context.set_value("made for", path)
    token = otel_context.attach(ambient)
    try:
        for _ in steps(app, path):
            if otel_context.get_current() is not ambient or current_record.get() is not None:
                left_current.append(path)
    finally:
        otel_context.detach(token)


def steps(app: Flask, path: str) -> Iterator[None]:
    _, _, body = serve(app, path)
    yield
    try:
        for _ in body:
            yield
            if path.endswith("leave"):
                break
    finally:
        if hasattr(body, "close"):
            body.close()
        yield


class Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class FailingSink(Sink):
    """Fails at every stage of the requests for one path."""

    name = "failing"

    def _stage(self, record: RequestRecord) -> None:
        if record.environ["PATH_INFO"] == FAILING:
            raise LookupError(FAILING)

    open = attach = detach = start = finish = _stage

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        if record is not None:
            self._stage(record)


def make_app() -> Flask:
    app = Flask("shop")
    app.logger.disabled = True
    app.jinja_loader = DictLoader({"page.html": "{{ pause() }}{% include 'part.html' %}", "part.html": "part"})
    app.add_url_rule("/json", view_func=lambda: {"n": 1}, endpoint="json")
    app.add_url_rule("/template", view_func=lambda: flask.render_template("page.html", pause=pause), endpoint="page")
    app.add_url_rule("/error", view_func=lambda: 1 // 0, endpoint="error")
    app.add_url_rule("/stream", view_func=lambda: flask.Response(chunks()), endpoint="stream")
    app.add_url_rule("/stream-in-context", view_func=stream_in_context)
    app.add_url_rule("/nested", view_func=nested)
    app.add_url_rule("/exempt", view_func=exempt(lambda: "nothing"), endpoint="exempt")
    app.add_url_rule(FAILING, view_func=lambda: flask.render_template("part.html"), endpoint="failing")
    return app


def pause() -> str:
    """Let another thread or greenlet go on."""
    time.sleep(0)
    return ""


def chunks() -> Iterator[str]:
    for chunk in "abc":
        pause()
        yield chunk


def stream_in_context() -> flask.Response:
    def paths() -> Iterator[str]:
        for chunk in chunks():
            yield chunk + flask.request.path

    return flask.Response(flask.stream_with_context(paths()))


def nested() -> str:
    _, _, body = serve(flask.current_app._get_current_object(), "/json")  # type: ignore[attr-defined]
    pause()
    return b"".join(body).decode()
