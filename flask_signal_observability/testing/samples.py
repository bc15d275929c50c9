"""What was counted between two moments: the difference of two readings of a registry."""

from __future__ import annotations

from typing import NamedTuple
from typing import TYPE_CHECKING

from ..exposition import collectors_of
from ..metrics_store.runtime import is_of_one_process

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

__all__ = ["Reading", "Sample", "total"]


class Sample(NamedTuple):
    """By how much one series has changed."""

    name: str
    labels: dict[str, str]
    value: float


class Reading:
    """The values of all series in a registry, but for the process's and the garbage collector's own.

    Args:
        registry: is read at once; None: there is nothing.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.names: set[str] = set()
        """What can be asked for, whether there is a series of it or not."""
        for collector in () if registry is None else collectors_of(registry, None):
            for family in () if is_of_one_process(collector) else collector.collect():
                self.names |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
                for sample in family.samples:
                    self.names.add(sample.name)
                    self._values[sample.name, frozenset(sample.labels.items())] = sample.value

    def since(self, before: Reading) -> list[Sample]:
        """Return the series that have changed."""
        return [
            Sample(name, dict(labels), value - before._values.get((name, labels), 0.0))
            for (name, labels), value in self._values.items()
            if value != before._values.get((name, labels), 0.0)
        ]


SUFFIXES = {"counter": ("_total",), "histogram": ("_count", "_sum", "_bucket"), "summary": ("_count", "_sum")}


def total(samples: Iterable[Sample], name: str, labels: Mapping[str, object]) -> float:
    """Add up the samples of this name that have these labels, and any others."""
    wanted = {key: str(value) for key, value in labels.items()}.items()
    return sum(sample.value for sample in samples if sample.name == name and wanted <= sample.labels.items())
