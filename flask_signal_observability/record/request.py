"""The one record of a request, and which one is being served here."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from .event import PendingRender

__all__ = ["MAX_SIGNALS_HELD", "Details", "RequestRecord", "current_record", "record_here"]

MAX_SIGNALS_HELD = 256
"""Signals that a request keeps until it is over; a stream that renders for an hour has its others counted at once."""


class Details(NamedTuple):
    """What the environ of a request says that spans alone tell."""

    server_address: str | None = None
    server_port: int | None = None
    peer_port: int | None = None
    protocol_version: str | None = None
    user_agent: str | None = None
    request_headers: dict[str, list[str]] | None = None


NO_DETAILS = Details()


class RequestRecord:
    """One request: opened by the boundary, filled by the receivers, read by every sink.

    Times of day are Unix nanoseconds; durations come from the monotonic clock. ``None`` means "not known", and a sink
    leaves it out. With slots, since forty attributes outgrow the dict that instances share their keys of; and no
    dataclass: to make one of so many took a tenth of the package's import.
    """

    __slots__ = (
        "active",
        "annotations",
        "app",
        "app_name",
        "audit_written",
        "audited",
        "client_address",
        "client_disconnected",
        "context",
        "contexts_before",
        "details",
        "duration_ns",
        "ended_unix_ns",
        "endpoint",
        "environ",
        "error_type",
        "errors",
        "excluded",
        "method",
        "method_original",
        "observed_app",
        "parent",
        "path",
        "peer_address",
        "pipeline",
        "query",
        "reader",
        "renders",
        "request_id",
        "request_size",
        "response_headers",
        "response_size",
        "route",
        "sampled",
        "scheme",
        "signals",
        "span",
        "span_id",
        "started",
        "started_ns",
        "started_unix_ns",
        "state",
        "status",
        "streamed",
        "trace_id",
        "user",
        "written_bytes",
    )

    def __init__(  # noqa: PLR0915 - a list
        self,
        app: Any,
        app_name: str,
        environ: dict[str, Any],
        method: str,
        started_unix_ns: int,
        started_ns: int,
        reader: Callable[[RequestRecord], None],
        pipeline: Any = None,
        parent: RequestRecord | None = None,
    ) -> None:
        # The boundary's clock, and where the record belongs.
        self.app = app
        """The Flask application; a signal of another application is not about this request."""
        self.app_name = app_name
        self.environ = environ
        self.method = method
        """A method the RFCs know, or ``_OTHER``."""
        self.started_unix_ns = started_unix_ns
        self.started_ns = started_ns
        self.reader = reader
        """Fills in what the environ says; see :meth:`describe`."""
        self.pipeline = pipeline
        """The app's :class:`~flask_signal_observability.pipeline.Pipeline`."""
        self.parent = parent
        """The observed request that this one was made in, if any."""
        self.observed_app = app
        """``app`` while its signals are about this request: None once it is over, or turned out to be excluded."""
        self.duration_ns: int | None = None
        """Set when the request is finished; until then the request is still running."""
        self.ended_unix_ns = started_unix_ns
        """The start, and the duration added once it is known: by the monotonic clock, so never before the start."""
        self.excluded = False
        """No sink sees this request."""
        self.request_id: str | None = None

        # What the environ says.
        self.method_original: str | None = None
        """What the client sent, where ``method`` is ``_OTHER``."""
        self.scheme = ""
        self.path = ""
        """Decoded, with the prefix that the app is mounted under."""
        self.query: str | None = None
        """Redacted; None unless ``Config.capture_query`` is on."""
        self.client_address: str | None = None
        self.peer_address: str | None = None
        self.request_size: int | None = None
        """Bytes of the request's body, as its Content-Length says."""
        self.details: Details | None = None
        """What else it says, once somebody has asked; see :meth:`told_details`."""

        # What Flask's signals say.
        self.route: str | None = None
        self.endpoint: str | None = None
        self.user: str | None = None
        self.started = False
        """The route is known, or known to be none."""
        self.streamed: bool | None = None
        """Whether the body outlives the view; None until a Flask response was seen."""
        self.errors: tuple[BaseException, ...] = ()
        """Every error that nobody handled, in the order in which they were told."""
        self.error_type: str | None = None
        """Set when the request is finished: the first error's class, or the status of a 5xx as a string."""
        self.audited = False
        """The request sent ``access_logged`` itself."""
        self.signals: list[str] = []
        """The lifecycle signals that this request sent, in their order; the newest ones, where they are very many."""
        self.contexts_before = 0
        """Application contexts that were open before ``signals`` begins."""
        self.renders: tuple[PendingRender, ...] = ()
        """Renders that began and did not end yet, the innermost last."""
        self.annotations: Mapping[str, Any] | None = None
        """What ``annotate()`` was given; replaced as a whole, since another thread of the request may read it."""

        # What the server was really given.
        self.status: int | None = None
        self.response_headers: list[tuple[str, str]] | None = None
        self.written_bytes = 0
        """Bytes of the body that went out through ``write()``, and the status with them."""
        self.response_size: int | None = None
        """Bytes of the response's body, as its Content-Length says or, streamed, as they were counted.
        None where HTTP sends none."""
        self.client_disconnected = False

        # What the tracing sink tells the others.
        self.trace_id: str | None = None
        self.span_id: str | None = None
        self.sampled = False

        # What the built-in sinks keep. An attribute of its own costs a third of a place in ``state``.
        self.span: Any = None
        """What stands for the server span, from the tracing sink."""
        self.audit_written = False
        """The audit sink has written the end of the request; the metrics sink, which comes after it, counts that."""
        self.context: Any = None
        """What of OpenTelemetry's is current in the request's code: it holds the span, which must not hold it."""
        self.active: Any = None
        """Among whom the metrics sink counts the request while it is open."""

        self.state: dict[str, Any] = {}
        """What a sink keeps for this request, under its name."""

    def __repr__(self) -> str:
        return f"<RequestRecord {self.method} {self.path or '?'} {self.status or ''}".rstrip() + f" {self.request_id}>"

    def describe(self) -> None:
        """Read from the environ what it says *now*: a ProxyFix inside the boundary may have changed it since."""
        self.reader(self)

    def told_details(self) -> Details:
        """Return what the environ says that spans alone tell; read when it is first asked for.

        Of a record that was not described yet that is nothing, as it is of the path.
        """
        details = self.details
        if details is None:
            if not self.path:
                return NO_DETAILS
            read = None if self.pipeline is None else self.pipeline.read_details(self)
            details = self.details = NO_DETAILS if read is None else read
        return details

    @property
    def server_address(self) -> str | None:
        """``server.address``: the host that was asked, IPv6 without brackets."""
        return self.told_details().server_address

    @property
    def server_port(self) -> int | None:
        """``server.port``: 80 or 443 by the scheme, where the client named none."""
        return self.told_details().server_port

    @property
    def peer_port(self) -> int | None:
        """``network.peer.port``."""
        return self.told_details().peer_port

    @property
    def protocol_version(self) -> str | None:
        """``network.protocol.version``."""
        return self.told_details().protocol_version

    @property
    def user_agent(self) -> str | None:
        """``user_agent.original``."""
        return self.told_details().user_agent

    @property
    def request_headers(self) -> dict[str, list[str]] | None:
        """Those of ``Config.capture_request_headers``, redacted."""
        return self.told_details().request_headers

    @property
    def error(self) -> BaseException | None:
        """The first error that nobody handled."""
        return self.errors[0] if self.errors else None

    @property
    def duration_seconds(self) -> float:
        """Seconds from the boundary's clock to the end of the body; 0.0 while the request is running."""
        return (self.duration_ns or 0) / 1e9

    @property
    def open_contexts(self) -> int:
        """Application contexts pushed and not popped while this record was current.

        A teardown function that raises keeps Flask 3.1 from sending appcontext_popped: what is left when the request is
        over is no longer counted.
        """
        signals = self.signals
        return self.contexts_before + signals.count("appcontext_pushed") - signals.count("appcontext_popped")

    def end(self, ended_ns: int) -> None:
        """Set the end; from here on no signal is about this request."""
        self.duration_ns = duration_ns = ended_ns - self.started_ns
        self.ended_unix_ns = self.started_unix_ns + duration_ns
        self.observed_app = None


current_record: ContextVar[RequestRecord | None] = ContextVar("flask_signal_observability.record", default=None)
"""The request that is being served here; set and reset by the boundary alone."""


record_here = current_record.get
"""Returns the request that is being served here. Bound once: a method of a built-in is made anew at every look."""
