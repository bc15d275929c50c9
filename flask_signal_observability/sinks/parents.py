"""Who asked for a request: the trace context that its headers carry, or the enclosing request's."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry import trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import INVALID_SPAN

from .current_context import get_current
from .request_span import NAME

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator

    from ..guard import Guard
    from ..record import RequestRecord
    from .request_span import RequestSpan

__all__ = ["EnvironGetter", "Parents"]

W3C_FIELDS = frozenset({"traceparent", "baggage"})
"""What W3C's propagators look for in a request without any of it: no tracestate without a traceparent."""


class Parents:
    """Finds the parents of server spans.

    Args:
        guard: Stands between the propagator and the request.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._propagator: TextMapPropagator | None = None
        self._propagator_is_w3c = False

    def of(self, record: RequestRecord) -> Context:
        """Return the context that the request's span is to be started in."""
        context = get_current()
        if context:
            # A span that happens to be current here is not this request's caller: only an enclosing request is.
            outer: RequestSpan | None = record.parent.span if record.parent is not None else None
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
