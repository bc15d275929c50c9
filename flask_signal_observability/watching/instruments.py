"""What counts and measures a watched signal."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from numbers import Real
from typing import Any
from typing import TYPE_CHECKING

from ..catalogue import OTHER
from .fields import MISSING
from .fields import reader_of
from .fields import scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalogue import Metric
    from ..guard import Guard
    from ..metrics_store.family import Family
    from ..record import RequestRecord
    from ..sinks.metrics import MetricsSink
    from .keywords import Label
    from .settings import WatchSettings

    Payload = dict[str, Any]
    Child = Callable[[Payload], Any]

__all__ = ["Instruments"]

MAX_SERIES_AHEAD = 64
"""Series that are there before their first event, so that a rate can be taken of it; with more labels they come."""


class Instruments:
    """The families of one watch in one app's registry.

    Raises:
        ConfigurationError: Another metric has the name.
    """

    def __init__(self, settings: WatchSettings, sink: MetricsSink, guard: Guard, *, signal: str | None) -> None:
        self._guard = guard
        self._sink = sink
        self._labels = settings.labels
        self._signal = () if signal is None else (signal,)
        self._counter = None if settings.count is None else self._child_of(settings.count)
        self._histogram = None if settings.measure is None else self._child_of(settings.measure)
        self._measured = "" if settings.measure is None else settings.measure.name
        self._unit = 1 if settings.measure is None else self._sink.declare(settings.measure).unit

    def _child_of(self, metric: Metric) -> Child:
        """Return what finds the child for a payload."""
        sink, signal = self._sink, self._signal
        family: Family = sink.declare(metric)
        if math.prod(len(label.allowed) for label in self._labels) <= MAX_SERIES_AHEAD:
            for values in itertools.product(*(sorted(label.allowed) for label in self._labels)):
                sink.watched(family, *signal, *values)
        if not self._labels:
            child = sink.watched(family, *signal)
            return lambda _: child
        readers = [_label_reader(label, self._guard) for label in self._labels]
        known: dict[tuple[str, ...], Any] = {}

        def child_of(payload: Payload) -> Any:
            values = tuple([read(payload) for read in readers])
            child = known.get(values)
            if child is None:
                child = sink.watched(family, *signal, *values)
                if sink.knows(family, *signal, *values):  # what overflows is counted each time
                    known[values] = child
            return child

        return child_of

    def count(self, payload: Payload) -> None:
        """Count one signal."""
        if self._counter is not None:
            self._counter(payload).inc()

    def measure(self, value: Any, payload: Payload, record: RequestRecord | None, unix_ns: int) -> None:
        """Observe a number.

        Raises:
            ValueError: It is none from 0 up.
        """
        if self._histogram is not None:
            exemplar = None
            if record is not None and record.sampled and record.trace_id is not None and record.span_id is not None:
                exemplar = unix_ns, record.trace_id, record.span_id
            self._histogram(payload).observe(round(number(value, self._measured) * self._unit), exemplar)


def number(value: Any, of: str) -> int | float:
    """Return a number from 0 up that a sum can hold; ``of`` is what the error names.

    Raises:
        ValueError: It is none.
    """
    if type(value) is not int and type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
            what = "missing" if value is MISSING or value is None else f"no number, but {type(value).__name__}"
            raise ValueError(f"{of}: the value to measure is {what}")
        value = float(value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{of}: the value to measure is {value!r}: below 0, or no finite number")
    return value  # type: ignore[no-any-return]


def _label_reader(label: Label, guard: Guard) -> Callable[[Payload], str]:
    """Return what reads a label; one that cannot be read is ``_OTHER``, and counted."""
    read, name, allowed = reader_of(label.field), label.field, label.allowed

    def value_of(payload: Payload) -> str:
        value = read(payload)
        if value is MISSING or value is None:
            return ""
        plain = scalar(value)
        return str(plain) if plain is not MISSING and str(plain) in allowed else OTHER

    def plain_value_of(payload: Payload) -> str:
        value = payload.get(name)
        if type(value) is str:
            return value if value in allowed else OTHER
        text: str = guard.call("watch", "labels", value_of, payload, default=OTHER)
        return text

    return plain_value_of
