"""What one app's signals reach: its configuration, its guard, and its sinks stage by stage."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any
from typing import TYPE_CHECKING

from . import identity
from .catalogue import DEFAULT_KNOWN_METHODS
from .catalogue import OTHER
from .exclusion import Exclusion
from .record import error_type_of
from .record import EventRecord
from .record import record_here
from .record import RequestRecord
from .record import Sink
from .redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from .config import Config
    from .exposition import Exposition
    from .guard import Guard
    from .metrics_port.server import Server
    from .record import Outputs

__all__ = ["EXTENSION", "Pipeline"]

EXTENSION = "observability"
"""The key of an app's pipeline in ``app.extensions``."""

SERVER_ERROR = 500

CONTEXT_CHANGES = {"appcontext_pushed": +1, "appcontext_popped": -1}

Stage = tuple[tuple[str, "Callable[..., None]"], ...]


class Pipeline:
    """One app's way from signal to sink. Its methods are called in requests, on any thread, and do not raise.

    A stage is made of ``(sink name, bound method)`` once, so that a sink costs nothing at a stage that it does not
    override.
    """

    def __init__(self, app: Any, config: Config, guard: Guard, sinks: Sequence[Any]) -> None:
        self.app = app
        self.app_name: str = app.name
        self.config = config
        self.guard = guard
        self.exposition: Exposition | None = None
        """What answers at ``metrics_path``."""
        self.metrics_server: Server | None = None
        """What answers at ``metrics_port``."""
        self.watched: dict[int, Callable[..., None]] = {}
        """What tells of each signal that is watched here."""
        self.acts: dict[str, Callable[[Any, Any, Any], Any]] = {}
        """What is done at each of Flask's signals, by its name, behind the guard."""
        self.kept: list[object] = []
        """What has to live as long as the app."""
        self.keywords: list[Mapping[str, Any]] = []
        """The settings of each ``Observability`` that was given this app; those of the first are in force."""
        redaction = Redaction(config.redact)
        self.read_environ = identity.make_reader(config, redaction)
        self.read_details = guard.kept("identity", "details", identity.make_details_reader(config, redaction))
        self.user: Callable[[], str | None] = guard.kept("identity", "user", identity.make_user_reader(config))
        """Returns the current user's id; None where there is none or where asking failed."""
        self._request_id_key = "HTTP_" + config.request_id_header.upper().replace("-", "_")
        self._known_methods = _known_methods()
        self._exclusion = Exclusion(config.exclude)
        # Filled and emptied by any thread without a lock: each of the two is one step, with the GIL or without.
        self._dropped: deque[RequestRecord] = deque()
        self.wire(sinks)

    def wire(self, sinks: Sequence[Any]) -> None:
        """Hand everything to these sinks from now on, in this order."""
        self.sinks = tuple(sinks)
        stage = self.guard.stage
        self._open = stage("open", _stage(sinks, "open"))
        self.attach = stage("attach", _stage(sinks, "attach"))
        """Enters a request: its code is about to run."""
        self.detach = stage("detach", _stage(sinks, "detach")[::-1])
        """Leaves it again."""
        self._start = stage("start", _stage(sinks, "start"))
        self._event = _stage(sinks, "event")
        self._signal = _stage(sinks, "signal")
        self._context = _stage(sinks, "context")
        self._finish = stage("finish", _stage(sinks, "finish"))
        self._abandon = stage("abandon", _stage(sinks, "abandon"))
        self._reads_details = any(getattr(sink, "reads_details", True) for sink in sinks)
        self._excluded_error = _stage((s for s in sinks if getattr(s, "sees_excluded_errors", False)), "event")

    # One request, in the order of its life.

    def open(self, environ: dict[str, Any]) -> RequestRecord:
        """Start the clock and the record of a request."""
        if self._dropped:
            self.finish_dropped()
        sent = environ.get("REQUEST_METHOD", "")
        method = sent if sent in self._known_methods else self._canonical(sent)
        parent = record_here()
        if parent is not None and parent.duration_ns is not None:
            parent = None  # of a copied context that has outlived its request
        record = RequestRecord(
            self.app,
            self.app_name,
            environ,
            method,
            time.time_ns(),
            time.perf_counter_ns(),
            self.read_environ,
            self,
            parent,
        )
        if method is not sent:
            record.method_original = sent
        excluded_path = self._exclusion.path
        if excluded_path is not None and excluded_path(identity.path_of(environ)):
            record.excluded, record.observed_app = True, None
            return record
        if parent is not None and parent.environ is environ:
            record.request_id = parent.request_id  # one request, handed on by a dispatcher
        else:
            record.request_id = identity.request_id_from(environ, self._request_id_key)
        try:
            self._open(record)
        except BaseException as error:
            self.break_off(record, error)
            raise
        return record

    def _canonical(self, sent: str) -> str:
        """Return the method that Werkzeug takes ``sent`` for: it compares methods without case (``get``)."""
        method = sent.upper()
        return method if method in self._known_methods else OTHER

    def start(self, record: RequestRecord, endpoint: str | None, rule: str | None) -> None:
        """Learn the route, and what the environ says by now; called at request_started."""
        record.started = True
        record.endpoint = endpoint
        if endpoint is not None and self._exclusion.covers(self.app, endpoint):
            record.excluded, record.observed_app = True, None
            self._abandon(record)
            return
        if rule is not None:
            record.route = identity.prefix_of(record.environ) + rule
        self.read_environ(record)
        if self._reads_details:
            record.told_details()
        self._start(record)

    def learn_user(self, record: RequestRecord) -> None:
        """Ask who the user is while the request's contexts are there, until there is an answer."""
        if record.user is None:
            record.user = self.user()

    def fail(self, record: RequestRecord | None, error: BaseException) -> None:
        """Tell an error that nobody handled, once; the first of a request gives its ``error_type``."""
        event = EventRecord("exception", self.app_name, {}, time.time_ns(), self.app, error=error)
        if record is None:
            self.event(event, None)
        elif record.duration_ns is not None:
            # Raised while a body was closed that had come to its end: the request was told already.
            self.guard.each("event", self._excluded_error, event, record)
        elif not any(told is error for told in record.errors):
            record.errors = (*record.errors, error)
            self.end_renders(record, error)
            self.guard.each("event", self._excluded_error if record.excluded else self._event, event, record)

    def finish(self, record: RequestRecord) -> None:
        """End the request, once: its body is sent, has failed or was given up."""
        if record.duration_ns is None:
            record.end(time.perf_counter_ns())
            self._finish_all(record)

    def break_off(self, record: RequestRecord, error: BaseException) -> None:
        """End a request that ``error`` escapes from, even if telling of it is broken off as well."""
        try:
            self.fail(record, error)
        finally:
            self.finish(record)

    def drop(self, record: RequestRecord) -> None:
        """End the request of a body that was thrown away unread; the sinks are told at the next request or scrape."""
        record.end(time.perf_counter_ns())
        self._dropped.append(record)

    def finish_dropped(self) -> None:
        """Tell the sinks of the requests whose bodies were thrown away."""
        while True:
            try:
                record = self._dropped.popleft()
            except IndexError:  # or another thread came first
                return
            self.attach(record)
            self._finish_all(record)
            self.detach(record)

    def _finish_all(self, record: RequestRecord) -> None:
        if record.excluded:
            return
        if not record.started:
            self.guard.call("identity", "describe", record.describe)
        status = record.status
        if record.errors:
            record.error_type = error_type_of(record.errors[0])
        elif status is not None and status >= SERVER_ERROR:
            record.error_type = str(status)
        if record.renders:
            self.end_renders(record, None)
        self._finish(record)
        record.parent = None

    # What happens in between, or outside of any request.

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Hand an event to every sink."""
        self.guard.each("event", self._event, event, record)

    def tellers(self, outputs: Outputs) -> Stage:
        """Return whom to tell of events that are to become these outputs; asked once, when a watch begins.

        A sink that can tell has a ``teller(outputs)``, which returns None where there is nothing for it to do. Any
        other that has an ``event`` is told there.
        """
        tellers = []
        for sink in self.sinks:
            for name, method in _stage((sink,), "event"):
                teller = getattr(sink, "teller", None)
                told = method if teller is None else teller(outputs)
                if told is not None:
                    tellers.append((name, told))
        return tuple(tellers)

    def end_renders(self, record: RequestRecord, error: BaseException | None) -> None:
        """End the renders that no template_rendered ended: their template, or the request, has failed."""
        renders, record.renders = record.renders, ()
        duration_ns = record.duration_ns
        ended_ns = time.perf_counter_ns() if duration_ns is None else record.started_ns + duration_ns
        for render in () if record.excluded else reversed(renders):
            self.event(render.ended(self.app_name, ended_ns, error), record)

    def context(self, change: int) -> None:
        """An application context was pushed (+1) or popped (-1) outside of an observed request."""
        self.guard.each("context", self._context, self.app_name, change)

    def count_signals(self, record: RequestRecord) -> None:
        """Count the signals that a long request has sent so far, so that it does not keep them all."""
        record.contexts_before = record.open_contexts
        sent, record.signals = record.signals, []
        for signal in sent:
            self.signal(signal)

    def signal(self, signal: str) -> None:
        """A lifecycle signal was sent outside an observed request."""
        self.guard.each("signal", self._signal, self.app_name, signal)

    def signal_elsewhere(self, signal: str, record: RequestRecord | None) -> None:
        """A signal was sent that is not about an open, observed request of this app; ``record`` is what is current."""
        change = CONTEXT_CHANGES.get(signal, 0)
        if record is not None and record.app is self.app:
            if record.duration_ns is None:
                return  # excluded
            if change < 0 < record.open_contexts:
                # Pushed while the request was open, and popped after it: it went with the request.
                record.contexts_before -= 1
                change = 0
        self.signal(signal)
        if change:
            self.context(change)


def _stage(sinks: Iterable[Any], stage: str) -> Stage:
    methods = [(sink, _method(sink, stage)) for sink in sinks if stage not in getattr(sink, "skips", ())]
    inherited = getattr(Sink, stage)
    return tuple(
        (getattr(sink, "name", "") or type(sink).__name__, method)
        for sink, method in methods
        if method is not None and getattr(method, "__func__", None) is not inherited
    )


def _method(sink: Any, stage: str) -> Any:
    """Return what a sink does at a stage; at the end of a request its ``finisher()`` says, where it has one."""
    finisher = getattr(sink, "finisher", None) if stage == "finish" else None
    return getattr(sink, stage, None) if finisher is None else finisher()


def _known_methods() -> frozenset[str]:
    # The convention: the variable replaces the list, its values compared with case.
    override = os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
    return frozenset(m.strip() for m in override.split(",") if m.strip()) or DEFAULT_KNOWN_METHODS
