"""What an app's start costs: the import of this package beyond its dependencies, and ``init_app``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from operator import truediv
from typing import TYPE_CHECKING

from callgrind import counted
from costs import quartiles
from process import environment
from process import require_program
from table import Column
from table import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

__all__ = ["measure"]

STEPS = {
    "import of Flask": "import flask",
    "import of the other dependencies": (
        "import blinker, opentelemetry.sdk.trace, prometheus_client, structlog, orjson; app = flask.Flask('shop')"
    ),
    "import of what else it needs of them": (
        "import opentelemetry.propagate, opentelemetry.sdk.trace.export, prometheus_client.core"
    ),
    "import of flask_signal_observability": "from flask_signal_observability import Observability",
    "init_app": "Observability(app, log_stream='records.jsonl')",
    "init_app of a second app": "Observability(flask.Flask('second'), log_stream='records.jsonl')",
}
"""What a process does, one after the other. The package fetches each name when it is asked for, so the import is that
of ``Observability``; what it alone needs of the standard library counts as its own."""

# Whether a full garbage collection falls into a step is chance; what was there before a step is left out of it.
TIMED = """
import gc, sys, time
for step in sys.argv[1:]:
    gc.collect(); gc.freeze()
    begun_ns = time.process_time_ns()
    exec(step)
    print(time.process_time_ns() - begun_ns)
"""
COUNTED = "import os, sys; [exec(step, globals()) for step in sys.argv[1:]]; os._exit(0)"

NOTES = [
    "each round is a process of its own, the byte code compiled before",
    "of Flask: beside the import of Flask in the same process",
    "init_app: on an app without views, no exporter named",
]


def measure(*, rounds: int, instructions: bool, tell: Callable[[str], None]) -> Report:
    """Start so many processes and tell what each step took them; or count the instructions of each step, once."""
    if instructions:
        require_program("valgrind")
    with tempfile.TemporaryDirectory() as directory:
        env = {**environment(), "PYTHONPYCACHEPREFIX": directory}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        timed(directory, env)  # compiles
        if instructions:
            return report(counts(directory, env, tell), "instructions", "callgrind", ",.0f")
        took = []
        for number in range(1, rounds + 1):
            tell(f"start {number} of {rounds}")
            took.append(timed(directory, env))
    return report(took, "ms", f"CPU time, {rounds} processes", ".1f")


def report(took: list[list[float]], unit: str, how: str, form: str) -> Report:
    """Return the table of what the steps took in each round."""
    flask, *_ = columns_of = list(zip(*took, strict=True))
    rows = [
        {"step": step, **quartiles(values), "of_flask": statistics.median(map(truediv, values, flask))}
        for step, values in zip(STEPS, columns_of, strict=True)
    ]
    spread = (Column("lower", "lower quartile", form), Column("upper", "upper", form)) if len(took) > 1 else ()
    columns = (Column("step", "step"), Column("median", unit, form), *spread, Column("of_flask", "of Flask", ".3f"))
    return Report(f"What a start costs ({how})", unit, columns, rows, NOTES)


def timed(directory: str, env: Mapping[str, str]) -> list[float]:
    """Return the milliseconds of CPU time of each step in a new process."""
    command = [sys.executable, "-c", TIMED, *STEPS.values()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=directory, env=env)
    return [int(line) / 1e6 for line in done.stdout.split()]


def counts(directory: str, env: Mapping[str, str], tell: Callable[[str], None]) -> list[list[float]]:
    """Return the instructions of each step: what a process that does it needs more than one that stops before it."""
    totals = []
    steps = list(STEPS.values())
    for number in range(len(steps) + 1):
        tell(f"counting {number} of {len(steps)} steps")
        totals.append(counted([sys.executable, "-c", COUNTED, *steps[:number]], directory, env))
    return [[float(after - before) for before, after in pairwise(totals)]]
