"""Requests as OpenTelemetry SERVER spans, renders as their children."""

from __future__ import annotations

import traceback
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry import trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import INVALID_SPAN
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode

from ..catalogue import OTHER
from ..catalogue import SCHEMA_URL
from ..providers import deliver
from ..providers import flush
from ..record import error_type_of
from ..record import Sink
from ..redaction import mask_patterns
from ..redaction import mask_repr
from ..text import utf8
from .request_span import RequestSpan
from .server_span import make_starter
from .server_span import PLAIN
from .server_span import ServerSpan
from .server_span import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.util.types import AttributeValue

    from ..config import Config
    from ..guard import Guard
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord
    from ..redaction import Redaction
    from .server_span import Identity

    Attributes = dict[str, AttributeValue]

__all__ = ["TracingSink"]

NAME = "tracing"
CURRENT = "tracing.context"
"""What is current while the request's code runs, in its ``state``: it holds the span, which must not hold it."""

W3C_FIELDS = frozenset({"traceparent", "baggage"})
"""What W3C's propagators look for in a request without any of it: no tracestate without a traceparent."""


class TracingSink(Sink):
    """Starts the server span at request_started, backdated to the boundary's clock, or as soon as it is needed."""

    name = NAME

    def __init__(
        self, config: Config, provider: trace.TracerProvider, guard: Guard, redaction: Redaction, version: str
    ) -> None:
        self._config = config
        self._guard = guard
        self._redaction = redaction
        self.provider = provider
        """Where the spans come from."""
        self._tracer = provider.get_tracer("flask_signal_observability", version, schema_url=SCHEMA_URL)
        self._starter = make_starter(self._tracer)
        self._propagator: TextMapPropagator | None = None
        self._propagator_is_w3c = False

    # A request.

    def open(self, record: RequestRecord) -> None:
        """Take the caller's context; the span itself waits until something needs it."""
        parent = self._parent_context(record)
        identity = self._starter.identify(parent)
        if identity is not None:
            ids = identity.ids
            record.trace_id, record.span_id, record.sampled = ids[:32], ids[32:], identity.is_sampled
        span = record.state[NAME] = RequestSpan(self.begin, self._guard, record, parent, identity)
        record.state[CURRENT] = trace.set_span_in_context(span, parent)

    def _parent_context(self, record: RequestRecord) -> Context:
        context = otel_context.get_current()
        if context:
            # A span that happens to be current here is not this request's caller: only an enclosing request is.
            outer: RequestSpan | None = record.parent.state.get(NAME) if record.parent is not None else None
            if outer is not None or trace.get_current_span(context) is not INVALID_SPAN:
                context = trace.set_span_in_context(INVALID_SPAN if outer is None else outer, context)
        propagator = propagate.get_global_textmap()
        if propagator is not self._propagator:
            asked = self._guard.call(NAME, "extract", fields_asked_for, propagator, default=None)
            self._propagator, self._propagator_is_w3c = propagator, asked is not None and asked <= W3C_FIELDS
        environ = record.environ
        if self._propagator_is_w3c and "HTTP_TRACEPARENT" not in environ and "HTTP_BAGGAGE" not in environ:
            # They would find nothing: the 7 microseconds of asking them are saved.
            return context
        extracted: Context = self._guard.call(
            NAME, "extract", propagator.extract, environ, context, EnvironGetter(), default=context
        )
        return extracted

    def attach(self, record: RequestRecord) -> None:
        """Make the request's context current; for an excluded request that is its caller's."""
        span: RequestSpan | None = record.state.get(NAME)
        if span is None and record.excluded:
            parent = self._parent_context(record)
            span = record.state[NAME] = RequestSpan(self.begin, self._guard, record, parent, None)
            span.abandon()
            record.state[CURRENT] = parent
        if span is not None:
            span.token = otel_context.attach(record.state[CURRENT])

    def detach(self, record: RequestRecord) -> None:
        """Give back the context of before; what the request had current goes on with its next chunk."""
        span: RequestSpan | None = record.state.get(NAME)
        if span is not None and span.token is not None:
            if record.duration_ns is None:
                record.state[CURRENT] = otel_context.get_current()
            token, span.token = span.token, None
            otel_context.detach(token)

    def start(self, record: RequestRecord) -> None:
        """Start the span with its final name and route, or bring one up to date that was needed earlier."""
        span: RequestSpan | None = record.state.get(NAME)
        if span is None:
            return
        early = span.started_span
        if early is None:
            if span.identity is None:
                span.start()
        elif early.is_recording():
            early.update_name(span_name(record))
            early.set_attributes(self._request_attributes(record))

    def begin(self, record: RequestRecord, parent: Context, identity: Identity | None) -> trace.Span:
        """Start the real span; where a sampler or processor fails, that costs the span, not the request."""
        if not record.path:
            record.describe()
        attributes = self._request_attributes(record)
        span = self._starter.start(span_name(record), parent, attributes, record.started_unix_ns, identity)
        if identity is None:
            context = span.get_span_context()
            if context.is_valid:
                record.trace_id, record.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
                record.sampled = context.trace_flags.sampled
        return span

    def _request_attributes(self, record: RequestRecord) -> Attributes:
        # The hot path: a dict that is written down and rarely thinned out costs half of one made by a comprehension;
        # to look for None among its values, each compared, would cost as much as to make it.
        attributes: dict[str, Any] = {
            "http.request.method": record.method,
            "url.scheme": record.scheme,
            "url.path": record.path,
            "server.address": record.server_address,
            "server.port": record.server_port,
            "client.address": record.client_address,
            "network.peer.address": record.peer_address,
            "network.protocol.version": record.protocol_version,
            "user_agent.original": record.user_agent,
            "http.route": record.route,
            "flask.endpoint": record.endpoint,
            "flask.request_id": record.request_id,
        }
        if (
            record.server_port is None
            or record.client_address is None
            or record.peer_address is None
            or record.protocol_version is None
            or record.user_agent is None
            or record.route is None
            or record.endpoint is None
            or record.request_id is None
            or record.server_address is None
        ):
            attributes = {key: value for key, value in attributes.items() if value is not None}
        if record.method_original is not None:
            attributes["http.request.method_original"] = record.method_original
        if record.query is not None:
            attributes["url.query"] = record.query
        if record.peer_port is not None:
            attributes["network.peer.port"] = record.peer_port
        if record.request_size is not None:
            attributes["http.request.body.size"] = record.request_size
        if record.request_headers is not None:
            for header, values in record.request_headers.items():
                attributes[f"http.request.header.{header}"] = values
        return attributes

    def finish(self, record: RequestRecord) -> None:
        """End the span; one that nobody needed before is made here, in one piece."""
        waiting: RequestSpan | None = record.state.get(NAME)
        if waiting is None:
            return
        span = waiting.started_span
        if span is None:
            if waiting.identity is not None and self._end_unstarted(waiting, waiting.identity, record):
                return
            span = waiting.start()
        if not span.is_recording():
            return
        try:
            attributes: Attributes = {}
            self._add_response_attributes(attributes, record)
            add = getattr(span, "add_own", span.set_attributes)
            add(attributes)
            if record.error_type is not None:
                span.set_status(self._failed(record))
        finally:
            span.end(record.ended_unix_ns)

    def _end_unstarted(self, span: RequestSpan, identity: Identity, record: RequestRecord) -> bool:
        if not identity.is_recording:
            span.ended(None)
            return True
        if record.request_headers or record.annotations or self._config.capture_response_headers:
            return False  # these may hold anything
        attributes = self._request_attributes(record)
        self._add_response_attributes(attributes, record)
        status = UNSET if record.error_type is None else self._failed(record)
        times = record.started_unix_ns, record.ended_unix_ns
        ended = self._starter.end_unstarted(identity, span_name(record), attributes, status, *times)
        if ended is None:
            return False
        span.ended(ended)
        return True

    def _failed(self, record: RequestRecord) -> Status:
        return Status(StatusCode.ERROR, self._describe_error(record.errors[0]) if record.errors else None)

    def _add_response_attributes(self, attributes: Attributes, record: RequestRecord) -> None:
        if record.status is not None:
            attributes["http.response.status_code"] = record.status
        if record.response_size is not None:
            attributes["http.response.body.size"] = record.response_size
        if record.error_type is not None:
            attributes["error.type"] = record.error_type
        if record.user is not None:
            attributes["user.id"] = record.user
        if record.client_disconnected:
            attributes["client_disconnected"] = True
        for header in self._config.capture_response_headers:
            values = [value for name, value in record.response_headers or () if name.lower() == header]
            if values:
                attributes[f"http.response.header.{header}"] = self._redaction.mask_headers(header, values)
        if record.annotations:
            own = attributes.keys() | self._request_attributes(record).keys()
            attributes.update(self._annotations(record.annotations, own))

    def _annotations(self, annotations: Mapping[str, Any], own: set[str]) -> Attributes:
        return {
            key: self._guard.call(NAME, "annotate", attribute, value, default="<unprintable>")
            for key, value in self._redaction.mask_mapping(dict(annotations)).items()
            if key not in own
        }

    def abandon(self, record: RequestRecord) -> None:
        """Forget the span of an excluded request; its children belong to the caller instead.

        A span that was needed before the request turned out to be excluded has children already: it is ended, so that
        they are not orphaned.
        """
        span: RequestSpan | None = record.state.get(NAME)
        if span is not None:
            span.abandon()
            record.trace_id = record.span_id = None
            record.sampled = False

    def close(self) -> None:
        """Deliver the spans that are queued, in bounded time: the process ends."""
        deliver(self.provider, self._config.flush_timeout_seconds)

    def flush(self) -> None:
        """Deliver the spans that are queued, in bounded time; more will follow."""
        flush(self.provider, self._config.flush_timeout_seconds)

    # Events.

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Turn a render into a child span, anything else that is told here into a span event."""
        if event.name == "template_rendered":
            self._render(event)
            return
        span: RequestSpan | None = record.state.get(NAME) if record is not None else None
        if span is None or not span.is_recording():
            return
        if event.error is not None:
            span.add_event("exception", self._error_attributes(event.error), event.unix_ns)
        elif event.name == "message_flashed":
            span.add_event("message_flashed", {"category": utf8(event.fields["category"])}, event.unix_ns)

    def teller(self, outputs: Outputs) -> Callable[[EventRecord, RequestRecord | None], None] | None:
        """Return what adds an event to the span that is current, or makes a child of it that has ended."""
        event_name, span_name = outputs.span_event, outputs.span
        told_name = event_name or ""

        def add_event(event: EventRecord, record: RequestRecord | None) -> None:
            # The hot path of a watched signal.
            span = span_here(record)
            if type(span) is ServerSpan and span.add_own_event(told_name, event.fields, event.unix_ns):
                return
            if span.is_recording():
                span.add_event(told_name, self._attributes(event.fields), event.unix_ns)

        def make_child(event: EventRecord, record: RequestRecord | None) -> None:
            if event_name is not None:
                add_event(event, record)
            if event.started_unix_ns is not None:
                attributes = self._attributes(event.fields)
                span = self._tracer.start_span(span_name or "", attributes=attributes, start_time=event.started_unix_ns)
                span.end(event.unix_ns)

        if span_name is not None:
            return make_child
        return None if event_name is None else add_event

    def _attributes(self, fields: dict[str, Any]) -> Attributes:
        if PLAIN.issuperset(map(type, fields.values())):
            return fields
        return {
            key: value if type(value) in PLAIN else self._guard.call(NAME, "event", attribute, value, default="")
            for key, value in fields.items()
            if value is not None
        }

    def _render(self, event: EventRecord) -> None:
        template = utf8(event.fields["template"])
        # Made when it has ended: a render is never current, so that nothing hangs on one that ends elsewhere or never.
        span = self._tracer.start_span(
            "render <string>" if template == "<string>" else f"render {template}",
            attributes={"flask.template": template},
            start_time=event.started_unix_ns,
        )
        if event.error is not None:
            span.set_attribute("error.type", error_type_of(event.error))
            span.set_status(Status(StatusCode.ERROR, self._describe_error(event.error)))
        span.end(event.unix_ns)

    def _error_attributes(self, error: BaseException) -> Attributes:
        text = traceback.TracebackException.from_exception(error)
        if self._config.exception_message:
            return {
                "exception.type": error_type_of(error),
                "exception.message": self._message(error),
                "exception.stacktrace": utf8(mask_patterns("".join(text.format()))),
            }
        return {"exception.type": error_type_of(error), "exception.stacktrace": "".join(text.stack.format())}

    def _describe_error(self, error: BaseException) -> str:
        kind = error_type_of(error)
        return f"{kind}: {self._message(error)}" if self._config.exception_message else kind

    def _message(self, error: BaseException) -> str:
        return utf8(mask_patterns(self._guard.call(NAME, "message", str, error, default="")))


def span_here(record: RequestRecord | None) -> Any:
    """Return the span that is current; the request's own is started where anybody will see it."""
    waiting: RequestSpan | None = None if record is None else record.state.get(NAME)
    if waiting is None or record is None or otel_context.get_current() is not record.state.get(CURRENT):
        span: Any = trace.get_current_span()
        if type(span) is not RequestSpan:
            return span
        waiting = span
    started = waiting.started_span  # each look at an attribute of it is a long one
    if started is not None:
        return started
    return waiting.start() if waiting.is_recording() else INVALID_SPAN


