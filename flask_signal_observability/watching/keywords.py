"""The keywords of ``watch``, read one after the other; what is wrong is told with the name of its keyword."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from typing import Any
from typing import TYPE_CHECKING

import blinker

from ..catalogue import DURATION_BUCKETS_SECONDS
from ..catalogue import LOG_EVENTS
from ..catalogue import Metric
from ..catalogue import METRICS
from ..catalogue import RUNTIME_METRICS
from ..catalogue import SIZE_BUCKETS_BYTES
from ..errors import ConfigurationError
from ..metrics_store.family import MAX_AMOUNT
from ..metrics_store.family import scale_of
from ..record import Outputs
from ..settings import Boolean
from ..settings import Function
from ..settings import Kind
from ..settings import Labels
from ..settings import Level
from ..settings import Matching
from ..settings import Names
from ..settings import Printable
from .kinds import Buckets
from .kinds import Path
from .texts import OF_THE_REQUEST

if TYPE_CHECKING:
    from .settings import WatchSettings

__all__ = ["CALLABLE", "FIELDS", "KEYS", "Keywords", "Label"]

METRIC_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
"""Prometheus' data model; colons are for recording rules. https://prometheus.io/docs/concepts/data_model/"""

SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info")
"""What Prometheus' formats put behind the name of a family: none of its own may end so."""

BUCKETS = {"seconds": DURATION_BUCKETS_SECONDS, "bytes": SIZE_BUCKETS_BYTES}
SIGNAL_LABEL = "signal"


FIELDS = Names(Path())
KEYS = Names(Matching(r".+", "give names of keys, none of them empty"))
NAME = Printable()
CALLABLE = Function(arguments=2)


@dataclasses.dataclass(frozen=True)
class Label:
    """A label, the field that it is read from, and what it may be."""

    name: str
    field: str
    allowed: frozenset[str]


