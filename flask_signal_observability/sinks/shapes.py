"""Where a finished request is counted: found once for each kind of request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..catalogue import OTHER
from .families import BODY_SIZE
from .families import DURATION
from .in_flight import scheme_of
from .in_flight import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..config import Config
    from ..metrics_store.family import Histogram
    from ..record import RequestRecord
    from .families import Families
    from .signal_counts import AppSignals
    from .vocabulary import Vocabulary

    Shape = tuple[int, int, int, int, int, int, tuple[int, ...], tuple[int, ...]]
    """Where a finished request is counted: the cells of its signals, of its duration's buckets and sum, the slots of
    their exemplars, the cells of its body's size, and the bounds of both. Eight attributes take thrice as long."""

__all__ = ["Shapes"]

STATUSES = range(100, 600)

MAX_SHAPES = 20_000
"""Kinds of finished requests that are kept; there may be 256 sequences of signals for each series."""


class Shapes:
    """The shapes of one app's requests, by what a record holds, so that nothing is turned into label text twice."""

    def __init__(
        self, config: Config, app_name: str, families: Families, routes: Vocabulary, error_types: Vocabulary
    ) -> None:
        self._app_name = app_name
        self._max_series = config.max_series
        self._allowed = {name: frozenset(values) for name, values in sorted(config.metric_labels.items())}
        self._duration = families[DURATION]
        self._body_size = families[BODY_SIZE]
        self._signals: AppSignals = families.signals.of(app_name)
        self._routes = routes
        self._error_types = error_types
        self.known: dict[Hashable, Shape] = {}

    def make(self, record: RequestRecord, key: Hashable) -> Shape:
        """Return the shape of this kind of requests, kept under its key where it may be."""
        route, error_type = record.route or "", record.error_type or ""
        status = "" if record.status is None else str(record.status) if record.status in STATUSES else OTHER
        common = (
            self._app_name,
            record.method,
            scheme_of(record.scheme),
            self._routes.admit(route, self._duration),
            status,
        )
        type_label = self._error_types.admit(error_type, self._duration)
        extra = tuple(self._annotated(record, name) for name in self._allowed)
        signals = self._signals.sequence(tuple(record.signals))
        duration: Histogram = self._duration.child(*common, type_label, *extra, max_series=self._max_series)
        size: Histogram = self._body_size.child(*common, max_series=self._max_series)
        shape = (
            *((signals or self._signals.nothing).index, duration.index, duration.sum_index, duration.slot_at(0)),
            *(size.index, size.sum_index, duration.bounds, size.bounds),
        )
        if signals is None:
            self._signals.add(record.signals)
        known = self._duration.knows(*common, type_label, *extra) and self._body_size.knows(*common) and signals
        same = common[3] == route and type_label == error_type and record.scheme in SCHEMES and not extra
        if known and same and len(self.known) < MAX_SHAPES:
            # What overflowed is not kept: there may be no end of it. Nor is a scheme, which a proxy's header may give.
            self.known[key] = shape
        return shape

    def _annotated(self, record: RequestRecord, name: str) -> str:
        value = (record.annotations or {}).get(name)
        if value is None:
            return ""
        text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else OTHER
        return text if text in self._allowed[name] else OTHER
