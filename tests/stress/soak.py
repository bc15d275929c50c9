"""Print whether everything stays flat and every count is right while, for minutes, everything goes wrong at once.

usage: python tests/stress/soak.py [--minutes N] [--rate N] [--json]

A gunicorn with gthread workers and one with gevent workers serve requests at a steady rate: views, templates, errors,
streams that break, clients that leave. All outputs are on: spans to a collector that goes away, answers 503 or resets
connections every so often; metrics shared between the workers, which a Prometheus scrapes; JSON records in a file that
is renamed; an audit file with its built-in rotation. One of two workers is killed with SIGKILL at random; what the
other one holds in memory, descriptors and threads is measured. Beside each server the bare app has the same traffic and
the same kills: what grows there is not the package's. In the end every answer that the clients had is looked for in the
metrics, the audit file and the records. It ends with 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.table import versions  # noqa: E402
from tests.stress.soaking.collector import FlappingCollector  # noqa: E402
from tests.stress.soaking.findings import find  # noqa: E402
from tests.stress.soaking.server import Gunicorn  # noqa: E402
from tests.stress.soaking.server import Server  # noqa: E402
from tests.stress.soaking.server import Vitals  # noqa: E402
from tests.stress.soaking.traffic import CLIENTS  # noqa: E402
from tests.stress.soaking.traffic import Clients  # noqa: E402
from tests.stress.soaking.traffic import get  # noqa: E402
from tests.stress.workers import DURATION  # noqa: E402
from tests.stress.workers import total  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stress.workers import Samples

CLASSES = ("gthread", "gevent")
READINGS = 120
"""How often, in the whole run, the vital signs are read."""
WARM = 0.4
"""The share of the run after which growth counts: caches are full, and the collector has been gone, busy and resetting
more than once. Until then a longer queue of spans than before is memory that the process keeps."""
SLOPE_LIMIT_KIB = 1024.0
"""Of resident memory for each 10 000 requests, beyond what the bare app gains; the noise of the allocator is below it,
a leak of 110 bytes a request is not."""
STOP_SECONDS = 15.0
"""To hand over the last spans takes ``flush_timeout_seconds``, which is 5, at most; the rest is gunicorn's."""
BATCH = 512
"""Spans that a killed worker had delivered and not yet counted, at most."""
ROUTES = {"/item/7": "/item/<int:number>", "/page/3": "/page/<int:number>", "/missing": ""}
PROMETHEUS = """\
global: {{scrape_interval: 5s, scrape_timeout: 4s}}
scrape_configs:
  - {{job_name: worker, static_configs: [{{targets: [{workers}]}}]}}
  - {{job_name: port, static_configs: [{{targets: [{ports}]}}]}}
"""


@dataclasses.dataclass
class Reading:
    """The surviving worker at one moment."""

    served: int
    vitals: Vitals


@dataclasses.dataclass
class Row:
    """What is told of one server."""

    worker_class: str
    minutes: float
    answered: int
    lost: int
    """Requests that had no answer."""
    kills: int
    allowed: int
    """Requests that may have been in flight at the kills."""
    differ_metrics: int
    missing_audit: int
    missing_logs: int
    twice: int
    """Audit lines or records of one request beyond the first."""
    journal_differs: int
    spans_taken: int
    spans_told_taken: int
    spans_told_dropped: int
    served_by_survivor: int
    resident_first_mib: float
    resident_last_mib: float
    slope_kib: float
    """Resident memory that the surviving worker gains in 10 000 requests."""
    bare_slope_kib: float
    """That of the bare app."""
    descriptors_first: int
    """The fewest, without the connections of the moment."""
    descriptors_last: int
    threads_first: int
    threads_last: int
    own_errors: int
    """``observability_errors_total``."""
    audit_lost: int
    log_files: int
    torn: int
    collector_lines: int
    unexpected_lines: int
    went_down: float
    """Counters that Prometheus saw fall."""
    scrapes_failed: float
    stopped_in_seconds: float

    @property
    def right(self) -> bool:
        counts = max(self.lost, self.differ_metrics, self.missing_audit, self.missing_logs, self.journal_differs)
        grown = (
            self.slope_kib - max(0.0, self.bare_slope_kib) > SLOPE_LIMIT_KIB
            or self.descriptors_last > self.descriptors_first + 2
            or self.threads_last > self.threads_first + 1
        )
        wrong = self.twice or self.own_errors or self.audit_lost or self.unexpected_lines or self.went_down
        at_kills = max(self.torn, self.scrapes_failed) <= self.kills
        in_time = self.stopped_in_seconds <= STOP_SECONDS
        return counts <= self.allowed and not grown and not wrong and at_kills and in_time


