"""Print what a scrape takes: this package beside prometheus_client, and 16 workers beside its multiprocess mode.

usage: python tests/benchmarks/scrape.py [--rounds N] [--workers N]

Both write the same families with the same samples, in rounds that take turns, so that a busy machine slows both; the
ratio of the medians is what to look at. A series here is a sample line.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest
from prometheus_client import Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from flask_signal_observability.catalogue import DURATION_BUCKETS_SECONDS
from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.group import Group
from flask_signal_observability.metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "http_server_request_duration_seconds"
LABELS = ("flask_app", "http_request_method", "url_scheme", "http_route", "http_response_status_code", "error_type")
METRIC = Metric(NAME, "histogram", "Duration.", LABELS, "seconds", DURATION_BUCKETS_SECONDS)
LINES = len(DURATION_BUCKETS_SECONDS) + 3
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
AMOUNTS_NS = (3_123_456, 30_123_456, 300_123_456, 3_000_123_456)


def children(lines: int) -> list[tuple[str, ...]]:
    return [("shop", "GET", "https", f"/route/{n}/<int:number>", "200", "") for n in range(max(1, lines // LINES))]


def ours(lines: int) -> MetricsStore:
    store = MetricsStore()
    family = Family(METRIC, store)
    for labels in children(lines):
        for amount_ns in AMOUNTS_NS:
            family.child(*labels).observe(amount_ns, (time.time_ns(), TRACE, SPAN))
    return store


def theirs(lines: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    histogram = Histogram(NAME, "Duration.", LABELS, buckets=DURATION_BUCKETS_SECONDS, registry=registry)
    exemplar = None if "PROMETHEUS_MULTIPROC_DIR" in os.environ else {"trace_id": TRACE, "span_id": SPAN}
    for labels in children(lines):
        for amount_ns in AMOUNTS_NS:
            histogram.labels(*labels).observe(amount_ns / 1e9, exemplar)
    return registry


def write(store: MetricsStore, *, openmetrics: bool) -> bytes:
    reading = store.read(exemplars=openmetrics)
    return b"".join([text.write(reading, openmetrics=openmetrics) for text in store.texts()])


def compare(title: str, rounds: int, one: Callable[[], object], other: Callable[[], object]) -> None:
    one()
    other()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for act, taken in zip((one, other), times, strict=True):
            started = time.perf_counter()
            act()
            taken.append((time.perf_counter() - started) * 1e3)
    mine, peers = (statistics.median(taken) for taken in times)
    print(f"{title:44}{mine:10.2f}{peers:20.2f}{mine / peers:8.3f}", flush=True)


def among_workers(workers: int, lines: int, rounds: int) -> None:
    """Fork the workers, each with all the series, and scrape them from here."""
    with tempfile.TemporaryDirectory() as directory:
        store = ours(lines)
        store.share(Group(str(Path(directory, "group"))))
        multiprocess = Path(directory, "multiprocess")
        multiprocess.mkdir()
        ready, told = os.pipe()
        stop, end = os.pipe()
        for _ in range(workers - 1):
            if os.fork() == 0:
                os.close(end)
                work(store, lines, str(multiprocess))
                os.write(told, b"x")
                os.read(stop, 1)
                os._exit(0)
        for _ in range(workers - 1):
            os.read(ready, 1)
        collected = CollectorRegistry()
        MultiProcessCollector(collected, str(multiprocess))  # type: ignore[no-untyped-call]
        for name, exposition in (("text", generate_latest), ("OpenMetrics", generate_openmetrics)):
            compare(
                f"{name}, {workers} workers with {lines:,} series each",
                rounds,
                lambda name=name: write(store, openmetrics=name != "text"),  # type: ignore[misc]
                lambda exposition=exposition: exposition(collected),  # type: ignore[misc]
            )
        os.close(end)
        for _ in range(workers - 1):
            os.wait()


def work(store: MetricsStore, lines: int, multiprocess: str) -> None:
    family = store.families[NAME]
    for labels in children(lines):
        for amount_ns in AMOUNTS_NS:
            family.child(*labels).observe(amount_ns, (time.time_ns(), TRACE, SPAN))
    # Read as prometheus_client is imported: this process starts another one for that.
    code = f"import sys; sys.path[:0] = {sys.path!r}; from tests.benchmarks.scrape import theirs; theirs({lines})"
    os.spawnvpe(
        os.P_WAIT,
        sys.executable,
        [sys.executable, "-c", code],
        {**os.environ, "PROMETHEUS_MULTIPROC_DIR": multiprocess},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison (default: 15)")
    parser.add_argument("--workers", type=int, default=16, help="workers that share (default: 16, 1: none)")
    options = parser.parse_args()
    print(f"{'median milliseconds of a scrape':44}{'ours':>10}{'prometheus_client':>20}{'ratio':>8}")
    for lines in (100, 1_000, 10_000):
        store, registry = ours(lines), theirs(lines)
        for name, exposition in (("text", generate_latest), ("OpenMetrics, exemplars", generate_openmetrics)):
            compare(
                f"{name}, {lines:,} series",
                options.rounds,
                lambda store=store, name=name: write(store, openmetrics=name != "text"),  # type: ignore[misc]
                lambda registry=registry, exposition=exposition: exposition(registry),  # type: ignore[misc]
            )
    if options.workers > 1:
        among_workers(options.workers, 10_000, max(3, options.rounds // 3))


if __name__ == "__main__":
    main()
