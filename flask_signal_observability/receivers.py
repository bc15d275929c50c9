"""The receivers of Flask's signals, but for the two of ``teardowns``: they fill the record and tell the pipeline.

The receivers are functions of this module, connected with ``sender=app``: they hold no app, so an app that is dropped
is collected together with its connections. A receiver that raised would stop Blinker's dispatch and turn a 200 into a
500: all of them run behind the guard.

What differs on Flask 3.2, which merges the request's and the application's context (as its main branch has it; no
release could be run), and why nothing here has a branch for it:

* ``handle_user_exception`` takes ``(context, error)``: :func:`observe_handled_exceptions` reads the last argument.
* A nested ``test_request_context()`` or ``copy_current_request_context`` pushes a whole context, and a request made
  inside ``app_context()`` one more: contexts are counted, pushes and pops, whatever order they come in.
* A streamed body keeps its context instead of pushing it again, and is torn down once, at its end: the boundary ends
  the request, not a teardown, and a signal belongs to the record that is current.
* Teardown functions that raise no longer keep ``request_tearing_down`` and ``appcontext_popped`` from being sent: what
  a request leaves open is settled at its end in either case.

``tests/lifecycle/rows.py`` has the sequence of signals of each scenario, 3.2's under ``from_3_2``.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import GeneratorType
from typing import Any
from typing import TYPE_CHECKING

import flask
from flask import signals
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import ClosingIterator

from .pipeline import EXTENSION
from .record import EventRecord
from .record import MAX_SIGNALS_HELD
from .record import PendingRender
from .record import record_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pipeline import Pipeline
    from .record import RequestRecord

    Act = Callable[[Pipeline, RequestRecord | None, dict[str, Any]], None]

__all__ = ["connect", "observe_handled_exceptions"]

MAX_PENDING_RENDERS = 64
"""Renders that have begun and not ended: beyond these the oldest one is taken to have ended."""

request_here = flask.request._get_current_object  # type: ignore[attr-defined]
"""Returns the request itself. Bound once: to look for it in the proxy takes half of what it does."""

renders_outside: ContextVar[tuple[PendingRender, ...]] = ContextVar(
    "flask_signal_observability.renders_outside", default=()
)


def request_started(pipeline: Pipeline, record: RequestRecord | None, payload: dict[str, Any]) -> None:
    """URL matching is over: the route is known, or known to be none."""
    if record is not None and not record.started and not record.excluded:
        rule = request_here().url_rule
        if rule is None:
            pipeline.start(record, None, None)
        else:
            pipeline.start(record, rule.endpoint, rule.rule)


def request_finished(pipeline: Pipeline, record: RequestRecord | None, payload: dict[str, Any]) -> None:
    """A response is ready; whether its body outlives the view is read from it."""
    if record is not None:
        pipeline.learn_user(record)
        record.streamed = outlives_view(payload["response"])


def outlives_view(response: flask.Response) -> bool:
    """Tell a body that is still to be made from one that is there.

    Flask's own error pages come as an iterator too, Werkzeug's :class:`ClosingIterator` over a finished page; a client
    that never reads one never closes it. A file goes to the server as it is, for ``wsgi.file_wrapper`` and sendfile.
    """
    if response.direct_passthrough:
        return isinstance(response.response, GeneratorType)
    if not response.is_streamed:
        return False
    return response.content_length is None or not isinstance(response.response, ClosingIterator)


def got_request_exception(pipeline: Pipeline, record: RequestRecord | None, payload: dict[str, Any]) -> None:
    """Nobody handled this error."""
    if record is not None:
        if flask.has_request_context() and flask.request.url_rule is not None:
            # Another receiver of request_started may have raised before ours was called: Blinker's order is undefined.
            request_started(pipeline, record, payload)
        pipeline.learn_user(record)
    pipeline.fail(record, payload["exception"])


def before_render_template(pipeline: Pipeline, record: RequestRecord | None, payload: dict[str, Any]) -> None:
    """A render begins."""
    now_ns = time.perf_counter_ns()
    # In a request its clock counts, so that a render lies within it whatever the time of day does.
    unix_ns = time.time_ns() if record is None else record.started_unix_ns + now_ns - record.started_ns
    render = PendingRender(payload["template"].name or "<string>", id(payload["context"]), unix_ns, now_ns)
    if record is None:
        renders_outside.set((*renders_outside.get(), render)[-MAX_PENDING_RENDERS:])
        return
    record.renders = (*record.renders, render)
    if len(record.renders) > MAX_PENDING_RENDERS:
        # It has failed long ago, and a view or a stream has swallowed that.
        oldest, *others = record.renders
        record.renders = tuple(others)
        pipeline.event(oldest.ended(pipeline.app_name, now_ns), record)


def template_rendered(pipeline: Pipeline, record: RequestRecord | None, payload: dict[str, Any]) -> None:
    """A render has come to its end: the newest one of this context; others, inside it or beside it, go on."""
    pending = renders_outside.get() if record is None else record.renders
    context_id = id(payload["context"])
    for render in reversed(pending):
        if render.context_id == context_id:
            others = tuple(other for other in pending if other is not render)
            if record is None:
                renders_outside.set(others)
            else:
                record.renders = others
            pipeline.event(render.ended(pipeline.app_name, time.perf_counter_ns()), record)
            return


def message_flashed(pipeline: Pipeline, record: RequestRecord | None, payload: dict[str, Any]) -> None:
    """A message was flashed; its category is told, its text never."""
    fields = {"category": str(payload["category"])}
    pipeline.event(EventRecord("message_flashed", pipeline.app_name, fields, time.time_ns(), pipeline.app), record)


def _receiver(act: Act) -> Callable[..., None]:
    """Return the Blinker receiver for ``act``, which has the signal's name."""
    name = act.__name__

    def receive(app: flask.Flask, /, **payload: Any) -> None:
        pipeline: Pipeline
        record = record_here()
        if record is not None and record.observed_app is app:
            pipeline = record.pipeline
            record.signals.append(name)
            if len(record.signals) >= MAX_SIGNALS_HELD:
                pipeline.count_signals(record)
        elif record is not None and record.app is app and record.duration_ns is None:  # excluded
            if act is not got_request_exception:
                return  # it still writes the error journal
            pipeline = record.pipeline
        else:
            record, pipeline = None, app.extensions[EXTENSION]
            pipeline.signal(name)
        pipeline.acts[name](pipeline, record, payload)

    receive.__name__ = receive.__qualname__ = name
    receive.__doc__ = act.__doc__
    return receive


