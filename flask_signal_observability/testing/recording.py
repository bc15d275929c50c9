"""A sink that keeps what it is told."""

from __future__ import annotations

import dataclasses
from contextvars import ContextVar
from typing import Any
from typing import TYPE_CHECKING

from ..record import Sink
from .samples import check_known
from .samples import total

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import ReadableSpan

    from ..record import EventRecord
    from ..record import RequestRecord
    from .samples import Known
    from .samples import Sample

__all__ = ["ObservedRequest", "RecordingSink"]


@dataclasses.dataclass(eq=False)
class ObservedRequest:
    """A request that is over, and what it left."""

    method: str = ""
    path: str = ""
    status: int | None = None
    """None where none was sent."""
    route: str | None = None
    endpoint: str | None = None
    user: str | None = None
    error: BaseException | None = None
    """The first that nobody handled."""
    error_type: str | None = None
    duration_seconds: float = 0.0
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    annotations: dict[str, Any] = dataclasses.field(default_factory=dict)
    events: list[EventRecord] = dataclasses.field(default_factory=list)
    """Renders, flashes, errors and watched signals, in their order."""
    samples: list[Sample] = dataclasses.field(default_factory=list)
    """What was counted from its begin to its end; by other requests at the same time, too."""
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The records that were written, ours and the app's."""
    audit_lines: list[str] = dataclasses.field(default_factory=list)
    find_spans: Callable[[ObservedRequest], list[ReadableSpan]] = dataclasses.field(
        default=lambda _: [], repr=False, kw_only=True
    )
    known: Known = dataclasses.field(default_factory=dict, repr=False, kw_only=True)
    """The names and labels of the metrics that there were at its end."""

    @property
    def spans(self) -> list[ReadableSpan]:
        """The request's span, and then those below it that have ended by now, by their start."""
        return self.find_spans(self)

    @property
    def templates(self) -> list[str]:
        """The templates that were rendered, in the order in which they were done."""
        return [event.fields["template"] for event in self.events if event.name == "template_rendered"]

    def metric(self, name: str, **labels: object) -> float:
        """By how much the samples of this name that have these labels have grown, together.

        Raises:
            LookupError: There is no metric of this name, or it does not have one of these labels; or nobody counted
                for this request, which was kept by a :class:`RecordingSink` alone.
        """
        check_known(self.known, name, labels)
        return total(self.samples, name, labels)


class RecordingSink(Sink):
    """Keeps requests and events: ``Observability(app, sinks=[RecordingSink()])``. Safe to use from several threads."""

    name = "recording"

    def __init__(self) -> None:
        self.requests: list[ObservedRequest] = []
        """Those that are over, in the order of their ends."""
        self.events: list[EventRecord] = []
        """All that was told, in requests and outside of them."""
        self._key = f"{self.name}.{id(self):x}"
        self._here: ContextVar[ObservedRequest | None] = ContextVar("flask_signal_observability.here", default=None)

    def here(self) -> ObservedRequest | None:
        """Return the request that runs here, not filled in before it is over."""
        return self._here.get()

    def attach(self, record: RequestRecord) -> None:
        """Remember which request runs here."""
        record.state[self._key + ".token"] = self._here.set(None if record.excluded else self._of(record))

    def detach(self, record: RequestRecord) -> None:
        """Forget it."""
        token = record.state.pop(self._key + ".token", None)
        if token is not None:  # of a request that began before this sink was there
            self._here.reset(token)

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Keep it, with its request where it has one."""
        self.events.append(event)
        if record is not None:
            self._of(record).events.append(event)

    def finish(self, record: RequestRecord) -> None:
        """Keep the request as it is now."""
        request = self._of(record)
        for name in TAKEN:
            setattr(request, name, getattr(record, name))
        request.annotations = dict(record.annotations or {})
        self.requests.append(request)

    def make(self) -> ObservedRequest:
        """Return what a request is kept in."""
        return ObservedRequest()

    def _of(self, record: RequestRecord) -> ObservedRequest:
        request: ObservedRequest | None = record.state.get(self._key)
        if request is None:
            request = record.state[self._key] = self.make()
        return request


TAKEN = (
    *("method", "path", "status", "route", "endpoint", "user", "error", "error_type", "duration_seconds"),
    *("request_id", "trace_id", "span_id"),
)
