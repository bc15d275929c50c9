"""The guide to an output of one's own: its table of fields is the records', and its program prints what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry

from flask_signal_observability import EventRecord
from flask_signal_observability import Observability
from flask_signal_observability import RequestRecord
from flask_signal_observability import Sink

GUIDE = (Path(__file__).parent.parent / "examples" / "guides" / "own-output.md").read_text("utf-8")

OF_THE_PACKAGE = {
    *("reader", "pipeline", "observed_app", "audited", "contexts_before", "open_contexts", "renders"),
    *("span", "context", "active", "details", "audit_written"),
}
"""Fields of a request that are nobody else's."""


def rows(heading: str) -> list[tuple[set[str], str]]:
    """The names in the first column of the table below a heading, and the last column."""
    (section,) = re.findall(rf"^## {heading}.*?\n(.*?)(?=^## )", GUIDE, re.MULTILINE | re.DOTALL)
    table = re.findall(r"^\| (`.*?`) \| .* \| (.*?) \|$", section, re.MULTILINE)
    return [(set(re.findall(r"`(\w+)`", names)), when) for names, when in table]


def public_names(kind: type) -> set[str]:
    properties = {name for name, value in vars(kind).items() if isinstance(value, property)}
    slots: tuple[str, ...] = getattr(kind, "__slots__", ())
    return {*slots, *properties}


@pytest.mark.parametrize(
    ("heading", "kind"), [("A request", RequestRecord), ("What happened", EventRecord)], ids=["request", "event"]
)
def test_the_table_has_every_field_once(heading: str, kind: type) -> None:
    named = [name for names, _ in rows(heading) for name in names]
    assert sorted(named) == sorted(public_names(kind) - OF_THE_PACKAGE)


class Snapshots(Sink):
    name = "snapshots"

    def __init__(self) -> None:
        self.at: dict[str, dict[str, Any]] = {}

    def open(self, record: RequestRecord) -> None:
        self._take("open", record)

    def start(self, record: RequestRecord) -> None:
        self._take("start", record)

    def finish(self, record: RequestRecord) -> None:
        self._take("finish", record)

    def _take(self, stage: str, record: RequestRecord) -> None:
        self.at[stage] = {name: getattr(record, name) for name in public_names(RequestRecord)}


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, Any]]:
    """The fields of one request at each stage."""
    app, sink = Flask("shop"), Snapshots()
    settings: dict[str, Any] = {"capture_query": True, "capture_request_headers": ("accept",)}
    Observability(app, sinks=[sink], registry=CollectorRegistry(), logs=False, audit=False, **settings)
    app.add_url_rule("/cart", view_func=lambda: "empty", methods=["POST"])
    app.test_client().post("/cart?page=2", data="x", headers={"Accept": "text/plain", "User-Agent": "browser"})
    return sink.at


@pytest.mark.parametrize("stage", ["open", "start"])
def test_what_is_said_to_be_known_from_a_stage_on_does_not_change_after_it(
    seen: dict[str, dict[str, Any]], stage: str
) -> None:
    known = {name for names, when in rows("A request") if when.partition(",")[0] == f"`{stage}`" for name in names}
    known -= {"parent", "trace_id", "span_id", "sampled"}
    assert len(known) > 8
    assert {name: seen[stage][name] for name in known} == {name: seen["finish"][name] for name in known}


def test_what_is_said_to_be_known_later_is_not_known_before(seen: dict[str, dict[str, Any]]) -> None:
    nothing = {None, "", False}  # and 0
    for names, when in rows("A request"):
        before = {"`start`": "open", "`finish`": "start"}.get(when.partition(",")[0])
        if before:
            known = {name for name in names if seen[before][name] not in nothing}
            assert known - {"ended_unix_ns"} == set()  # which is the start until then


def test_a_request_that_is_not_sampled_is_told_as_it_was_at_its_start() -> None:
    class AtItsEnd(Sink):
        name = "at its end"  # nobody has asked before

        def finish(self, record: RequestRecord) -> None:
            told.append((record.sampled, record.server_address))

    app, told = Flask("shop"), []
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    Observability(
        app, sinks=[AtItsEnd()], registry=CollectorRegistry(), tracer_provider=provider, logs=False, audit=False
    )

    @app.get("/")
    def hand_on() -> str:
        request.environ["HTTP_HOST"] = "inner.example"
        return ""

    app.test_client().get("/", base_url="http://shop.example")
    assert told == [(False, "shop.example")]


def test_the_program_prints_what_the_guide_shows(tmp_path: Path) -> None:
    (program, shown) = re.findall(r"```python\n(.*?)```\n\nThis prints\n\n```text\n(.*?)```", GUIDE, re.DOTALL)[0]
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
    ).stdout
    changing = re.compile(r"\d\.\d{3} s [0-9a-f]{32}")
    assert changing.sub("", printed) == changing.sub("", shown)
    assert changing.search(printed)
