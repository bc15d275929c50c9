"""A Prometheus with this package's rules that scrapes two example shops, of which parts of one fail, and itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from .client import answers
from .client import send
from .dashboard_queries import rules_for_a_young_shop
from .otlp_receiver import receiving
from .programs import eventually
from .programs import free_port
from .programs import running
from .prometheus import prometheus_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

__all__ = ["ScrapedShop", "scraped_shop"]

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
CONFIGURATION = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules/*.yaml]
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: {targets}}}]
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
TRAFFIC_SECONDS = 12.0
VISIT_REQUESTS = 60
RANGE_SECONDS = 30
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class ScrapedShop:
    """What Prometheus knew when the traffic ended. Every query is asked as of that moment."""

    port: int
    ended: float

    def series(self, promql: str, *, instant: bool) -> dict[Labels, list[float]]:
        """Return the numbers that come back by the labels of their series; NaN is none."""
        if instant:
            found = self.get("/api/v1/query", query=promql, time=self.ended)["result"]
            pairs = [(each["metric"], [each["value"]]) for each in found]
        else:
            asked = {"start": self.ended - RANGE_SECONDS, "end": self.ended, "step": "1"}
            found = self.get("/api/v1/query_range", query=promql, **asked)["result"]
            pairs = [(each["metric"], each["values"]) for each in found]
        numbers = {frozenset(labels.items()): [float(value) for _, value in values] for labels, values in pairs}
        told = {labels: [value for value in values if not math.isnan(value)] for labels, values in numbers.items()}
        return {labels: values for labels, values in told.items() if values}

    def exemplars(self, promql: str) -> list[Any]:
        """Return the exemplars that Grafana would draw over a panel."""
        asked = {"start": self.ended - RANGE_SECONDS, "end": self.ended}
        return [
            each
            for series in self.get("/api/v1/query_exemplars", query=promql, **asked)
            for each in series["exemplars"]
        ]

    def label_values(self, label: str, selector: str) -> list[str]:
        """Return what ``label_values(selector, label)`` offers."""
        found: list[str] = self.get(f"/api/v1/label/{label}/values", **{"match[]": selector})
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules with their health."""
        return [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def get(self, path: str, **parameters: object) -> Any:
        """Return the ``data`` of an answer of Prometheus' API; what it finds wrong fails the test."""
        answer = send(self.port, f"{path}?{urlencode(parameters)}")
        assert answer.status == 200, answer.text
        return json.loads(answer.body)["data"]


@contextlib.contextmanager
def scraped_shop(directory: Path) -> Iterator[ScrapedShop]:
    """Serve, scrape, visit, and yield once everything has been scraped and recorded."""
    with receiving() as receiver, contextlib.ExitStack() as stack:
        well = stack.enter_context(_serving(directory / "well", {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}))
        ailing = stack.enter_context(_serving(directory / "ailing", _failing_parts(directory), workers=1))
        port = stack.enter_context(_prometheus(directory, (well, ailing)))
        shop = ScrapedShop(port, 0.0)
        eventually(lambda: len(_now(shop, "up == 1")) == 3, timeout=20, what="everything to be scraped")
        _visit((well, ailing))
        ended = time.time()
        # What was scraped before that moment may be stored after it, and two questions would get two answers.
        late = f"timestamp(up) > {ended}"
        eventually(lambda: len(_now(shop, late)) == 3, timeout=20, what="everything to be scraped once more")
        yield ScrapedShop(port, ended)


def _failing_parts(directory: Path) -> dict[str, str]:
    """Return settings with which audit lines are lost, spans are not delivered, and label values do not fit."""
    return {
        "OBSERVABILITY_AUDIT_PATH": str(directory / "no" / "such" / "directory" / "audit.log"),
        "OBSERVABILITY_MAX_LABEL_VALUES": "2",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }


@contextlib.contextmanager
def _serving(directory: Path, settings: Mapping[str, str], *, workers: int = 2) -> Iterator[int]:
    directory.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class=gthread", "--threads=4", f"--workers={workers}"]
    command += [f"--bind=127.0.0.1:{port}", f"--pythonpath={SHOP}", "shop:create_app()"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OBSERVABILITY_", "OTEL_", "SHOP_"))}
    environment = {
        **inherited,
        "OBSERVABILITY_AUDIT_PATH": str(directory / "audit.log"),
        "OBSERVABILITY_ERROR_JOURNAL_PATH": str(directory / "errors.log"),
        "OBSERVABILITY_LOG_STREAM": str(directory / "shop.jsonl"),
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "NO_PROXY": "127.0.0.1",
        **settings,
    }
    name = f"gunicorn-{directory.name}"
    with running(command, name=name, directory=directory, ready=lambda: answers(port, "/healthz"), env=environment):
        yield port


@contextlib.contextmanager
def _prometheus(directory: Path, targets: tuple[int, ...]) -> Iterator[int]:
    (directory / "rules").mkdir()
    for rules in ("recording.yaml", "alerts.yaml"):
        (directory / "rules" / rules).write_text(rules_for_a_young_shop(rules))
    addresses = [f"127.0.0.1:{target}" for target in targets]
    port = free_port()
    with prometheus_on(port, CONFIGURATION.format(targets=json.dumps(addresses), port=port), directory):
        yield port


def _visit(ports: tuple[int, ...]) -> None:
    """Send the demo's visitors, and then one more into its bug, for some seconds."""
    sys.path.insert(0, str(SHOP))
    try:
        import traffic
    finally:
        sys.path.remove(str(SHOP))
    chance = random.Random(1)
    deadline = time.monotonic() + TRAFFIC_SECONDS
    while time.monotonic() < deadline:
        for port in ports:
            visits = [*traffic.plan(VISIT_REQUESTS, chance), traffic.failing_visit()]
            traffic.drive(port, visits, lambda: None)


def _now(shop: ScrapedShop, promql: str) -> list[Any]:
    found: list[Any] = shop.get("/api/v1/query", query=promql)["result"]
    return found
