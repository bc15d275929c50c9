"""What an app's own log line costs through configure_logging, and through structlog's chain with orjson.

python tests/benchmarks/log_line.py

The chain is that of structlog's documentation for structlog and the standard library together, with the same fields. It
masks nothing and knows no request. Each side has a process of its own; the processes take turns.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import structlog

from flask_signal_observability import configure_logging

TURNS = 5
ROUNDS = 30
LINES = 300


def ours(file: str) -> None:
    """Log through this package."""
    configure_logging(level="INFO", format="json", stream=file)


def structlogs(file: str) -> None:
    """Log as structlog's documentation does."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.dict_tracebacks,
    ]
    formatter = structlog.stdlib.ProcessorFormatter
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, formatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render = structlog.processors.JSONRenderer(serializer=lambda fields, **_: orjson.dumps(fields).decode())
    handler = logging.FileHandler(file)
    handler.setFormatter(
        formatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[formatter.remove_processors_meta, render],
        )
    )
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


SIDES = {"ours": ours, "structlog": structlogs}


def measure(side: str) -> None:
    """Print the CPU time of a line in us, of structlog's logger and of the standard library's."""
    with tempfile.TemporaryDirectory() as directory:
        SIDES[side](str(Path(directory) / "lines.json"))
        events, messages = structlog.get_logger("shop"), logging.getLogger("shop.messages")
        for log in (
            lambda: events.info("order paid", number=7, amount=12.5, currency="EUR"),
            lambda: messages.info("order %s paid", 7),
        ):
            samples = []
            for _ in range(ROUNDS):
                started_ns = time.process_time_ns()
                for _ in range(LINES):
                    log()
                samples.append((time.process_time_ns() - started_ns) / LINES / 1000)
            print(statistics.median(samples))


def main() -> int:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return 0
    told: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for _ in range(TURNS):
        for side, turns in told.items():
            done = subprocess.run([sys.executable, __file__, side], capture_output=True, text=True, check=True)
            turns.append([float(line) for line in done.stdout.split()])
    for side, turns in told.items():
        event, message = (statistics.median(values) for values in zip(*turns, strict=True))
        print(f"{side:<10} {event:6.1f} us for a line of structlog's logger, {message:6.1f} us for one of logging's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
