"""One watch in one app, compiled: what was not asked for is not computed, and nothing is raised."""

from __future__ import annotations

import time
from typing import Any
from typing import TYPE_CHECKING

from ..record import EventRecord
from ..redaction import Redaction
from ..sinks.metrics import MetricsSink
from .fields import make_extract
from .fields import reader_of
from .instruments import Instruments
from .instruments import number
from .texts import make_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..pipeline import Pipeline
    from ..record import RequestRecord
    from .pairing import Started
    from .settings import WatchSettings

    Payload = dict[str, Any]
    Tell = Callable[[object, Payload, RequestRecord | None, Started | None], None]
    Emit = Callable[[object, Payload, RequestRecord | None, int, int | None], None]

__all__ = ["SINK", "make_tell"]

SINK = "watch"


def make_tell(settings: WatchSettings, pipeline: Pipeline, *, many: bool) -> Tell:  # noqa: C901 - one closure
    """Return what tells one app's outputs of a signal: called on any thread, with anything.

    Raises:
        ConfigurationError: A metric has a name that is taken.
    """
    guard = pipeline.guard
    call = guard.call
    instruments = _instruments(settings, pipeline, many=many)
    count = None
    if instruments is not None and settings.count is not None:
        count = guard.kept(SINK, "count", instruments.count)
    measure = None if instruments is None or settings.measure is None else instruments.measure
    emit = _make_emit(settings, pipeline)
    when = settings.when
    is_paired = settings.started is not None
    is_timed = settings.outputs.span is not None
    read = None
    if settings.value is not None and (measure is not None or is_timed):
        read = _value_reader(settings.value, settings.name)

    def tell(sender: object, payload: Payload, record: RequestRecord | None, started: Started | None) -> None:
        # The hot path: tests/benchmarks/watched.py measures it.
        if when is not None and not call(SINK, "when", _decide, when, sender, payload, default=False):
            return
        unix_ns = time.time_ns()
        if count is not None:
            count(payload)
        value = duration_ns = None
        if started is not None:
            duration_ns = time.perf_counter_ns() - started.started_ns
            value = duration_ns / 1e9
        elif is_paired:
            call(SINK, "pair", _no_start, settings.name)
        if read is not None:
            value = call(SINK, "value", read, sender, payload)
            if is_timed and not is_paired and value is not None:
                duration_ns = round(value * 1e9)
        if measure is not None and value is not None:
            call(SINK, "measure", measure, value, payload, record, unix_ns)
        if emit is not None:
            emit(sender, payload, record, unix_ns, duration_ns)

    return guard.kept(SINK, "tell", tell)


def _instruments(settings: WatchSettings, pipeline: Pipeline, *, many: bool) -> Instruments | None:
    for sink in pipeline.sinks if settings.metrics else ():
        if isinstance(sink, MetricsSink):
            return Instruments(settings, sink, pipeline.guard, signal=settings.name if many else None)
    return None


def _make_emit(settings: WatchSettings, pipeline: Pipeline) -> Emit | None:
    """Return what hands an event to the sinks that want it; None where there are none."""
    outputs = settings.outputs
    tellers = pipeline.tellers(outputs)
    if not tellers:
        return None
    guard = pipeline.guard
    call, each = guard.call, guard.each
    name, app_name = settings.name, pipeline.app_name
    redaction = Redaction((*pipeline.config.redact, *settings.redact))
    extract = make_extract(settings.fields, redaction, guard)
    text = None if settings.audit is None else make_text(settings.audit, settings.name, pipeline, redaction)

    def emit(
        sender: object, payload: Payload, record: RequestRecord | None, unix_ns: int, duration_ns: int | None
    ) -> None:
        fields = extract(payload)
        audit_text = None if text is None else call(SINK, "audit", text, fields, sender, payload, record)
        started_unix_ns = None if duration_ns is None else unix_ns - duration_ns
        event = EventRecord(
            name, app_name, fields, unix_ns, sender, started_unix_ns, duration_ns, None, outputs, audit_text
        )
        each("event", tellers, event, record)

    return emit


def _decide(when: Callable[[object, Payload], object], sender: object, payload: Payload) -> bool:
    return bool(when(sender, payload))


def _no_start(name: str) -> None:
    raise LookupError(f"{name} announced an end of which nothing had announced the start: it has no span")


def _value_reader(value: str | Callable[[object, Payload], Any], name: str) -> Callable[[object, Payload], int | float]:
    if isinstance(value, str):
        read, of = reader_of(value), f"{name}, value={value!r}"
        return lambda _, payload: number(read(payload), of)
    return lambda sender, payload: number(value(sender, payload), name)
