"""What a worker tells the process at the metrics port: where its app's numbers are, and who may read them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import TYPE_CHECKING

from prometheus_client import GCCollector
from prometheus_client import PlatformCollector
from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from ..catalogue import Metric
from ..catalogue import METRICS
from ..exposition import collectors_of
from ..metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..pipeline import Pipeline

__all__ = ["STANDARD", "Offer", "offer_of", "read", "written"]

STANDARD = {kind.__name__: kind for kind in (GCCollector, PlatformCollector, ProcessCollector)}
"""The collectors that every registry of prometheus-client's begins with."""


@dataclass(frozen=True)
class Offer:
    """One app's metrics and their rule, as JSON can hold them."""

    port: int
    access: str | None
    """``metrics_access``; None for a function, which no other process has."""
    app_name: str
    context_signals: bool
    path: str
    """The directory of the group."""
    inode: int
    """Of that directory: another one may be at its path by now."""
    registry: int
    extra_labels: tuple[str, ...]
    standard: tuple[str, ...]
    multiprocess: str | None
    """The directory of prometheus-client's multiprocess mode, where the app has metrics there."""
    own_families: tuple[Metric, ...]
    """The families that the catalogue does not have."""


def offer_of(pipeline: Pipeline) -> Offer | None:
    """Return what is told of an app, or None where it has no port or does not share its metrics."""
    config, exposition = pipeline.config, pipeline.exposition
    if config.metrics_port is None or exposition is None:
        return None
    collectors = collectors_of(exposition.registry, None)
    store = next((each for each in collectors if isinstance(each, MetricsStore)), None)
    if store is None or store.group is None:
        return None
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Offer(
        port=config.metrics_port,
        access=config.metrics_access if isinstance(config.metrics_access, str) else None,
        app_name=pipeline.app_name,
        context_signals=config.context_signals,
        path=store.group.path,
        inode=store.group.inode,
        registry=store.group.registry,
        extra_labels=tuple(sorted(config.metric_labels)),
        standard=tuple(type(each).__name__ for each in collectors if type(each) in STANDARD.values()),
        multiprocess=directory if any(isinstance(each, MetricWrapperBase) for each in collectors) else None,
        own_families=tuple(family.metric for name, family in store.families.items() if name not in METRICS),
    )


def written(offers: Iterable[Offer]) -> bytes:
    """Return offers as one message."""
    return json.dumps(list(offers), default=asdict).encode()


def read(message: bytes) -> list[Offer]:
    """Return the offers of a message."""
    return [_read(values) for values in json.loads(message)]


def _read(values: dict[str, Any]) -> Offer:
    families = tuple(Metric(*map(_as_before, metric)) for metric in values.pop("own_families"))
    return Offer(**{key: _as_before(value) for key, value in values.items()}, own_families=families)


def _as_before(value: Any) -> Any:
    """Return a value as it was before JSON made a list of a tuple."""
    return tuple(value) if isinstance(value, list) else value
