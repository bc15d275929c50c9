"""Every signal that concerns an app: who listens, and what becomes of it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any
from typing import Literal
from typing import TYPE_CHECKING

import flask.signals

from ..catalogue import SIGNALS
from ..signals import event_bus
from ..teardowns import told_here
from ..watching.watch import Watches

if TYPE_CHECKING:
    from collections.abc import Iterator

    import blinker

    from ..pipeline import Pipeline
    from ..watching.watch import Watch

__all__ = ["OUTPUTS", "ObservedSignal", "signals_of"]

PACKAGE = __name__.partition(".")[0]

OUTPUTS: dict[str, tuple[tuple[str, str], ...]] = {
    "request_started": (
        ("tracing", "the span gets its route and name"),
        ("logs", "record request_started (debug)"),
    ),
    "request_finished": (("tracing", "span attribute user.id"), ("logs", "user.id of the record request_finished")),
    "got_request_exception": (
        ("tracing", "span event exception, status ERROR"),
        ("metrics", "flask_exceptions_total"),
        ("logs", "record exception (error)"),
        ("audit", "line of the error journal"),
    ),
    "before_render_template": (("tracing", "the start of the render's span"),),
    "template_rendered": (
        ("tracing", "child span of the render"),
        ("metrics", "flask_template_render_duration_seconds"),
        ("logs", "record template_rendered (debug)"),
    ),
    "message_flashed": (
        ("tracing", "span event message_flashed"),
        ("metrics", "flask_messages_flashed_total"),
        ("logs", "record message_flashed (debug)"),
    ),
    "request_tearing_down": (),
    "appcontext_tearing_down": (),
    "appcontext_pushed": (("metrics", "flask_app_contexts_active"),),
    "appcontext_popped": (("metrics", "flask_app_contexts_active"),),
}
"""What each of Flask's signals becomes, by sink, besides being counted."""

COUNTED = ("metrics", "flask_signals_total")
OWN = {"access-event": (("audit", "line of the audit file"),)}


@dataclasses.dataclass(frozen=True)
class ObservedSignal:
    """One signal, as it concerns one app."""

    name: str
    kind: Literal["flask", "package", "watched", "unwatched"]
    """``unwatched``: of ``event_bus``, and nobody asked for anything."""
    is_observed: bool
    """Whether this package listens."""
    outputs: tuple[str, ...]
    """What becomes of it."""
    listeners: tuple[str, ...]
    """Module and name of whoever else is called when the app sends it."""
    listeners_to_others: int
    """How many receivers more wait for another sender."""


def signals_of(pipeline: Pipeline) -> list[ObservedSignal]:
    """Return Flask's signals, the watched ones, and those of ``event_bus``, in this order."""
    found = [_flask_signal(name, pipeline) for name in sorted(SIGNALS)]
    watches = _watches_of(pipeline)
    found += [_watched(watch, pipeline) for watch in watches]
    known = {watch.settings.signal for watch in watches}
    found += [_of_event_bus(signal, pipeline) for signal in event_bus.values() if signal not in known]
    return found


def _flask_signal(name: str, pipeline: Pipeline) -> ObservedSignal:
    signal = getattr(flask.signals, name)
    sinks = {getattr(sink, "name", "") for sink in pipeline.sinks}
    is_observed = _is_received(signal, pipeline) or told_here(pipeline.app, name)
    outputs = [text for sink, text in (*OUTPUTS[name], COUNTED) if sink in sinks] if is_observed else []
    return _told(signal, name, "flask", outputs, pipeline, is_observed=is_observed)


def _watches_of(pipeline: Pipeline) -> list[Watch]:
    return [
        watch
        for watches in pipeline.kept
        if isinstance(watches, Watches)
        for watch in watches.all()
        if watch.key in pipeline.watched
    ]


def _watched(watch: Watch, pipeline: Pipeline) -> ObservedSignal:
    signal = watch.settings.signal
    outputs = [*_outputs_of(watch), *(_own_outputs(signal, pipeline) or ())]
    return _told(signal, watch.name, "watched", outputs, pipeline, is_observed=True)


def _outputs_of(watch: Watch) -> Iterator[str]:
    settings, outputs = watch.settings, watch.settings.outputs
    for metric in settings.metrics:
        labels = ", ".join(label for label in metric.labels if label != "flask_app")
        yield f"{metric.kind} {metric.name}" + (f" by {labels}" if labels else "")
    if outputs.span_event is not None:
        yield f"span event {outputs.span_event}"
    if outputs.span is not None:
        yield f"child span {outputs.span}"
    if outputs.level is not None:
        yield f"record {watch.name} ({outputs.level})"
    if settings.audit is not None:
        yield f"audit line {settings.audit.text!r}"


def _of_event_bus(signal: blinker.NamedSignal, pipeline: Pipeline) -> ObservedSignal:
    own = _own_outputs(signal, pipeline)
    kind: Literal["unwatched", "package"] = "unwatched" if own is None else "package"
    return _told(signal, signal.name, kind, own or [], pipeline, is_observed=_is_received(signal, pipeline))


def _own_outputs(signal: blinker.Signal, pipeline: Pipeline) -> list[str] | None:
    """Return what becomes of a signal of the package's own without a watch; None where it is none of these."""
    name = getattr(signal, "name", None)
    if name not in OWN or signal is not event_bus.get(name):
        return None
    sinks = {getattr(sink, "name", "") for sink in pipeline.sinks}
    return [text for sink, text in OWN[name] if sink in sinks]


def _told(
    signal: blinker.Signal,
    name: str,
    kind: Literal["flask", "package", "watched", "unwatched"],
    outputs: list[str],
    pipeline: Pipeline,
    *,
    is_observed: bool,
) -> ObservedSignal:
    receivers = list(signal.receivers_for(pipeline.app))
    return ObservedSignal(
        name,
        kind,
        is_observed,
        tuple(outputs),
        tuple(sorted(_name_of(receiver) for receiver in receivers if not _is_ours(receiver))),
        len(signal.receivers) - len(receivers),
    )


def _is_received(signal: blinker.Signal, pipeline: Pipeline) -> bool:
    return any(_is_ours(receiver) for receiver in signal.receivers_for(pipeline.app))


def _is_ours(receiver: Any) -> bool:
    return str(getattr(receiver, "__module__", "")).partition(".")[0] == PACKAGE


def _name_of(receiver: Any) -> str:
    while isinstance(receiver, partial):
        receiver = receiver.func
    named = receiver if hasattr(receiver, "__qualname__") else type(receiver)
    return f"{named.__module__}.{named.__qualname__}"
