"""One watch in one app, compiled: what was not asked for is not computed, and nothing is raised."""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

from ..origin import request_of
from ..origin import user_of
from ..record import EventRecord
from ..redaction import MASK
from ..redaction import Redaction
from ..sinks.metrics import MetricsSink
from .fields import make_extract
from .fields import MISSING
from .fields import reader_of
from .fields import text_of
from .instruments import Instruments
from .instruments import number
from .settings import OF_THE_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..pipeline import Pipeline
    from ..record import RequestRecord
    from .pairing import Started
    from .settings import WatchSettings

    Payload = dict[str, Any]
    Told = tuple[object, Payload, RequestRecord | None]
    Text = Callable[[Told], str | None]

__all__ = ["make_telling"]

SINK = "watch"


def make_telling(settings: WatchSettings, pipeline: Pipeline, *, many: bool) -> Telling:
    """Return what tells one app's outputs of a signal.

    Raises:
        ConfigurationError: A metric has a name that is taken.
    """
    metrics = next((sink for sink in pipeline.sinks if isinstance(sink, MetricsSink)), None)
    instruments = None
    if metrics is not None and settings.metrics:
        instruments = Instruments(settings, metrics, signal=settings.name if many else None)
    return Telling(settings, pipeline, instruments)


class Telling:
    """Tells one app's outputs of a signal. Called on any thread, with anything."""

    def __init__(self, settings: WatchSettings, pipeline: Pipeline, instruments: Instruments | None) -> None:
        self._settings = settings
        self._call = pipeline.guard.call
        self._pipeline = pipeline
        self._app_name = pipeline.app_name
        self._name = settings.name
        self._when = settings.when
        self._instruments = instruments
        self._measures = instruments is not None and settings.measure is not None
        self._is_paired = settings.started is not None
        self._is_timed = settings.outputs.span is not None
        self._value = None if settings.value is None else _value_reader(settings.value)
        outputs = settings.outputs
        asked = (outputs.level, outputs.span_event, outputs.span, settings.audit)
        self._outputs = outputs if pipeline.has_more_sinks or any(each is not None for each in asked) else None
        redaction = Redaction((*pipeline.config.redact, *settings.redact))
        self._extract = make_extract(settings.fields, redaction, pipeline.guard)
        self._audit = None if settings.audit is None else _make_audit(settings, pipeline, redaction)

    def __call__(
        self, sender: object, payload: Payload, record: RequestRecord | None, started: Started | None = None
    ) -> None:
        """Tell of one signal; what fails is counted under ``watch``."""
        self._call(SINK, "tell", self._tell, sender, payload, record, started)

    def _tell(self, sender: object, payload: Payload, record: RequestRecord | None, started: Started | None) -> None:
        # The hot path: tests/benchmarks/watched.py measures it.
        call = self._call
        if self._when is not None and not call(SINK, "when", _decide, self._when, sender, payload, default=False):
            return
        unix_ns = time.time_ns()
        duration_ns = None if started is None else time.perf_counter_ns() - started.started_ns
        if self._is_paired and started is None:
            call(SINK, "pair", _no_start, self._name)
        value = None if duration_ns is None else duration_ns / 1e9
        if self._value is not None and (self._measures or self._is_timed):
            value = call(SINK, "value", self._value, sender, payload)
            if self._is_timed and started is None and value is not None:
                duration_ns = round(value * 1e9)
        if self._instruments is not None:
            call(SINK, "count", self._instruments.count, payload)
            if self._measures and value is not None:
                call(SINK, "measure", self._instruments.measure, value, payload, record, unix_ns)
        if self._outputs is not None:
            event = EventRecord(self._name, self._app_name, self._extract(payload), unix_ns, sender)
            event.outputs = self._outputs
            if duration_ns is not None:
                event.started_unix_ns, event.duration_ns = unix_ns - duration_ns, duration_ns
            if self._audit is not None:
                event.audit_text = call(SINK, "audit", self._audit, (sender, payload, record))
            self._pipeline.event(event, record)


def _no_start(name: str) -> None:
    raise LookupError(f"{name} announced an end of which nothing had announced the start: it has no span")


def _decide(when: Callable[[object, Payload], object], sender: object, payload: Payload) -> bool:
    return bool(when(sender, payload))


def _value_reader(value: str | Callable[[object, Payload], Any]) -> Callable[[object, Payload], int | float]:
    if isinstance(value, str):
        read = reader_of(value)
        return lambda _, payload: number(read(payload))
    return lambda sender, payload: number(value(sender, payload))


def _make_audit(settings: WatchSettings, pipeline: Pipeline, redaction: Redaction) -> Callable[[Told], str]:
    """Return what fills the template; a field that cannot be read costs itself, and is counted."""
    template = settings.audit
    assert template is not None
    call = pipeline.guard.call
    texts: list[tuple[str, Text]] = [(name, _text_reader(name, settings, pipeline, redaction)) for name in template.names]

    def fill(told: Told) -> str:
        return template.fill({name: call(SINK, "audit", text, told) for name, text in texts})

    return fill


def _text_reader(name: str, settings: WatchSettings, pipeline: Pipeline, redaction: Redaction) -> Text:
    if name in OF_THE_REQUEST:
        return {
            "user": lambda told: user_of(pipeline, told[2]) or "anonymous",
            "ip": partial(_of_request, pipeline, "client_address"),
            "path": partial(_of_request, pipeline, "path"),
            "sender": lambda told: text_of(told[0]),
            "signal": lambda _: settings.name,
        }[name]
    if redaction.hides(name):
        return lambda _: MASK
    read = reader_of(name)

    def text(told: Told) -> str | None:
        value = read(told[1])
        if value is MISSING:
            raise LookupError(f"the payload of {settings.name} has no {name}, which its audit template names")
        return text_of(redaction.mask_mapping({name: value})[name])

    return text


def _of_request(pipeline: Pipeline, attribute: str, told: Told) -> str | None:
    request = request_of(pipeline, told[2])
    return None if request is None else getattr(request, attribute)
