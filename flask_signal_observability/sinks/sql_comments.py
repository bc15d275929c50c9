"""Where a statement comes from, for the instrumentations that write it behind the statement as a comment.

Those of OpenTelemetry for SQLAlchemy, psycopg2 and others find framework, controller and route in the current context,
under a key that opentelemetry-instrumentation-flask has made the custom. The form is sqlcommenter's:
https://google.github.io/sqlcommenter/spec/
"""

from __future__ import annotations

from importlib import metadata
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context

from .tracing import TracingSink

if TYPE_CHECKING:
    from ..record import RequestRecord

__all__ = ["CommentingTracingSink"]

KEY = "SQLCOMMENTER_ORM_TAGS_AND_VALUES"


class CommentingTracingSink(TracingSink):
    """A tracing sink of its own, so that nobody else's requests pay for it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._framework = f"flask:{metadata.version('flask')}"

    def start(self, record: RequestRecord) -> None:
        """Put the values into the request's context; they go with it, at ``detach``."""
        super().start(record)
        span = record.span
        if span is None or span.token is None:
            return  # the request could not be made current: nobody would take back what is attached here
        values = {"framework": self._framework, "controller": record.endpoint, "route": record.route}
        before = otel_context.get_current()
        context = otel_context.set_value(KEY, {name: value for name, value in values.items() if value is not None})
        otel_context.attach(context)
        if before is record.context:
            record.context = context