class Visited:
    """A server, who visits it, and what was read of its surviving worker."""

    def __init__(self, server: Gunicorn, rate: float) -> None:
        self.server = server
        self.clients = Clients(server.port, rate)
        self.readings: list[Reading] = []

    def read(self) -> None:
        survivor = self.server.survivor
        with contextlib.suppress(OSError):
            self.readings.append(Reading(self.clients.by_worker[survivor], Vitals.of(survivor)))

    def disturb(self, end_seconds: float, pause_seconds: float) -> None:
        """Kill a worker and rename the log file now and then, but not at the very end."""
        while time.monotonic() < end_seconds - pause_seconds - 5:
            time.sleep(random.uniform(0.5, 1.5) * pause_seconds / 2)
            self.server.rename_log()
            time.sleep(random.uniform(0.5, 1.5) * pause_seconds / 2)
            self.server.kill_one()

    @property
    def warm(self) -> list[Reading]:
        return self.readings[int(len(self.readings) * WARM) :]

    def __str__(self) -> str:
        vitals = self.readings[-1].vitals
        return (
            f"{len(self.clients.answered)} answered, {self.server.kills} kills, "
            f"{vitals.resident_bytes / 2**20:.1f} MiB, {vitals.descriptors} descriptors"
        )


class Soak:
    """The servers, their visitors, and what disturbs them."""

    def __init__(self, directory: Path, minutes: float, rate: float, stack: contextlib.ExitStack) -> None:
        self.seconds = minutes * 60
        self.collector = FlappingCollector(min(45.0, self.seconds / 12))
        stack.callback(self.collector.close)
        self.servers: list[Server] = []
        controls: list[Gunicorn] = []
        for worker_class in CLASSES:
            ports, endpoint = (free_port(), free_port()), self.collector.endpoint
            self.servers.append(Server(worker_class, directory / worker_class, ports, endpoint))
            stack.callback(self.servers[-1].stop)
            controls.append(Gunicorn(worker_class, directory / f"bare-{worker_class}", free_port()))
            stack.callback(controls[-1].stop)
        self.prometheus_port = free_port()
        stack.enter_context(prometheus(directory, self.prometheus_port, self.servers))
        self.observed = [Visited(server, rate / len(CLASSES)) for server in self.servers]
        self.bare = [Visited(server, rate / len(CLASSES)) for server in controls]
        for visited in self._all:
            stack.callback(visited.clients.end)

    @property
    def _all(self) -> list[Visited]:
        return [*self.observed, *self.bare]

    def run(self) -> None:
        started = time.monotonic()
        ends = started + self.seconds, min(40.0, self.seconds / 10)
        disturbers = [threading.Thread(target=visited.disturb, args=ends) for visited in self._all]
        for thread in disturbers:
            thread.start()
        pause_seconds = self.seconds / READINGS
        for number in range(1, READINGS + 1):
            time.sleep(max(0.0, started + number * pause_seconds - time.monotonic()))
            for visited in self._all:
                visited.read()
            if number % (READINGS // 20) == 0:
                self._tell(time.monotonic() - started)
        for thread in disturbers:
            thread.join()
        for visited in self._all:
            visited.clients.end()
        self.collector.settle()

    def _tell(self, seconds: float) -> None:
        told = [
            f"{observed.server.worker_class}: {observed} (bare: {bare})"
            for observed, bare in zip(self.observed, self.bare, strict=True)
        ]
        print(f"{seconds:5.0f} s  {'; '.join(told)}; {self.collector.spans} spans", file=sys.stderr, flush=True)

    def has_every_span(self, rows: list[Row]) -> bool:
        """Tell whether what the collector has, and what the metrics say that it has, agree but for the kills."""
        uncounted = self.collector.spans - sum(row.spans_told_taken for row in rows)
        return 0 <= uncounted <= BATCH * sum(row.kills for row in rows)


@contextlib.contextmanager
def prometheus(directory: Path, port: int, servers: list[Server]) -> Iterator[None]:
    configuration = directory / "prometheus.yml"
    targets = {
        "workers": ", ".join(f'"127.0.0.1:{server.port}"' for server in servers),
        "ports": ", ".join(f'"127.0.0.1:{server.metrics_port}"' for server in servers),
    }
    configuration.write_text(PROMETHEUS.format(**targets))
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    with (directory / "prometheus.out").open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def asked(port: int, promql: str) -> float:
    """Return the one number that ``promql`` is; 0 where it is nothing."""
    answer = get(port, f"/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
    assert answer is not None, promql
    found = json.loads(answer.body)["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def differ(samples: Samples, clients: Clients) -> int:
    """Return by how much the metrics and the clients differ, route by route and status by status."""
    received = Counter((ROUTES.get(path, path), str(status)) for path, status in clients.answered.values())
    counted: Counter[tuple[str, str]] = Counter()
    for (name, labels), value in samples.items():
        if name == f"{DURATION}_count":
            told = dict(labels)
            counted[told["http_route"], told["http_response_status_code"]] += int(value)
    return sum(abs(counted[key] - received[key]) for key in {*counted, *received})


def labelled(samples: Samples, name: str, label: str, *values: str) -> int:
    return int(
        sum(value for (known, labels), value in samples.items() if known == name and dict(labels)[label] in values)
    )


def slope_kib(readings: list[Reading]) -> float:
    """Return the least-squares slope of resident memory, in KiB for each 10 000 requests."""
    served = [float(reading.served) for reading in readings]
    resident = [reading.vitals.resident_bytes / 1024 for reading in readings]
    if len({*served}) < 2:
        return 0.0
    return float(statistics.linear_regression(served, resident).slope) * 10_000


def account(soak: Soak, number: int, minutes: float) -> tuple[Row, list[str], Counter[str]]:
    server, clients, warm = soak.servers[number], soak.observed[number].clients, soak.observed[number].warm
    first, last = warm[: len(warm) // 4 or 1], warm[-(len(warm) // 4 or 1) :]

    def resident_mib(of: list[Reading]) -> float:
        return float(statistics.median(reading.vitals.resident_bytes for reading in of)) / 2**20

    samples = server.settled()
    exported = "otel_sdk_exporter_span_exported_total"
    failed = {dict(labels)["error_type"] for name, labels in samples if name == exported} - {""}
    window = f"{int(soak.seconds) + 60}s"
    where = f'instance=~"127.0.0.1:({server.port}|{server.metrics_port})"'
    went_down = sum(
        asked(soak.prometheus_port, f"sum(resets({name}{{{where}}}[{window}]))")
        for name in (f"{DURATION}_count", "flask_signals_total", "flask_audit_records_total", exported)
    )
    scrapes_failed = asked(
        soak.prometheus_port, f"sum(count_over_time(up{{{where}}}[{window}]) - sum_over_time(up{{{where}}}[{window}]))"
    )
    served = clients.by_worker[server.survivor]
    server.stop()
    findings = find(server.directory, server.output)
    answered = clients.answered
    errors = sum(1 for path, _ in answered.values() if path in ("/error", "/broken"))
    repeats = [*(findings.audited.values()), *(findings.logged.values())]
    row = Row(
        worker_class=server.worker_class,
        minutes=minutes,
        answered=len(answered),
        lost=len(clients.lost),
        kills=server.kills,
        allowed=server.kills * CLIENTS,
        differ_metrics=differ(samples, clients),
        missing_audit=len(answered.keys() - findings.audited.keys()),
        missing_logs=len(answered.keys() - findings.logged.keys()),
        twice=sum(repeats) - len(repeats),
        journal_differs=abs(findings.journalled - errors),
        spans_taken=soak.collector.spans,
        spans_told_taken=labelled(samples, exported, "error_type", ""),
        spans_told_dropped=labelled(samples, exported, "error_type", *failed),
        served_by_survivor=served,
        resident_first_mib=resident_mib(first),
        resident_last_mib=resident_mib(last),
        slope_kib=slope_kib(warm),
        bare_slope_kib=slope_kib(soak.bare[number].warm),
        descriptors_first=min(reading.vitals.descriptors for reading in first),
        descriptors_last=min(reading.vitals.descriptors for reading in last),
        threads_first=min(reading.vitals.threads for reading in first),
        threads_last=min(reading.vitals.threads for reading in last),
        own_errors=int(total(samples, "observability_errors_total")),
        audit_lost=labelled(samples, "flask_audit_records_total", "outcome", "lost", "stderr") + findings.gaps,
        log_files=findings.files,
        torn=findings.torn,
        collector_lines=findings.told_of_collector.total(),
        unexpected_lines=len(findings.unexpected),
        went_down=went_down,
        scrapes_failed=scrapes_failed,
        stopped_in_seconds=server.stopped_in_seconds,
    )
    return row, findings.unexpected, findings.told_of_collector


TITLES = {
    "minutes": "minutes",
    "answered": "requests that the clients had an answer to",
    "lost": "requests that had none",
    "kills": "workers killed with SIGKILL",
    "allowed": "in flight at the kills, at most",
    "differ_metrics": "requests by which `/metrics` differs, by route and status",
    "missing_audit": "answered, and not in the audit file",
    "missing_logs": "answered, and without a record",
    "twice": "requests told twice in a file",
    "journal_differs": "errors by which the journal differs",
    "spans_told_taken": "spans delivered, by the metrics",
    "spans_told_dropped": "spans given up, by the metrics",
    "served_by_survivor": "requests of the worker that was not killed",
    "resident_first_mib": "its resident memory after the warm-up, MiB",
    "resident_last_mib": "the same at the end, MiB",
    "slope_kib": "slope, KiB in 10 000 requests",
    "bare_slope_kib": "slope of the bare app beside it",
    "descriptors_first": "its descriptors after the warm-up, at least",
    "descriptors_last": "the same at the end",
    "threads_first": "its threads after the warm-up, at least",
    "threads_last": "the same at the end",
    "own_errors": "`observability_errors_total`",
    "audit_lost": "audit records lost, by the metrics",
    "log_files": "files that were read, after rotation",
    "torn": "lines cut off by a kill",
    "collector_lines": "lines about the collector",
    "unexpected_lines": "other lines that nobody expected",
    "went_down": "counters that Prometheus saw fall",
    "scrapes_failed": "scrapes that failed",
    "stopped_in_seconds": "seconds to stop",
    "right": "as it should be",
}


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}"


def as_markdown(rows: list[Row], collector: FlappingCollector) -> str:
    width = max(map(len, TITLES.values()))
    lines = [
        f"| {'':{width}} | {' | '.join(f'{row.worker_class:>9}' for row in rows)} |",
        f"| {'-' * width} | {' | '.join('-' * 8 + ':' for _ in rows)} |",
    ]
    for name, title in TITLES.items():
        lines.append(f"| {title:{width}} | {' | '.join(f'{shown(getattr(row, name)):>9}' for row in rows)} |")
    told = sum(row.spans_told_taken for row in rows)
    spans = (
        f"* the collector changed {collector.changes} times and counted {collector.spans:,} spans, the metrics {told:,}"
    )
    return "\n".join([*lines, "", spans, f"* {versions()}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="how long (default: 20)")
    parser.add_argument("--rate", type=float, default=80, help="requests a second, of both servers (default: 80)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        soak = Soak(directory, options.minutes, options.rate, stack)
        soak.run()
        accounts = [account(soak, number, options.minutes) for number in range(len(soak.servers))]
        rows = [row for row, _, _ in accounts]
        for row, unexpected, told in accounts:
            for line in unexpected[:20]:
                print(f"{row.worker_class}: unexpected: {line[:500]}", file=sys.stderr)
            for text, times in told.most_common(20):
                print(f"{row.worker_class}: {times} times {text}", file=sys.stderr)
        if options.json:
            print(json.dumps([{**dataclasses.asdict(row), "right": row.right} for row in rows], indent=1))
        else:
            print(as_markdown(rows, soak.collector))
    return 0 if all(row.right for row in rows) and soak.has_every_span(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