class Keywords:
    """Reads the keywords of one watch.

    Args:
        where: What the errors name before the keyword.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def wrong(self, key: str, value: object, remedy: str) -> ConfigurationError:
        """Return the error that names a keyword and its value."""
        return ConfigurationError(f"{self.where}: {key}={Kind.shown(Boolean(), value)}: {remedy}")

    def read(self, kind: Kind[Any], key: str, value: Any) -> Any:
        """Return what a kind makes of a value."""
        return kind.read(f"{self.where}: {key}", value)

    def optional(self, kind: Kind[Any], key: str, value: Any) -> Any:
        """Return what a kind makes of a value; None for None."""
        return None if value is None else self.read(kind, key, value)

    def signal(self, signal: Any, key: str) -> blinker.Signal:
        """Return a signal of Blinker's."""
        if isinstance(signal, blinker.Signal):
            return signal
        raise self.wrong(key, signal, "give a signal of Blinker's, such as Namespace().signal('order-paid')")

    def name(self, signal: blinker.Signal, name: Any) -> str:
        """Return what the events are called."""
        told = getattr(signal, "name", None) if name is None else name
        if told is None:
            raise self.wrong("name", None, "the signal has none: give one")
        if told in LOG_EVENTS:
            raise self.wrong("name", told, "a record of the package has this name: give another one")
        checked: str = self.read(NAME, "name", told)
        return checked

    def span(self, span: Any) -> blinker.Signal | None:
        """Return the signal that announces the start of a span, where there is one."""
        if span is True or span is False:
            return None
        if isinstance(span, blinker.Signal):
            return span
        raise self.wrong("span", span, "give True, or the signal that announces the start")

    def labels(self, labels: Any) -> tuple[Label, ...]:
        """Return the labels with the fields that they are read from."""
        if labels is None:
            return ()
        if not isinstance(labels, Mapping):
            raise self.wrong("labels", labels, "give a mapping of payload fields to their allowed values")
        for field in labels:
            self.read(Path(), "labels", field)
        names = {field: field.replace(".", "_") for field in labels}
        allowed = self.read(Labels(), "labels", {names[field]: values for field, values in labels.items()})
        if len(allowed) < len(labels) or SIGNAL_LABEL in allowed:
            raise self.wrong("labels", labels, f"two labels of one name, or one that is called {SIGNAL_LABEL!r}")
        return tuple(Label(names[field], field, frozenset(allowed[names[field]])) for field in labels)

    def counter(self, count: Any, name: str, labels: tuple[Label, ...], *, many: bool) -> Metric | None:
        """Return the metric of ``count``."""
        if count is None:
            return None
        stem = count.removesuffix("_total") if isinstance(count, str) else None
        if stem is None or stem == count:
            raise self.wrong("count", count, "give the name of a counter: it ends in _total")
        self._check_metric("count", count, stem)
        help_ = "Signals that were sent." if many else f"Signals {name} that were sent."
        return Metric(count, "counter", help_, _label_names(labels, many=many))

    def histogram(
        self, measure: Any, name: str, labels: tuple[Label, ...], buckets: Any, *, many: bool
    ) -> Metric | None:
        """Return the metric of ``measure``."""
        if measure is None:
            if buckets is not None:
                raise self.wrong("buckets", buckets, "there is nothing to measure: name the histogram with measure=")
            return None
        self._check_metric("measure", measure, measure)
        unit = measure.rpartition("_")[2]
        if buckets is None and unit not in BUCKETS:
            raise self.wrong("measure", measure, "end it in _seconds or _bytes, or give buckets= in the unit it has")
        bounds = BUCKETS[unit] if buckets is None else self.read(Buckets(), "buckets", buckets)
        scaled = [round(bound * scale_of(unit)) for bound in bounds]
        if scaled != sorted(set(scaled)) or scaled[0] < 1 or scaled[-1] > MAX_AMOUNT:
            raise self.wrong("buckets", buckets, f"they lie too near to each other, or beyond what {measure} can hold")
        help_ = "What the signals told." if many else f"What the signals {name} told."
        return Metric(measure, "histogram", help_, _label_names(labels, many=many), unit, bounds)

    def _check_metric(self, key: str, name: Any, stem: Any) -> None:
        if not isinstance(name, str) or not METRIC_NAME.fullmatch(stem):
            raise self.wrong(
                key, name, "give a name that Prometheus takes: letters, digits and _, no digit or __ first"
            )
        if stem.endswith(SUFFIXES):
            raise self.wrong(key, name, f"a name must not end in {' '.join(SUFFIXES)} (a counter in one _total)")
        if any(name == taken or stem == taken.removesuffix("_total") for taken in (*METRICS, *RUNTIME_METRICS)):
            raise self.wrong(key, name, "the package has a metric of this name: choose another one")

    def value(self, value: Any, measure: Any, *, duration_is_known: bool) -> Any:
        """Return where the number that is measured comes from."""
        if value is None:
            if measure is not None and not (duration_is_known and measure.endswith("_seconds")):
                raise self.wrong("measure", measure, "say with value= which field, or which callable, it is read from")
            return None
        if measure is None:
            raise self.wrong("value", value, "there is nothing to measure: name the histogram with measure=")
        return self.read(CALLABLE if callable(value) else Path(), "value", value)

    def outputs(self, name: str, span_event: Any, log: Any, *, is_span: bool, is_audited: bool) -> Outputs:
        """Return what the sinks are to make of an event."""
        if span_event in (None, False):
            event = None
        else:
            event = name if span_event is True else self.read(NAME, "span_event", span_event)
        level: str | None = self.optional(Level(), "log", log)
        rank: int = 0 if level is None else getattr(logging, level)
        told_level = None if level is None else level.lower()
        return Outputs(told_level, rank, event, name if is_span else None, is_audited, name)

    def agrees(self, settings: WatchSettings, *, span: Any, told_anyhow: bool) -> None:
        """Refuse what is fine by itself and cannot work together."""
        outputs, fields, audit = settings.outputs, settings.fields, settings.audit
        if settings.started is settings.signal:
            raise self.wrong("span", span, "the signal that announces the start is another one than that of the end")
        if span is True and (settings.measure is None or settings.measure.unit != "seconds"):
            raise self.wrong(
                "span",
                span,
                "give the signal that announces the start, or measure= in _seconds, which then is its length",
            )
        if settings.labels and not settings.metrics:
            raise self.wrong("labels", [label.name for label in settings.labels], "there is no count= or measure=")
        if fields is not None and audit is not None:
            let_out = (*fields, *OF_THE_REQUEST)
            unknown = [name for name in audit.names if not f"{name}.".startswith(tuple(f"{f}." for f in let_out))]
            if unknown:
                raise self.wrong("audit", audit.text, f"fields= does not let out {', '.join(unknown)}: add it there")
        asked = (settings.metrics, outputs.level, outputs.span_event, outputs.span, audit, told_anyhow)
        if not any(asked):
            raise ConfigurationError(
                f"{self.where}: nothing is to become of the signal: "
                "give count=, measure=, span_event=, span=, log= or audit="
            )


def _label_names(labels: tuple[Label, ...], *, many: bool) -> tuple[str, ...]:
    return ("flask_app", *((SIGNAL_LABEL,) if many else ()), *(label.name for label in labels))
