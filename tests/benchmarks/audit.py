"""What an audit line costs beside a bare ``os.write`` of its bytes, in rounds that take turns.

usage: python tests/benchmarks/audit.py [--rounds N] [--lines N] [--json]

Each way writes the same access: ``line`` formats and appends it; ``sink`` is what a request pays under
``audit_requests``, Flask and Blinker taken off; ``counted`` is the same with ``flask_audit_records_total``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import flask
from prometheus_client import CollectorRegistry

from flask_signal_observability import Observability
from flask_signal_observability.audit.line import format_access
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.writer import AuditWriter
from flask_signal_observability.record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable

NS = 1_795_342_140_123_456_789
USER, ADDRESS, PATH = "anonymous", "127.0.0.1", "/dashboard"
STEP_NS = 123_457
"""So far are two requests apart."""


def ways(directory: Path) -> dict[str, Callable[[int], None]]:
    """Return what is compared, by name: each writes so many lines."""
    line = format_access(NS, USER, ADDRESS, PATH) + b"\n"
    bare = os.open(directory / "bare.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def write(count: int) -> None:
        for _ in range(count):
            os.write(bare, line)

    writer = AuditWriter(directory / "line.log", gap_line=format_line, shortened=lambda line, _: line)

    def format_and_write(count: int) -> None:
        now_ns = NS
        for _ in range(count):
            now_ns += STEP_NS
            writer.write(format_access(now_ns, USER, ADDRESS, PATH))

    return {
        "os.write": write,
        "line": format_and_write,
        "sink": through_sink(directory / "sink", metrics=False),
        "counted": through_sink(directory / "counted", metrics=True),
        "json": through_sink(directory / "json", metrics=False, audit_format="json"),
    }


def through_sink(directory: Path, **settings: Any) -> Callable[[int], None]:
    """Return the function that writes requests through an app's audit sink."""
    directory.mkdir()
    app = flask.Flask("shop")
    Observability(
        app,
        registry=CollectorRegistry(),
        tracing=False,
        logs=False,
        audit_requests=True,
        audit_path=directory / "audit.log",
        error_journal_path=directory / "journal.log",
        **settings,
    )
    (sink,) = [sink for sink in app.extensions["observability"].sinks if sink.name == "audit"]
    record = RequestRecord(app, "shop", {}, "GET", NS, 0, lambda record: None)
    record.path, record.client_address, record.peer_address, record.status = PATH, ADDRESS, ADDRESS, 200
    record.request_id, record.trace_id = "c" * 32, "7" * 32
    record.end(1)

    def write(count: int) -> None:
        for _ in range(count):
            record.ended_unix_ns += STEP_NS
            sink.finish(record)

    return write


def measure(rounds: int, lines: int) -> dict[str, dict[str, float]]:
    """Return nanoseconds a line and the ratio to ``os.write`` of the same round, both medians."""
    with tempfile.TemporaryDirectory() as directory:
        all_ways = ways(Path(directory))
        samples: dict[str, list[float]] = {name: [] for name in all_ways}
        for write in all_ways.values():
            write(lines)
        for _ in range(rounds):
            for name, write in all_ways.items():
                started_ns = time.perf_counter_ns()
                write(lines)
                samples[name].append((time.perf_counter_ns() - started_ns) / lines)
    return {
        name: {
            "ns": statistics.median(each),
            "of_os_write": statistics.median(one / bare for one, bare in zip(each, samples["os.write"], strict=True)),
        }
        for name, each in samples.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--lines", type=int, default=500, help="lines a round (default: 500)")
    parser.add_argument("--json", action="store_true", help="print the figures unrounded")
    options = parser.parse_args()
    measured = measure(options.rounds, options.lines)
    if options.json:
        print(json.dumps(measured))
        return 0
    print("| way | ns a line | of os.write |\n| --- | --------: | ----------: |")
    for name, figures in measured.items():
        print(f"| {name} | {figures['ns']:,.0f} | {figures['of_os_write']:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
