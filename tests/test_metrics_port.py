"""What a worker tells of its metrics, and what the process at the metrics port makes of it; tests/real has the rest."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry
from werkzeug.test import Client

from flask_signal_observability import Observability
from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_port import process
from flask_signal_observability.metrics_port.answer import exposition_of
from flask_signal_observability.metrics_port.offer import Offer
from flask_signal_observability.metrics_port.offer import offer_of
from flask_signal_observability.metrics_port.offer import read
from flask_signal_observability.metrics_port.offer import written
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.group import Group
from flask_signal_observability.metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from flask_signal_observability.metrics_store.runtime import Runtime


class Worker:
    """An app that shares its metrics, and what another process would answer for it."""

    def __init__(self, directory: Path, free_port: int, **settings: Any) -> None:
        self.app = Flask("shop")
        self.registry = CollectorRegistry()
        settings = {"tracing": False, "logs": False, "audit": False, "metrics_shared": str(directory)} | settings
        Observability(self.app, registry=self.registry, metrics_port=free_port, **settings)
        self.pipeline = self.app.extensions["observability"]
        self.pipeline.metrics_server.close()
        self.app.add_url_rule("/", view_func=lambda: "hello")
        self.app.test_client().get("/")
        (self.store,) = [each for each in self.registry._collector_to_names if isinstance(each, MetricsStore)]

    @property
    def offer(self) -> Offer:
        offer = offer_of(self.pipeline)
        assert offer is not None
        assert read(written([offer])) == [offer]
        return offer

    def close(self) -> None:
        assert self.store.member is not None
        assert self.store.group is not None
        self.store.member.close()
        self.store.group.close()
        self.store.group = self.store.member = None


@pytest.fixture
def worker(tmp_path: Path, free_port: int) -> Iterator[Callable[..., Worker]]:
    with contextlib.ExitStack() as workers:

        def make(**settings: Any) -> Worker:
            worker = Worker(tmp_path / "group", free_port, **settings)
            workers.callback(worker.close)
            return worker

        yield make


def answer(worker: Worker, **environ: str) -> Any:
    group = Group(worker.offer.path, worker.offer.registry)
    with contextlib.closing(group):
        return Client(exposition_of([worker.offer], group)).get(
            "/", environ_base={"REMOTE_ADDR": "127.0.0.1", **environ}
        )


@pytest.mark.parametrize(
    "settings", [{}, {"context_signals": False}, {"metric_labels": {"tenant": ("acme",)}}], ids=str
)
def test_the_port_answers_as_a_worker_does(worker: Callable[..., Worker], settings: dict[str, Any]) -> None:
    one = worker(**settings)
    Family(Metric("orders_total", "counter", "O.", ("currency",)), one.store).child("EUR").inc(3)
    told = one.app.test_client().get("/metrics").text
    assert "orders_total" in told
    assert sorted(answer(one).text.split("\n")) == sorted(told.split("\n"))


def test_the_port_is_no_worker(worker: Callable[..., Worker]) -> None:
    one = worker()
    runtime: Runtime | None = None
    group = Group(one.offer.path, one.offer.registry)
    with contextlib.closing(group):
        exposition = exposition_of([one.offer], group)
        (store,) = [each for each in exposition.registry._collector_to_names if isinstance(each, MetricsStore)]
        runtime = store.runtime
        assert store.read(exemplars=False).counted("observability_workers") == [((), 1)]
        assert runtime is not None
        families = {family.name: family for family in runtime.collect()}
        assert {sample.labels["worker"] for sample in families["process_open_fds"].samples} == {"0"}
        assert sorted(path.name for path in Path(one.offer.path).iterdir()) == [f"{one.offer.registry}.0"]


def test_a_rule_that_only_the_app_can_ask_keeps_the_port_closed(worker: Callable[..., Worker]) -> None:
    one = worker(metrics_access=lambda request: True)
    assert one.offer.access is None
    assert answer(one).status_code == 403
    assert "function of the app" in answer(one).text


def test_the_rule_holds_at_the_port(worker: Callable[..., Worker]) -> None:
    one = worker(metrics_access="token:s3cret")
    assert answer(one).status_code == 401
    assert answer(one, HTTP_AUTHORIZATION="Bearer s3cret").status_code == 200
    assert b"s3cret" in written([one.offer])


def test_the_process_that_is_told_of_no_port_ends_and_is_started_again(worker: Callable[..., Worker]) -> None:
    owner = os.geteuid(), os.getegid()
    try:
        process.keep(owner)
        first = process._kept
        assert first is not None
        process.keep(owner)
        assert process._kept == first
        process.tell(b"[]")
        os.waitpid(first.pid, 0)
        process.tell(b"[]")  # nobody hears it
        process.keep(owner)
        second = process._kept
        assert second is not None
        assert second.runs
    finally:
        process.end()
    assert not process.is_kept()
    assert not second.runs


def test_the_process_ends_with_its_master() -> None:
    program = (
        "import os\n"
        "from flask_signal_observability.metrics_port import process\n"
        "process.keep((os.geteuid(), os.getegid()))\n"
        "print(process._kept.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(int(done.stdout))
        try:
            assert select.select([watched], [], [], 10)[0]
        finally:
            os.close(watched)
