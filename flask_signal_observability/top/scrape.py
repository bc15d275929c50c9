"""What one scrape says of requests, and what two of them say of the time between."""

from __future__ import annotations

from typing import NamedTuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping

    from prometheus_client import Metric

__all__ = ["Scrape", "Series", "increase", "read_scrape"]

DURATION = "http_server_request_duration_seconds"
ACTIVE = "http_server_active_requests"
WORKERS = "observability_workers"
INFO = "flask_app_info"

Buckets = dict[float, float]
"""Cumulated counts by upper bound."""


class Series(NamedTuple):
    """The labels of a series of request durations that the table looks at."""

    app: str
    method: str
    route: str
    is_error: bool
    others: frozenset[tuple[str, str]]
    """All labels but ``le``, which tell it from others."""


class Scrape(NamedTuple):
    """One answer of ``/metrics``."""

    at_seconds: float
    """By the monotonic clock."""
    durations: dict[Series, Buckets]
    active_requests: float
    workers: float
    apps: tuple[str, ...]


def read_scrape(families: Iterable[Metric], at_seconds: float) -> Scrape:
    """Return what the families of an exposition tell of requests."""
    durations: dict[Series, Buckets] = {}
    known: dict[frozenset[tuple[str, str]], Series] = {}
    active, workers, apps = 0.0, 0.0, set()
    for family in families:
        if family.name == DURATION:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    labels = dict(sample.labels)
                    bound = float(labels.pop("le"))
                    key = frozenset(labels.items())
                    series = known.get(key) or known.setdefault(key, _series_of(labels, key))
                    durations.setdefault(series, {})[bound] = sample.value
        elif family.name == ACTIVE:
            active += sum(sample.value for sample in family.samples)
        elif family.name == WORKERS:
            workers += sum(sample.value for sample in family.samples)
        elif family.name in (INFO, INFO.removesuffix("_info")):
            apps |= {sample.labels.get("flask_app", "") for sample in family.samples}
    return Scrape(at_seconds, durations, active, workers, tuple(sorted(apps)))


def _series_of(labels: Mapping[str, str], key: frozenset[tuple[str, str]]) -> Series:
    # What is set is an error, as everywhere: the class nobody handled, or any other 5xx.
    return Series(
        labels.get("flask_app", ""),
        labels.get("http_request_method", ""),
        labels.get("http_route", ""),
        labels.get("error_type", "") != "",
        key,
    )


def increase(before: Mapping[Series, Buckets], after: Mapping[Series, Buckets]) -> dict[Series, Buckets]:
    """Return what was counted between two scrapes of one target.

    A series that is new began at 0. One that went down has begun anew with its process: what it has now is all since
    then, as Prometheus' ``increase`` takes it.
    """
    gained = {}
    for series, buckets in after.items():
        earlier = before.get(series, {})
        restarted = any(count < earlier.get(bound, 0) for bound, count in buckets.items())
        gained[series] = buckets if restarted else {b: count - earlier.get(b, 0) for b, count in buckets.items()}
    return gained
