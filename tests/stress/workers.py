"""Print whether a scrape tells what the workers of a gunicorn did, by the client's own count, whoever dies meanwhile.

usage: python tests/stress/workers.py [--requests N] [--json] [--worker-class CLASS …] [--preload yes|no|both]

For each worker class, with and without --preload, four workers serve N requests in all: first undisturbed, then with
max_requests recycling, then with workers killed at random. What each scrape says is compared with what the client
received: exactly without kills, and within the requests that were in flight with them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 4
CLIENTS = 8
KILLS = 6
PATHS = ("/", "/item/7", "/missing", "/error", "/streamed")
IN_HAND = {"sync": 1, "gthread": 4, "gevent": CLIENTS}
"""How many requests a worker has in flight at most."""
CLASSES = tuple(IN_HAND)
DURATION = "http_server_request_duration_seconds"
ACTIVE = "http_server_active_requests"
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
WAIT_SECONDS = 30.0

APP = """
from flask import Flask, Response
from flask_signal_observability import Observability
app = Flask("shop")
app.logger.disabled = True
app.add_url_rule("/", "home", lambda: "hello")
app.add_url_rule("/item/<int:number>", "item", lambda number: {"number": number})
app.add_url_rule("/error", "error", lambda: 1 // 0)
app.add_url_rule("/streamed", "streamed", lambda: Response(iter(["a", "b", "c"])))
Observability(app, metrics_access="open", tracing=False, logs=False, audit=False)
"""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclasses.dataclass
class Outcome:
    """What came of one combination."""

    worker_class: str
    preload: bool
    phase: str
    received: int
    """Answers that the client had in full."""
    counted: float
    """Requests that the last scrape tells."""
    lost: int
    """Requests of which the client had no answer."""
    differs: int
    """By how much the two counts differ, route by route and status by status."""
    allowed: int
    starts: float
    workers: float
    active: float
    files: int
    went_down: int
    """Counters that were lower in a later scrape."""

    @property
    def right(self) -> bool:
        settled = self.active == 0 and self.workers == WORKERS and self.files <= WORKERS + 1
        return self.differs <= self.allowed and settled and self.went_down == 0


class Server:
    """A gunicorn, and what its scrapes have said so far."""

    def __init__(self, directory: Path, worker_class: str, *, preload: bool, max_requests: int) -> None:
        (directory / "application.py").write_text(APP)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._runtime = directory / "run"
        self._runtime.mkdir(mode=0o700)
        command = [
            *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS)),
            *("--worker-class", worker_class, "--threads", "4" if worker_class == "gthread" else "1"),
            *("--graceful-timeout", "10", "--log-level", "error", "--chdir", str(directory)),
            *(["--preload"] if preload else []),
            *(["--max-requests", str(max_requests), "--max-requests-jitter", "20"] if max_requests else []),
            "application:app",
        ]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OBSERVABILITY_", "OTEL_"))}
        environment = {**inherited, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(self._runtime)}
        self._output = (directory / "gunicorn.log").open("wb")
        self._process = subprocess.Popen(command, env=environment, stdout=self._output, stderr=subprocess.STDOUT)
        self._seen: Samples = {}
        self.went_down: set[tuple[str, tuple[tuple[str, str], ...]]] = set()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    @property
    def pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def kill_one(self) -> None:
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(self.pids), signal.SIGKILL)

    @property
    def files(self) -> int:
        """How many files the group has, 0 where it has no directory."""
        groups = list(self._runtime.glob("flask_signal_observability-*/*"))
        assert len(groups) <= 1, groups
        return len(list(groups[0].iterdir())) if groups else 0

    def get(self, path: str) -> tuple[int, bytes] | None:
        """Return status and body, or None where there was no whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def scrape(self) -> Samples:
        """Return what one scrape says, and remember which counters it says less of than the last one."""
        while (answer := self.get("/metrics")) is None:
            time.sleep(0.01)
        status, body = answer
        assert status == 200, body
        samples = {
            (name, tuple(LABEL.findall(labels))): float(value) for name, labels, value in SAMPLE.findall(body.decode())
        }
        for key, value in self._seen.items():
            counts = key[0].endswith(("_total", "_bucket", "_count", "_sum")) and key[0].startswith(
                ("http", "fl", "ob")
            )
            if counts and samples.get(key, 0.0) < value:
                self.went_down.add(key)
        self._seen = samples
        return samples


class Client:
    """Several threads that make requests, and what they have received by path and status."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self.received: Counter[tuple[str, int]] = Counter()
        self.lost = 0

    def make(self, requests: int, kills: int = 0) -> None:
        numbers = iter(range(requests))
        threads = [threading.Thread(target=self._make, args=(numbers,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        killed = 0
        while any(thread.is_alive() for thread in threads):
            self._server.scrape()
            if killed < kills:
                self._server.kill_one()
                killed += 1
            time.sleep(0.05)
        for thread in threads:
            thread.join()

    def _make(self, numbers: Iterator[int]) -> None:
        while True:
            with self._lock:
                number = next(numbers, None)
            if number is None:
                return
            path = PATHS[number % len(PATHS)]
            answer = self._server.get(path)
            with self._lock:
                if answer is None:
                    self.lost += 1
                else:
                    self.received[path, answer[0]] += 1


ROUTES = {"/item/7": "/item/<int:number>", "/missing": ""}


def counted(samples: Samples) -> Counter[tuple[str, int]]:
    counts: Counter[tuple[str, int]] = Counter()
    for (name, labels), value in samples.items():
        if name == f"{DURATION}_count":
            told = dict(labels)
            counts[told["http_route"], int(told["http_response_status_code"] or 0)] += int(value)
    return counts


def total(samples: Samples, name: str) -> float:
    return sum(value for (known, _), value in samples.items() if known == name)


def settled(server: Server) -> Samples:
    """Return a scrape after which nothing is left to be done: every worker is there, every dead one is folded."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        samples = server.scrape()
        done = total(samples, "observability_workers") == WORKERS and total(samples, ACTIVE) == 0
        if (done and server.files <= WORKERS + 1) or time.monotonic() > deadline:
            return samples
        time.sleep(0.05)


def compare(server: Server, client: Client, phase: str, worker_class: str, *, preload: bool, allowed: int) -> Outcome:
    samples = settled(server)
    received: Counter[tuple[str, int]] = Counter()
    for (path, status), times in client.received.items():
        received[ROUTES.get(path, path), status] += times
    told = counted(samples)
    differs = sum(abs(told[key] - received[key]) for key in {*told, *received})
    return Outcome(
        worker_class,
        preload,
        phase,
        sum(received.values()),
        sum(told.values()),
        client.lost,
        differs,
        allowed,
        total(samples, "observability_worker_starts_total"),
        total(samples, "observability_workers"),
        total(samples, ACTIVE),
        server.files,
        len(server.went_down),
    )


def run(worker_class: str, *, preload: bool, requests: int) -> Iterator[Outcome]:
    for phase, max_requests, kills in (
        ("undisturbed", 0, 0),
        ("recycled", max(requests // 40, 20), 0),
        ("killed", 0, KILLS),
    ):
        with tempfile.TemporaryDirectory() as directory:
            server = Server(Path(directory), worker_class, preload=preload, max_requests=max_requests)
            try:
                settled_at_start(server)
                client = Client(server)
                client.make(requests // 3, kills)
                allowed = kills * IN_HAND[worker_class]
                yield compare(server, client, phase, worker_class, preload=preload, allowed=allowed)
            finally:
                server.close()


def settled_at_start(server: Server) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if server.get("/metrics") is not None and total(server.scrape(), "observability_workers") == WORKERS:
            return
        time.sleep(0.05)
    raise SystemExit("gunicorn did not start its workers")


COLUMNS = (
    ("worker_class", "class"),
    ("preload", "preload"),
    ("phase", "phase"),
    ("received", "received"),
    ("counted", "counted"),
    ("lost", "lost"),
    ("differs", "differ"),
    ("allowed", "allowed"),
    ("starts", "starts"),
    ("active", "active"),
    ("files", "files"),
    ("went_down", "down"),
    ("right", "right"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="requests in all (default: 20000)")
    parser.add_argument("--worker-class", nargs="+", choices=CLASSES, default=CLASSES)
    parser.add_argument("--preload", choices=("yes", "no", "both"), default="both")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    options = parser.parse_args()
    preloads = {"yes": (True,), "no": (False,), "both": (False, True)}[options.preload]
    combinations = [(kind, preload) for kind in options.worker_class for preload in preloads]
    outcomes = []
    if not options.json:
        print(" ".join(f"{title:>11}" for _, title in COLUMNS))
    for worker_class, preload in combinations:
        for outcome in run(worker_class, preload=preload, requests=options.requests // len(combinations)):
            outcomes.append(outcome)
            if not options.json:
                print(" ".join(f"{getattr(outcome, name)!s:>11}" for name, _ in COLUMNS), flush=True)
    if options.json:
        print(json.dumps([{**dataclasses.asdict(outcome), "right": outcome.right} for outcome in outcomes]))
    return 0 if all(outcome.right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
