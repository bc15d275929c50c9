"""What an app's start costs: the import of this package beyond its dependencies, and ``init_app``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from costs import quartiles
from process import environment
from table import Column
from table import Report

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure"]

PACKAGE = "flask_signal_observability"

FOREIGN = f"""
import json, sys
import {PACKAGE}
own = sys.stdlib_module_names | {{"{PACKAGE}", "__main__"}}
print(json.dumps([name for name in sys.modules if name.partition(".")[0] not in own]))
"""
"""Prints the modules of other distributions that the package loads. The standard library's are not among them: those
that no dependency has loaded count as ours."""

START = f"""
import importlib, json, sys, time
begun_ns = time.process_time_ns()
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
started_ns = time.process_time_ns()
import {PACKAGE}
imported_ns = time.process_time_ns()
app = importlib.import_module("flask").Flask("shop")
made_ns = time.process_time_ns()
{PACKAGE}.Observability(app, log_stream="records.jsonl")
print(started_ns - begun_ns, imported_ns - started_ns, time.process_time_ns() - made_ns)
"""

STEPS = ("import of the dependencies", f"import of {PACKAGE}", "init_app")

COLUMNS = (
    Column("step", "step"),
    Column("median", "median ms", ".1f"),
    Column("lower", "lower quartile", ".1f"),
    Column("upper", "upper", ".1f"),
)

NOTES = [
    "each round is a process of its own; CPU time, the byte code compiled before",
    "the dependencies, which come first: Flask, the OpenTelemetry SDK, prometheus-client, structlog and orjson",
    "init_app: the first one of a process, on an app without views, no exporter named",
]


def measure(*, rounds: int, tell: Callable[[str], None]) -> Report:
    """Start so many processes, and tell what each step took them."""
    with tempfile.TemporaryDirectory() as directory:
        foreign = run(FOREIGN, directory)
        took = []
        for number in range(1, rounds + 1):
            tell(f"start {number} of {rounds}")
            took.append([int(ns) / 1e6 for ns in run(START, directory, foreign).split()])
    rows = [{"step": step, **quartiles(values)} for step, values in zip(STEPS, zip(*took, strict=True), strict=True)]
    return Report(f"What a start costs (CPU time, {rounds} processes)", "ms", COLUMNS, rows, NOTES)


def run(program: str, directory: str, *arguments: str) -> str:
    """Return what a program prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=directory, env=environment()
    ).stdout.strip()
