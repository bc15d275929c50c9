"""What was counted between two moments: the difference of two readings of a registry."""

from __future__ import annotations

import difflib
from typing import NamedTuple
from typing import TYPE_CHECKING
from typing import TypeAlias

from ..exposition import collectors_of
from ..metrics_store.runtime import is_of_one_process
from ..metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

__all__ = ["Known", "Reading", "Sample", "check_known", "total"]

Known: TypeAlias = "dict[str, frozenset[str] | None]"
"""The names of samples, and of each the names of its labels; None where nobody has said them yet."""


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
        self.known: Known = {}
        """What can be asked for, whether there is a series of it or not."""
        for collector in () if registry is None else collectors_of(registry, None):
            if isinstance(collector, MetricsStore):
                self.known.update(_declared(collector))
            for family in () if is_of_one_process(collector) else collector.collect():
                for suffix in SUFFIXES.get(family.type, ("",)):
                    self.known.setdefault(family.name + suffix, None)
                for sample in family.samples:
                    self.known[sample.name] = (self.known.get(sample.name) or frozenset()) | sample.labels.keys()
                    self._values[sample.name, frozenset(sample.labels.items())] = sample.value

    def since(self, before: Reading) -> list[Sample]:
        """Return the series that have changed."""
        return [
            Sample(name, dict(labels), value - before._values.get((name, labels), 0.0))
            for (name, labels), value in self._values.items()
            if value != before._values.get((name, labels), 0.0)
        ]


SUFFIXES = {"counter": ("_total",), "histogram": ("_count", "_sum", "_bucket"), "summary": ("_count", "_sum")}


def _declared(store: MetricsStore) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the samples of our families, which have their labels before they have a series."""
    for family in store.families.values():
        if family.bounds:
            yield f"{family.name}_bucket", frozenset((*family.labels, "le"))
        for suffix in ("_count", "_sum") if family.bounds else ("",):
            yield family.name + suffix, frozenset(family.labels)


def check_known(known: Known, name: str, labels: Mapping[str, object]) -> None:
    """Tell a name that is misspelt from a number that is 0.

    Raises:
        LookupError: There is no metric of this name, or it does not have one of these labels.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        raise LookupError(f"there is no metric {name!r}; {'near it: ' + ', '.join(near) if near else 'none near it'}")
    own = known[name]
    if own is not None and not labels.keys() <= own:
        others = ", ".join(sorted(labels.keys() - own))
        raise LookupError(f"the metric {name!r} has no label {others}; it has {', '.join(sorted(own)) or 'none'}")


def total(samples: Iterable[Sample], name: str, labels: Mapping[str, object]) -> float:
    """Add up the samples of this name that have these labels, and any others."""
    wanted = {key: str(value) for key, value in labels.items()}.items()
    return sum(sample.value for sample in samples if sample.name == name and wanted <= sample.labels.items())
