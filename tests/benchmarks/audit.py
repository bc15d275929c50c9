"""What an audit line costs beside a bare ``os.write`` of its bytes: CPU time, in rounds that take turns.

usage: python tests/benchmarks/audit.py [--rounds N] [--lines N] [--json]

Each way writes the same access: ``line`` formats and appends it; ``sink`` is what a request pays under
``audit_requests``, Flask and Blinker taken off; ``counted`` is the same with ``flask_audit_records_total``, ``json`` in
the other format; ``chained`` and ``keyed`` are ``sink`` with a chain, beside an ``os.write`` of the sealed line;
``access_logged`` is all that its receiver does in a request, to ask Flask for the app and the user, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import flask
from prometheus_client import CollectorRegistry

from flask_signal_observability import access_logged
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
BARE, BARE_SEALED = "os.write", "os.write, sealed"
SEALED = (BARE_SEALED, "chained", "keyed")
"""What is compared with the ``os.write`` of a sealed line."""


def ways(directory: Path) -> dict[str, Callable[[int], None]]:
    """Return what is compared, by name: each writes so many lines."""
    line = format_access(NS, USER, ADDRESS, PATH)
    writer = AuditWriter(directory / "line.log", gap_line=format_line, shortened=lambda line, _: line)

    def format_and_write(count: int) -> None:
        for now_ns in moments(count):
            writer.write(format_access(now_ns, USER, ADDRESS, PATH))

    return {
        BARE: bare(directory / "bare.log", line),
        "line": format_and_write,
        "sink": through_sink(directory / "sink", metrics=False),
        "counted": through_sink(directory / "counted", metrics=True),
        "json": through_sink(directory / "json", metrics=False, audit_format="json"),
        BARE_SEALED: bare(directory / "sealed.log", line + b" #uX9-2kQa.123456." + b"m" * 40),
        "chained": through_sink(directory / "chained", metrics=False, audit_chain=True),
        "keyed": through_sink(directory / "keyed", metrics=False, audit_chain=True, audit_key="k" * 32),
        "access_logged": through_receiver(directory / "receiver"),
    }


@cache
def moments(count: int) -> tuple[int, ...]:
    """Return the times of so many requests, made once: to make them is nothing that a line costs."""
    return tuple(range(NS, NS + count * STEP_NS, STEP_NS))


def bare(path: Path, line: bytes) -> Callable[[int], None]:
    """Return the function that writes the same line, and nothing else."""
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    line += b"\n"

    def write(count: int) -> None:
        for _ in range(count):
            os.write(number, line)

    return write


def observed(directory: Path, **settings: Any) -> flask.Flask:
    """Return an app whose audit file is in a directory of its own."""
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
    return app


def through_sink(directory: Path, **settings: Any) -> Callable[[int], None]:
    """Return the function that writes requests through an app's audit sink."""
    app = observed(directory, **settings)
    (sink,) = [sink for sink in app.extensions["observability"].sinks if sink.name == "audit"]
    record = RequestRecord(app, "shop", {}, "GET", NS, 0, lambda record: None)
    record.path, record.client_address, record.peer_address, record.status = PATH, ADDRESS, ADDRESS, 200
    record.request_id, record.trace_id = "c" * 32, "7" * 32
    record.end(1)

    def write(count: int) -> None:
        for now_ns in moments(count):
            record.ended_unix_ns = now_ns
            sink.finish(record)

    return write


def through_receiver(directory: Path) -> Callable[[int], None]:
    """Return the function that tells of accesses in a view."""
    app = observed(directory, metrics=False)
    wanted = 0
    receive = next(iter(access_logged.receivers_for(app)))

    @app.get(PATH)
    def dashboard() -> str:
        for _ in range(wanted):
            receive("dashboard")
        return ""

    client = app.test_client()

    def write(count: int) -> None:
        nonlocal wanted
        wanted = count
        client.get(PATH)

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
                started_ns = time.thread_time_ns()
                write(lines)
                samples[name].append((time.thread_time_ns() - started_ns) / lines)
    return {
        name: {
            "ns": statistics.median(each),
            "of_os_write": ratio(each, samples[BARE_SEALED if name in SEALED else BARE]),
        }
        for name, each in samples.items()
    }


def ratio(each: list[float], least: list[float]) -> float:
    """Return the median of the ratios of each round."""
    return statistics.median(one / other for one, other in zip(each, least, strict=True))


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
