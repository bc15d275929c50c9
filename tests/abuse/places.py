"""Every place at which somebody else's code is called, and how a fault gets there."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any
from typing import TYPE_CHECKING

from blinker import Namespace
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.trace.sampling import Sampler

from flask_signal_observability import Sink

if TYPE_CHECKING:
    from ..conftest import Observed
    from .site import Site

STAGES = ("open", "attach", "detach", "start", "event", "signal", "context", "finish", "abandon")


class Trap:
    """Stands before code of somebody else's, and runs a fault in its place while it is set."""

    def __init__(self) -> None:
        self.fault: Callable[[], Any] | None = None

    def __call__(self, real: Any = None) -> Any:
        """Return what ``real`` returns; without one, None."""
        if self.fault is not None:
            return self.fault()
        return None if real is None else real()


Settings = Callable[[Trap], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the fault is, and under which sink and stages it is counted."""

    name: str
    sink: str
    stages: tuple[str, ...]
    """Empty where somebody else tells it: the SDK catches what an exporter raises."""
    settings: Settings = lambda trap: {}
    install: Callable[[Trap, Observed, Site], object] = lambda trap, observed, site: None
    value: Callable[[Trap, Site], None] | None = None
    """Lets the views hand the value over: nothing of it is called here, so nothing raises where it is made."""
    is_ignored: bool = False
    """What it returns is looked at by nobody."""

    def __str__(self) -> str:
        return self.name


def stage(name: str) -> Place:
    """A stage of a sink of one's own."""

    def settings(trap: Trap) -> dict[str, Any]:
        sink = type("Mine", (Sink,), {"name": "mine", name: lambda self, *_: trap()})()
        return {"sinks": [sink]}

    return Place(f"stage {name}", "mine", (name,), settings, is_ignored=True)


def teller(trap: Trap) -> dict[str, Any]:
    members = {"name": "mine", "event": lambda self, *_: None, "teller": lambda self, _: lambda *_: trap()}
    return {"sinks": [type("Mine", (Sink,), members)()]}


def watch(**options: Callable[[Trap], Any]) -> Callable[[Trap, Observed, Site], object]:
    def install(trap: Trap, observed: Observed, site: Site) -> object:
        made = {key: option(trap) for key, option in options.items()}
        return observed.observability.watch(site.paid, **{"span_event": True, "log": "info", **made})

    return install


class Stream(io.StringIO):
    """A log stream."""

    def __init__(self, trap: Trap, method: str) -> None:
        super().__init__()
        self._trap, self._method = trap, method

    def write(self, text: str) -> int:
        if self._method == "write":
            self._trap()
        return super().write(text)

    def flush(self) -> None:
        if self._method == "flush" and not self.closed:
            self._trap()


class TrappedSampler(Sampler):
    """Asks the trap first."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap

    def should_sample(self, *arguments: Any, **keywords: Any) -> Any:
        return self._trap(lambda: ALWAYS_ON.should_sample(*arguments, **keywords))

    def get_description(self) -> str:
        return "trapped"


class TrappedIds(RandomIdGenerator):
    """Asks the trap for one of both ids."""

    def __init__(self, trap: Trap, which: str) -> None:
        self._trap, self._which = trap, which

    def generate_trace_id(self) -> Any:
        own = super().generate_trace_id
        return self._trap(own) if self._which == "trace" else own()

    def generate_span_id(self) -> Any:
        own = super().generate_span_id
        return self._trap(own) if self._which == "span" else own()


def processor(method: str) -> Callable[[Trap, Observed, Site], object]:
    def install(trap: Trap, observed: Observed, site: Site) -> object:
        trapped = type("Trapped", (SpanProcessor,), {method: lambda self, *_, **__: trap()})()
        return observed.provider.add_span_processor(trapped)

    return install


def exporter(trap: Trap, observed: Observed, site: Site) -> None:
    def export(self: object, spans: object) -> Any:
        return trap(lambda: SpanExportResult.SUCCESS)

    trapped = type("Trapped", (SpanExporter,), {"export": export})()
    observed.provider.add_span_processor(SimpleSpanProcessor(trapped))


def collector(trap: Trap, observed: Observed, site: Site) -> None:
    """A collector of the app's own; it is read at a scrape, which the matrix makes after each request."""
    trapped = type("Trapped", (), {"collect": lambda self: trap(list), "describe": lambda self: []})()
    observed.registry.register(trapped)


class TrappedPropagator(TextMapPropagator):
    """Asks the trap before it reads the headers."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        return self._trap(lambda: context or Context())

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        pass

    @property
    def fields(self) -> set[str]:
        return set()


def propagator(trap: Trap, observed: Observed, site: Site) -> None:
    """The process has one: whoever installs this puts back what was there."""
    propagate.set_global_textmap(TrappedPropagator(trap))


def payload(key: str) -> Callable[[Trap, Site], None]:
    def hand_over(trap: Trap, site: Site) -> None:
        site.payload = lambda: {"amount": 3, "currency": "EUR", key: trap(lambda: 3)}

    return hand_over


def sender(trap: Trap, site: Site) -> None:
    site.sender = lambda: trap(lambda: "till")


def error(trap: Trap, site: Site) -> None:
    """The error of a view: what it is made of."""
    site.error = lambda: Exception(trap(lambda: 1))


def watch_all(observed: Observed, site: Site) -> None:
    """Let everything look at what is sent."""
    watched = observed.observability
    watched.watch(
        site.paid,
        count="paid_total",
        labels={"currency": ("EUR", "3")},
        measure="paid_amount",
        value="amount",
        buckets=(1, 2),
        span_event=True,
        log="info",
        audit="{user} {sender} {amount} {deep.id}",
        fields=("amount", "currency", "deep.id", "token"),
    )
    watched.watch(site.paid, name="other", span_event=True, log="info")
    watched.watch(site.paid, name="paying", span=site.began)
    watched.watch_namespace(Namespace({"paid": site.paid}), count="signals_total", log="info")


def watch_a_namespace(trap: Trap, observed: Observed, site: Site) -> None:
    observed.observability.watch_namespace(
        Namespace({"paid": site.paid}),
        count="signals_total",
        measure="signals_amount",
        buckets=(1, 2),
        value=lambda *_: trap(lambda: 1),
    )


ENDING = ("finish", "event", "abandon")
IN_REQUEST = ("open", "attach", "start", "event", "finish", "detach", "abandon")

PLACES = [
    *map(stage, STAGES),
    Place("teller of a watched event", "mine", ("event",), teller, watch(), is_ignored=True),
    Place("user", "identity", ("user",), lambda trap: {"user": lambda: trap(lambda: "alice")}),
    Place("watch when", "watch", ("when",), install=watch(when=lambda trap: lambda *_: trap(lambda: True))),
    Place(
        "watch value",
        "watch",
        ("value", "measure"),
        install=watch(
            measure=lambda _: "paid_amount",
            buckets=lambda _: (1, 2),
            value=lambda trap: lambda *_: trap(lambda: 1),
        ),
    ),
    Place("watch value of a namespace", "watch", ("value", "measure"), install=watch_a_namespace),
    Place(
        "log stream write",
        "logs",
        IN_REQUEST,
        lambda trap: {"log_stream": Stream(trap, "write")},
        watch(),
        is_ignored=True,
    ),
    Place(
        "log stream flush",
        "logs",
        IN_REQUEST,
        lambda trap: {"log_stream": Stream(trap, "flush")},
        watch(),
        is_ignored=True,
    ),
    Place(
        "sampler",
        "tracing",
        ("begin", "event", *IN_REQUEST),
        lambda trap: {"provider_options": {"sampler": TrappedSampler(trap)}},
    ),
    *(
        Place(
            f"{which} id generator",
            "tracing",
            ("begin", *IN_REQUEST),
            lambda trap, which=which: {"provider_options": {"id_generator": TrappedIds(trap, which)}},
        )
        for which in ("trace", "span")
    ),
    Place("span processor on_start", "tracing", ("begin", "event"), install=processor("on_start"), is_ignored=True),
    *(
        Place(f"span processor {ending}", "tracing", ENDING, install=processor(ending), is_ignored=True)
        for ending in ("on_end", "_on_ending")
        if hasattr(SpanProcessor, ending)
    ),
    Place("exporter", "tracing", (), install=exporter),
    Place("collector", "metrics", ("collect", "encode"), install=collector),
    Place("propagator", "tracing", ("extract",), install=propagator),
    Place("error of a view", "tracing", (), value=error),
    *(Place(f"payload {key}", "watch", (), value=payload(key)) for key in ("amount", "currency", "deep", "token")),
    Place("sender", "watch", (), value=sender),
]
"""Files, the access rule of the metrics and what is pushed have tests of their own."""
