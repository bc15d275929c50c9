"""``flask_signals_total``: requests send the same few sequences of signals, so sequences are what is counted.

A sequence is one cell, whatever its length; a scrape takes them apart. Others, sent outside of requests or in ever new
sequences, are sequences of one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..catalogue import METRICS
from ..catalogue import SIGNALS
from ..metrics_store.family import Family

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from ..metrics_store.family import Cell
    from ..metrics_store.family import Row
    from ..metrics_store.store import MetricsStore

__all__ = ["MAX_SEQUENCES", "SIGNALS_SENT", "AppSignals", "SignalCounts"]

SIGNALS_SENT = "flask_signals_total"

MAX_SEQUENCES = 256
"""A view that flashes or renders in a loop makes ever new sequences; beyond these each signal is counted by itself."""

MAX_SHARED_SEQUENCES = 4 * MAX_SEQUENCES
"""Of all apps, and with those that ended processes have left."""


class AppSignals:
    """One app's signals. Safe to use from several threads."""

    def __init__(self, family: Family, app_name: str) -> None:
        self._family = family
        self._app_name = app_name
        self._sequences: dict[tuple[str, ...], Cell] = {}
        # All ten are there from the start, so that a rate can be taken of the first one sent.
        self.nothing: Cell = family.child(app_name, "")
        """What is counted here are no signals."""
        self._sequences[()] = self.nothing

    def sequence(self, signals: tuple[str, ...]) -> Cell | None:
        """Return the cell of a sequence, or None where there is no more room for it."""
        cell = self._sequences.get(signals)
        if cell is None and (len(signals) == 1 or self._has_room(signals)):
            cell = self._sequences[signals] = self._family.child(self._app_name, " ".join(signals))
        return cell

    def _has_room(self, signals: tuple[str, ...]) -> bool:
        labels = self._app_name, " ".join(signals)
        return len(self._sequences) < MAX_SEQUENCES and self._family.has_room(labels, MAX_SHARED_SEQUENCES)

    def add(self, signals: Iterable[str]) -> None:
        """Count the signals of a request, or one that was sent outside of any."""
        sequence = tuple(signals)
        cell = self.sequence(sequence)
        if cell is not None:
            cell.inc()
        else:
            for signal, times in Counter(sequence).items():
                self._family.child(self._app_name, signal).inc(times)


class SignalCounts:
    """The family in one store, for all its apps."""

    def __init__(self, store: MetricsStore) -> None:
        self._family = Family(METRICS[SIGNALS_SENT], store, derive=taken_apart)
        self._apps: dict[str, AppSignals] = {}

    def of(self, app_name: str) -> AppSignals:
        """Return the counts of the apps of this name."""
        return self._apps.setdefault(app_name, AppSignals(self._family, app_name))


def taken_apart(rows: list[Row], counted: Callable[[str], list[Row]]) -> list[Row]:
    """Return how often each of the ten was sent, by app, from how often each sequence was."""
    apps: dict[str, Counter[str]] = {}
    for (app_name, sequence), times in rows:
        totals = apps.setdefault(app_name, Counter())
        for signal in sequence.split():
            totals[signal] += times
    return [((app_name, signal), totals[signal]) for app_name, totals in apps.items() for signal in SIGNALS]