class EnvironGetter(Getter["dict[str, Any]"]):
    """Reads a propagator's headers from a WSGI environ (PEP 3333)."""

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        """Return the header's value as a list of one; None where it is absent."""
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        """Return the names of the headers that are there."""
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


class Inquiry(EnvironGetter):
    """Notes what a propagator asks for; ``fields`` of a propagator are what it writes, and one may write nothing."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        """Have nothing."""
        self.asked.add(key.lower())
        return None

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        """Have nothing, for somebody who may look for anything."""
        self.asked.add("*")
        return []


def fields_asked_for(propagator: TextMapPropagator) -> set[str]:
    """Return the headers that a propagator looks for in a request that has none."""
    inquiry = Inquiry()
    propagator.extract({}, otel_context.Context(), inquiry)
    return inquiry.asked


def span_name(record: RequestRecord) -> str:
    """Return the convention's name: ``{method} {route}``, ``HTTP`` standing for a method that is not known."""
    method = "HTTP" if record.method == OTHER else record.method
    return method if record.route is None else f"{method} {record.route}"


def attribute(value: Any) -> AttributeValue:
    """Return an annotation as an attribute value: a plain one as it is, a list of plain ones, else its text."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return [utf8(item) for item in value]
    return utf8(mask_repr(str(value)))
