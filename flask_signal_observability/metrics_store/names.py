"""The names that a metric which comes later takes in the registry of its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ..catalogue import Metric
    from .store import MetricsStore

__all__ = ["take_names"]


def take_names(metric: Metric, store: MetricsStore, registry: CollectorRegistry) -> None:
    """Give a store that is registered the names of one more metric, if no other collector has one of them.

    In one step, for ``name[]`` and for the next that looks for a name that is free: a store that were unregistered for
    a moment would be missing from a scrape of that moment.

    Raises:
        ConfigurationError: One has.
    """
    store.described = [metric]
    try:
        registry.register(store)  # which adds what is described to the names that it has
    except ValueError as error:
        raise ConfigurationError(
            f"{metric.name!r} cannot be made: {error}. Choose another name, or remove what has it."
        ) from error
    finally:
        store.described = None
