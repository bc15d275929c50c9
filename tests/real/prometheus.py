"""A real Prometheus that scrapes a served app every second."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from .client import answers
from .client import send
from .programs import eventually
from .programs import executable
from .programs import free_port
from .programs import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Prometheus", "Sample", "check_metrics", "prometheus_on", "scraping"]

REMEDY = "install Prometheus (Debian: apt-get install prometheus)"
CONFIGURATION = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - {{job_name: app, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""


@dataclass(frozen=True)
class Sample:
    labels: dict[str, str]
    value: float


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, promql: str) -> list[Sample]:
        """Return the instant vector that ``promql`` is now."""
        result = self._get("/api/v1/query", query=promql)["result"]
        return [Sample(series["metric"], float(series["value"][1])) for series in result]

    def exemplars(self, promql: str) -> list[dict[str, Any]]:
        """Return the exemplars (``labels``, ``value``) of the series in ``promql``."""
        found = self._get("/api/v1/query_exemplars", query=promql, start="0", end="99999999999")
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def wait_for(
        self, promql: str, predicate: Callable[[list[Sample]], bool] = bool, timeout: float = 20.0
    ) -> list[Sample]:
        """Return what ``promql`` is once ``predicate`` is true of it."""

        def probe() -> list[list[Sample]]:
            samples = self.query(promql)
            return [samples] if predicate(samples) else []

        return eventually(probe, timeout=timeout, what=f"{promql} in Prometheus")[0]

    def _get(self, path: str, **parameters: str) -> Any:
        answer = send(self._port, f"{path}?{urlencode(parameters)}")
        assert answer.status == 200, answer.text
        return json.loads(answer.body)["data"]


@contextlib.contextmanager
def scraping(target_port: int, directory: Path) -> Iterator[Prometheus]:
    """Run a Prometheus, with exemplars kept, on a free loopback port."""
    port = free_port()
    with prometheus_on(port, CONFIGURATION.format(port=target_port), directory):
        yield Prometheus(port)


@contextlib.contextmanager
def prometheus_on(port: int, configuration: str, directory: Path) -> Iterator[None]:
    """Run a Prometheus with this configuration, and exemplars kept, in ``directory``."""
    program = executable("prometheus", remedy=REMEDY)
    (directory / "prometheus.yml").write_text(configuration)
    command: list[str | Path] = [
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'prometheus-data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with running(command, name="prometheus", directory=directory, ready=lambda: answers(port, "/-/ready")):
        yield


def check_metrics(exposition: bytes) -> str:
    """Return what ``promtool check metrics`` finds wrong with a text exposition; empty means nothing."""
    promtool = executable("promtool", remedy=REMEDY)
    found = subprocess.run(
        [promtool, "check", "metrics"], input=exposition, capture_output=True, timeout=30, check=False
    )
    output = (found.stdout + found.stderr).decode()
    return output or ("" if found.returncode == 0 else f"promtool ended with {found.returncode}")
