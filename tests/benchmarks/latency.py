"""What a scrape adds to the latency of the requests that are served meanwhile: one gunicorn worker with four threads.

Requests come at a steady pace from two connections; a scraper reads 10 000 series ten times a second. The rounds with
the scraper and without take turns, and so do this package and prometheus_client's own WSGI app beside bare Flask.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client import Histogram
from prometheus_client import make_wsgi_app
from scrape import AMOUNTS_NS
from scrape import children
from scrape import LABELS
from stacks import ours
from table import Column
from table import Report
from throughput import cores
from throughput import serving
from views import make_app
from views import VIEWS

from flask_signal_observability.catalogue import DURATION_BUCKETS_SECONDS
from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from flask import Flask

__all__ = ["measure", "served"]

NAME = "other_duration_seconds"
LINES = 10_000
CONNECTIONS = 2
PACE_SECONDS = 0.01
SCRAPE_EVERY_SECONDS = 0.1
ACCEPT = "application/openmetrics-text; version=1.0.0"

SCRAPER = f"""
import sys, time, urllib.request
request = urllib.request.Request(sys.argv[1], headers={{"Accept": {ACCEPT!r}}})
while True:
    started = time.monotonic()
    with urllib.request.urlopen(request) as answer:
        lines = answer.read().count(b"\\n")
    print(lines, flush=True)
    time.sleep(max(0, {SCRAPE_EVERY_SECONDS} - (time.monotonic() - started)))
"""

COLUMNS = (
    Column("stack", "/metrics by"),
    Column("scraped", "scraped"),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p99_ms", "p99 ms", ".2f"),
    Column("max_ms", "max ms", ".1f"),
    Column("added_ms", "added to p99 ms", ".2f"),
)

NOTES = (
    f"each request waits for its turn: {CONNECTIONS} connections, one request each {PACE_SECONDS * 1000:.0f} ms",
    f"scraped: OpenMetrics with {LINES:,} series, ten times a second; every request of all rounds is in p99 and max",
)


def served(by: str) -> Any:
    """Return the app whose /metrics tells all the series."""
    registry = CollectorRegistry()
    if by == "ours":
        app = bare_app()
        store = MetricsStore()
        family = Family(Metric(NAME, "histogram", "Duration.", LABELS, "seconds", DURATION_BUCKETS_SECONDS), store)
        for labels in children(LINES):
            for amount_ns in AMOUNTS_NS:
                family.child(*labels).observe(amount_ns, (time.time_ns(), "1" * 32, "2" * 16))
        registry.register(store)
        ours(app, registry=registry)
        return app
    histogram = Histogram(NAME, "Duration.", LABELS, buckets=DURATION_BUCKETS_SECONDS, registry=registry)
    for labels in children(LINES):
        for amount_ns in AMOUNTS_NS:
            histogram.labels(*labels).observe(amount_ns / 1e9, {"trace_id": "1" * 32, "span_id": "2" * 16})
    app, metrics = bare_app(), make_wsgi_app(registry)
    return lambda environ, start: (metrics if environ["PATH_INFO"] == "/metrics" else app)(environ, start)


def bare_app() -> Flask:
    return make_app("bare")


def measure(*, rounds: int, seconds: int, tell: Callable[[str], None]) -> Report:
    """Serve both at once, and ask one after the other, so many seconds each round, scraped and not."""
    seen: dict[tuple[str, bool], list[float]] = {}
    with contextlib.ExitStack() as exit_stack:
        worker = ("--worker-class", "gthread", "--threads", "4")
        urls = {
            by: exit_stack.enter_context(serving(f"latency:served({by!r})", worker=worker, core=None)).url
            for by in ("ours", "prometheus_client")
        }
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}")
            for by, url in urls.items():
                for scraped in (False, True):
                    with scraping(url) if scraped else contextlib.nullcontext():
                        seen.setdefault((by, scraped), []).extend(ask(url, seconds))
    rows = []
    for (by, scraped), latencies in seen.items():
        percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
        row = {"stack": by, "scraped": "yes" if scraped else "no", "p50_ms": percentiles[49], "p99_ms": percentiles[98]}
        added = percentiles[98] - rows[-1]["p99_ms"] if scraped else None
        rows.append({**row, "max_ms": max(latencies), "added_ms": added, "requests": len(latencies)})
    title = f"Latency while somebody scrapes (gunicorn, one gthread worker; {rounds} rounds of {seconds} s)"
    return Report(title, "ms", COLUMNS, rows, [*NOTES])


@contextlib.contextmanager
def scraping(url: str) -> Iterator[None]:
    """Read the metrics again and again, to the end of the block."""
    with cores(-1):
        scraper = subprocess.Popen([sys.executable, "-c", SCRAPER, f"{url}/metrics"], stdout=subprocess.PIPE)
    with scraper:
        assert scraper.stdout
        if int(scraper.stdout.readline()) < LINES * 0.9:
            raise RuntimeError("the scrape did not tell all the series: nothing is measured")
        try:
            yield
        finally:
            scraper.terminate()


def ask(url: str, seconds: int) -> list[float]:
    """Return the milliseconds of each request."""
    with cores(-1), ThreadPoolExecutor(CONNECTIONS) as pool:
        asked = [pool.submit(ask_on_one, url, seconds) for _ in range(CONNECTIONS)]
        return [ms for each in asked for ms in each.result()]


def ask_on_one(url: str, seconds: int) -> list[float]:
    address, (path, *_) = urlsplit(url).netloc, VIEWS["json"]
    connection = http.client.HTTPConnection(address)
    took = []
    end = time.monotonic() + seconds
    with contextlib.closing(connection):
        while (now := time.monotonic()) < end:
            started_ns = time.perf_counter_ns()
            connection.request("GET", path.format(7))
            with connection.getresponse() as answer:
                answer.read()
            took.append((time.perf_counter_ns() - started_ns) / 1e6)
            time.sleep(max(0, PACE_SECONDS - (time.monotonic() - now)))
    return took
