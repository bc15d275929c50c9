"""What a watched signal costs, beside receivers that do the same with the libraries that people use.

python tests/benchmarks/watched.py [--sends 400] [--rounds 15] [--instructions]

Each row is a signal of its own, sent in one request of one process; the rows take turns, so that what slows the
machine down slows all of them. CPU time of the thread, median of the rounds. The floor is a receiver that does the
least by hand: ``add_event`` on the current span, ``inc`` of a counter that is at hand, and two ``os.write`` of lines
that are ready. ``--instructions`` counts with callgrind, without what the kernel does.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import orjson
import structlog
from blinker import Namespace
from blinker import Signal
from flask import Flask
from flask import g
from flask import request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from process import require_program
from prometheus_client import CollectorRegistry
from prometheus_client import Counter

from flask_signal_observability import Observability

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = {"order_id": "o-1234", "amount": 12.5, "currency": "EUR"}
CURRENCIES = ("EUR", "USD")
WATCHES: dict[str, dict[str, Any]] = {
    "count": {"count": "counted_total", "labels": {"currency": CURRENCIES}},
    "span event": {"span_event": "order.paid"},
    "log": {"log": "info"},
    "audit": {"audit": "{user}@{ip} paid {amount}"},
}
PROGRAM = Path(__file__).resolve()
FLOOR = ("all four", "floor")
LINES = b"x" * 290 + b"\n", b"x" * 67 + b"\n"
"""As long as the record and the audit line."""
MARK = "os_getppid"
"""What CPython calls ``os.getppid`` in C."""
WARM_UP = 150
"""Sends: more events than a span keeps."""
ALL = {key: value for watch in WATCHES.values() for key, value in watch.items()} | {"count": "all_total"}


def peers(registry: CollectorRegistry) -> dict[str, Callable[..., None]]:
    """Receivers of the kind that the seed shows, one for each output."""
    counter = Counter("paid", "paid", ["currency"], registry=registry)
    logger = structlog.wrap_logger(
        structlog.BytesLogger(open("peer.jsonl", "ab")),  # noqa: SIM115, PTH123
        [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
    )

    def count(_sender: object, **payload: Any) -> None:
        counter.labels(payload["currency"]).inc()

    def span_event(_sender: object, **payload: Any) -> None:
        trace.get_current_span().add_event("order.paid", payload)

    def log(_sender: object, **payload: Any) -> None:
        logger.info("order-paid", **payload)

    def audit(_sender: object, **payload: Any) -> None:
        user = getattr(g, "current_user", "anonymous")
        with open("peer.log", "a") as file:  # noqa: PTH123
            file.write(f"[{time.time()}] {user}@{request.remote_addr} paid {payload['amount']}\n")

    return {"count": count, "span event": span_event, "log": log, "audit": audit}


def by_hand(registry: CollectorRegistry) -> Callable[..., None]:
    """Return what nothing that counts, adds an event and writes two lines can be cheaper than."""
    inc = Counter("least", "least", ["currency"], registry=registry).labels("EUR").inc
    log, audit = (os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("least.jsonl", "least.log"))

    def receive(_sender: object, **payload: Any) -> None:
        inc()
        trace.get_current_span().add_event("order.paid", payload)
        os.write(log, LINES[0])
        os.write(audit, LINES[1])

    return receive


def make_signals(observability: Observability, registry: CollectorRegistry) -> dict[tuple[str, str], Signal]:
    namespace = Namespace()
    signals: dict[tuple[str, str], Signal] = {}
    for name, options in {**WATCHES, "all four": ALL}.items():
        signals[name, "watch"] = namespace.signal(name)
        observability.watch(signals[name, "watch"], **options)
    receivers = peers(registry)
    for name in (*receivers, "all four"):
        signal = signals[name, "receivers"] = Signal()
        for each, receiver in receivers.items():
            if name in (each, "all four"):
                signal.connect(receiver, weak=False)
    signals["nothing", "watch"] = Signal()
    stopped = signals["stopped", "watch"] = namespace.signal("stopped")
    observability.watch(stopped, log="info").stop()
    signals["nothing", "receivers"] = Signal()
    signals["nothing", "receivers"].connect(lambda _sender, **_: None, weak=False)
    signals[FLOOR] = Signal()
    signals[FLOOR].connect(by_hand(registry), weak=False)
    return signals


def in_a_request(work: Callable[[Flask, dict[tuple[str, str], Signal]], None], *, times: int) -> None:
    """Do it in so many requests of an observed app."""
    app = Flask("shop")
    provider = TracerProvider(shutdown_on_exit=False)
    registry = CollectorRegistry()
    observability = Observability(
        app, registry=registry, tracer_provider=provider, log_stream="watched.jsonl", log_format="json"
    )
    signals = make_signals(observability, registry)

    @app.get("/")
    def view() -> str:
        work(app, signals)
        return ""

    for _ in range(times):
        app.test_client().get("/")


def measure(rounds: int, sends: int) -> dict[tuple[str, str], float]:
    """Return microseconds a send."""
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)

    def time_each(app: Flask, signals: dict[tuple[str, str], Signal]) -> None:
        for key, signal in signals.items():
            send = signal.send
            started_ns = time.thread_time_ns()
            for _ in range(sends):
                send(app, **PAYLOAD)
            samples[key].append((time.thread_time_ns() - started_ns) / sends / 1000)

    in_a_request(time_each, times=rounds + 1)
    return {key: statistics.median(values[1:]) for key, values in samples.items()}


def send_marked(sends: int) -> None:
    """Print the rows, and send each so often between two calls that callgrind can see; both after a warm-up."""

    def work(app: Flask, signals: dict[tuple[str, str], Signal]) -> None:
        print(json.dumps(list(signals)))
        for times, mark in ((WARM_UP, int), (sends, os.getppid)):
            for signal in signals.values():
                send = signal.send
                gc.collect()
                mark()
                for _ in range(times):
                    send(app, **PAYLOAD)
                mark()

    in_a_request(work, times=1)


def count(sends: int) -> dict[tuple[str, str], float]:
    """Return instructions a send: what callgrind counts between the marks."""
    require_program("valgrind")
    command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={Path.cwd() / 'parts'}"]
    command += [sys.executable, str(PROGRAM), "--marked", "--sends", str(sends)]
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    rows = [(name, kind) for name, kind in json.loads(done.stdout)]
    parts = {}
    for path in Path.cwd().glob("parts.*"):
        numbers = dict(re.findall(r"^(part|totals): (\d+)", path.read_text(), re.MULTILINE))
        parts[int(numbers["part"])] = int(numbers["totals"])
    if len(parts) < 2 * len(rows):
        raise RuntimeError(f"callgrind saw no {MARK}: this Python has no symbols")
    return {row: parts[2 * number + 2] / sends for number, row in enumerate(rows)}


def print_table(found: dict[tuple[str, str], float], unit: str, form: str) -> None:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    print(f"| {f'outputs, {unit}':<21} |   watch |   floor | of it | receivers | of them |")
    print("| --------------------- | ------: | ------: | ----: | --------: | ------: |")
    for name in ("nothing", "stopped", *WATCHES, "all four"):
        own, floor, others = (found.get((name, kind)) for kind in ("watch", "floor", "receivers"))
        if own is not None:
            of_floor, of_others = (None if other is None else own / other for other in (floor, others))
            print(
                f"| {name:<21} | {shown(own, form):>7} | {shown(floor, form):>7} | {shown(of_floor, '.2f'):>5} | "
                f"{shown(others, form):>9} | {shown(of_others, '.2f'):>7} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sends", type=int, default=400, help="sends of a row in a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--instructions", action="store_true", help="count them, with valgrind")
    parser.add_argument("--marked", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the figures unrounded")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        found = {}
        if arguments.marked:
            send_marked(arguments.sends)
        elif arguments.instructions:
            found = count(arguments.sends)
        else:
            found = measure(arguments.rounds, arguments.sends)
        os.chdir("/")
    if arguments.json:
        print(json.dumps({f"{name}/{kind}": figure for (name, kind), figure in found.items()}))
    elif found:
        print_table(found, *(("instructions", ",.0f") if arguments.instructions else ("µs", ".1f")))


if __name__ == "__main__":
    main()
