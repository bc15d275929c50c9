"""Whether a name is free in a registry, before a family that comes later takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Metric as MetricFamily
from prometheus_client.registry import Collector

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ..catalogue import Metric

__all__ = ["check_names"]


class _Names(Collector):
    """A metric's names, and nothing else."""

    def __init__(self, metric: Metric) -> None:
        name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        self._family = MetricFamily(name, metric.help, metric.kind)

    def describe(self) -> list[MetricFamily]:
        return [self._family]

    def collect(self) -> list[MetricFamily]:
        return []


def check_names(metric: Metric, registry: CollectorRegistry) -> None:
    """See that no other collector has one of the names that this metric's samples take.

    Raises:
        ConfigurationError: One has.
    """
    names = _Names(metric)
    try:
        registry.register(names)
    except ValueError as error:
        raise ConfigurationError(
            f"{metric.name!r} cannot be made: {error}. Choose another name, or remove what has it."
        ) from error
    registry.unregister(names)
