"""A gunicorn, bare or with all outputs on, its workers' vital signs, and who of them is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from typing import TYPE_CHECKING

from tests.stress.workers import LABEL
from tests.stress.workers import SAMPLE
from tests.stress.workers import Samples
from tests.stress.workers import total

from .traffic import get

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ROOT", "WORKERS", "Gunicorn", "Server", "Vitals"]

ROOT = Path(__file__).resolve().parents[3]
WORKERS = 2
WAIT_SECONDS = 30.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Vitals(NamedTuple):
    """What a process has at one moment."""

    resident_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Vitals:
        """Raise an OSError where there is no such process any more."""
        process = Path(f"/proc/{pid}")
        resident = int((process / "statm").read_text().split()[1]) * PAGE_BYTES
        return cls(resident, len(os.listdir(process / "fd")), len(os.listdir(process / "task")))  # noqa: PTH208


class Gunicorn:
    """Two workers: the one that stays, whose vital signs are looked at, and one that is killed now and then."""

    application = "tests.stress.soaking.app:create_bare_app()"

    def __init__(self, worker_class: str, directory: Path, port: int) -> None:
        directory.mkdir(mode=0o700)
        self.worker_class = worker_class
        self.directory = directory
        self.port = port
        self.kills = 0
        self.stopped_in_seconds = 0.0
        self._output = (directory / "gunicorn.out").open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS)),
                *("--worker-class", worker_class, *(["--threads", "4"] if worker_class == "gthread" else [])),
                *("--graceful-timeout", "20", *self.options(), self.application),
            ],
            env=self.environment(),
            cwd=ROOT,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._await(self.is_ready)
        self.survivor = self.pids[0]

    def options(self) -> tuple[str, ...]:
        return ()

    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OBSERVABILITY_", "OTEL_"))}
        return inherited | {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(self.directory)}

    def is_ready(self) -> bool:
        return get(self.port, "/") is not None

    @property
    def pids(self) -> list[int]:
        """The workers, the oldest first; the process that answers the metrics port is no worker."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        workers = []
        for pid in map(int, children):
            with contextlib.suppress(OSError):
                if b"metrics_port" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    workers.append(pid)
        return workers

    @property
    def output(self) -> str:
        return (self.directory / "gunicorn.out").read_text()

    def kill_one(self) -> None:
        victims = [pid for pid in self.pids if pid != self.survivor]
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(victims), signal.SIGKILL)
                self.kills += 1

    def rename_log(self) -> None:
        """Rename what is there of it."""

    def stop(self) -> None:
        """End it as a deployment does; a second call does nothing."""
        if self._process.poll() is None:
            started = time.monotonic()
            self._process.terminate()
            try:
                self._process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self.stopped_in_seconds = time.monotonic() - started
        self._output.close()

    def _await(self, condition: Callable[[], bool], *, must: bool = True) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline or self._process.poll() is not None:
                if must:
                    self.stop()
                    raise SystemExit(f"gunicorn did not start:\n{self.output}")
                return
            time.sleep(0.1)


class Server(Gunicorn):
    """The observed one, all outputs on."""

    application = "tests.stress.soaking.app:create_app()"

    def __init__(self, worker_class: str, directory: Path, ports: tuple[int, int], endpoint: str) -> None:
        self.metrics_port = ports[1]
        self.renamed = 0
        self._endpoint = endpoint
        super().__init__(worker_class, directory, ports[0])

    def options(self) -> tuple[str, ...]:
        return "-c", "python:flask_signal_observability.gunicorn"

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "OBSERVABILITY_AUDIT_PATH": str(self.directory / "audit.log"),
            "OBSERVABILITY_AUDIT_ROTATE_BYTES": str(1024 * 1024),
            "OBSERVABILITY_ERROR_JOURNAL_PATH": str(self.directory / "journal.log"),
            "OBSERVABILITY_LOG_STREAM": str(self.directory / "app.json"),
            "OBSERVABILITY_METRICS_PORT": str(self.metrics_port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._endpoint,
            "NO_PROXY": "127.0.0.1",
        }

    def is_ready(self) -> bool:
        return total(self.scrape(), "observability_workers") == WORKERS

    def rename_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "app.json").rename(self.directory / f"app.json.{self.renamed:04}")
            self.renamed += 1

    def scrape(self) -> Samples:
        answer = get(self.port, "/metrics")
        if answer is None or answer.status != 200:
            return {}
        found = SAMPLE.findall(answer.body.decode())
        return {(name, tuple(LABEL.findall(labels))): float(value) for name, labels, value in found}

    def settled(self) -> Samples:
        """Return what a scrape says when no request is under way and every worker is there."""
        self._await(
            lambda: (
                total(samples := self.scrape(), "observability_workers") == WORKERS
                and total(samples, "http_server_active_requests") == 0
            ),
            must=False,
        )
        return self.scrape()