def appcontext_pushed(app: flask.Flask, /, **_: Any) -> None:
    """Nothing is told of it but that it was sent."""
    # The hot path, as the next one.
    record = record_here()
    if record is None or record.observed_app is not app:
        app.extensions[EXTENSION].signal_elsewhere("appcontext_pushed", record)
        return
    sent = record.signals
    sent.append("appcontext_pushed")
    if len(sent) >= MAX_SIGNALS_HELD:
        record.pipeline.count_signals(record)


def appcontext_popped(app: flask.Flask, /, **_: Any) -> None:
    """The same; what was pushed has been held against the limit."""
    record = record_here()
    if record is None or record.observed_app is not app:
        app.extensions[EXTENSION].signal_elsewhere("appcontext_popped", record)
    else:
        record.signals.append("appcontext_popped")


CONTEXT_SIGNALS = {signals.appcontext_pushed: appcontext_pushed, signals.appcontext_popped: appcontext_popped}

REQUEST_SIGNALS = {
    signals.request_started: _receiver(request_started),
    signals.request_finished: _receiver(request_finished),
    signals.got_request_exception: _receiver(got_request_exception),
    signals.before_render_template: _receiver(before_render_template),
    signals.template_rendered: _receiver(template_rendered),
    signals.message_flashed: _receiver(message_flashed),
}

ACTS: tuple[Act, ...] = (
    request_started,
    request_finished,
    got_request_exception,
    before_render_template,
    template_rendered,
    message_flashed,
)


def observe_handled_exceptions(app: flask.Flask) -> None:
    """Tell the errors that an error handler of the app answers, too: no signal does.

    HTTPExceptions are answers rather than errors, and do not count.
    """
    answer_error = app.handle_user_exception

    def handle_user_exception(*arguments: Any) -> Any:  # (error) up to Flask 3.1, (context, error) from 3.2 on
        answer = answer_error(*arguments)
        error = arguments[-1]
        if not isinstance(error, HTTPException):
            pipeline: Pipeline = app.extensions[EXTENSION]
            record = record_here()
            if record is not None and record.app is app and not record.excluded:
                event = EventRecord("handled_exception", pipeline.app_name, {}, time.time_ns(), app, error=error)
                pipeline.event(event, record)
        return answer

    app.handle_user_exception = handle_user_exception  # type: ignore[assignment, method-assign]


def connect(app: flask.Flask, pipeline: Pipeline, *, contexts: bool) -> None:
    """Connect the receivers to ``app``.

    Held strongly: they live as long as this module, and a weak reference would be looked up at every signal.

    Args:
        app: The sender.
        pipeline: The app's; it keeps what the receivers do, each behind its guard.
        contexts: Whether to receive appcontext_pushed and appcontext_popped, too. They have nothing to tell but that
            they were sent, and each costs a request what Blinker takes to send it: the row ``receivers`` of
            ``tests/benchmarks/overhead.py --instructions``.
    """
    pipeline.acts = {act.__name__: pipeline.guard.around("receivers", act.__name__, act) for act in ACTS}
    for signal, receiver in ({**REQUEST_SIGNALS, **CONTEXT_SIGNALS} if contexts else REQUEST_SIGNALS).items():
        signal.connect(receiver, sender=app, weak=False)
