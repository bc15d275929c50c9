"""The record of something that happened, in a request or outside of one."""

from __future__ import annotations

from typing import Any

__all__ = ["EventRecord", "Outputs", "PendingRender", "error_type_of"]


class PendingRender:
    """A template that began to render.

    Args:
        template: Its name.
        context_id: The identity of the context that it renders: both signals of a render carry the same one.
        started_unix_ns: When it began, in Unix time.
        started_ns: When it began, by the monotonic clock.
    """

    __slots__ = ("context_id", "started_ns", "started_unix_ns", "template")

    def __init__(self, template: str, context_id: int, started_unix_ns: int, started_ns: int) -> None:
        self.template = template
        self.context_id = context_id
        self.started_unix_ns = started_unix_ns
        self.started_ns = started_ns

    def ended(self, app_name: str, ended_ns: int, error: BaseException | None = None) -> EventRecord:
        """Return the event of this render; ``error`` is what ended it, where it did not come to its end."""
        duration_ns = ended_ns - self.started_ns
        return EventRecord(
            "template_rendered",
            app_name,
            {"template": self.template},
            self.started_unix_ns + duration_ns,
            started_unix_ns=self.started_unix_ns,
            duration_ns=duration_ns,
            error=error,
        )


class Outputs:
    """What becomes of an event that was asked for by name, rather than known to the sinks."""

    __slots__ = ("audit", "level", "level_number", "name", "span", "span_event")

    def __init__(
        self,
        level: str | None = None,
        level_number: int = 0,
        span_event: str | None = None,
        span: str | None = None,
        audit: bool = False,  # noqa: FBT001, FBT002
        name: str = "",
    ) -> None:
        self.level = level
        """Of its JSON record, in lower case; None: no record."""
        self.level_number = level_number
        self.span_event = span_event
        """The name of the event on the span that is current; None: no event."""
        self.span = span
        """The name of a child span, which a timed event becomes; None: no span."""
        self.audit = audit
        """There is a line for the audit file."""
        self.name = name
        """What the event is called."""


class EventRecord:
    """Something that happened, in a request or outside of one.

    ``name`` is ``template_rendered``, ``message_flashed``, ``exception``, ``access_logged`` or the name of a watched
    signal; ``fields`` hold what it carries. A timed event has a start and a duration.
    """

    __slots__ = (
        "app_name",
        "audit_text",
        "duration_ns",
        "error",
        "fields",
        "name",
        "outputs",
        "refused",
        "sender",
        "started_unix_ns",
        "unix_ns",
    )

    def __init__(
        self,
        name: str,
        app_name: str,
        fields: dict[str, Any],
        unix_ns: int,
        sender: object = None,
        started_unix_ns: int | None = None,
        duration_ns: int | None = None,
        error: BaseException | None = None,
        outputs: Outputs | None = None,
        audit_text: str | None = None,
    ) -> None:
        self.name = name
        self.app_name = app_name
        self.fields = fields
        self.unix_ns = unix_ns
        """When it was told: Unix time in nanoseconds."""
        self.sender = sender
        self.started_unix_ns = started_unix_ns
        self.duration_ns = duration_ns
        self.error = error
        self.outputs = outputs
        """Of a watched signal: what was asked for. Its fields are plain, and redacted."""
        self.audit_text = audit_text
        """Of a watched signal: its audit line, escaped, without the time."""
        self.refused = False
        """It had to be written and could not be: whoever sent it must not go on."""

    def __repr__(self) -> str:
        return f"<EventRecord {self.name!r} {', '.join(self.fields)}".rstrip() + ">"


def error_type_of(error: BaseException) -> str:
    """Return the fully qualified class name of ``error``, builtins bare, as OpenTelemetry's ``exception.type`` asks."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
