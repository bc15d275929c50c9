"""What a watched signal costs, beside receivers that do the same with the libraries that people use.

python tests/benchmarks/watched.py [--sends 400] [--rounds 15]

Each row is a signal of its own, sent in one request of one process; the rows take turns, so that what slows the
machine down slows all of them. CPU time of the thread, median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
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
    return signals


def measure(rounds: int, sends: int) -> dict[tuple[str, str], float]:
    """Return microseconds a send."""
    app = Flask("shop")
    provider = TracerProvider(shutdown_on_exit=False)
    registry = CollectorRegistry()
    observability = Observability(
        app, registry=registry, tracer_provider=provider, log_stream="watched.jsonl", log_format="json"
    )
    signals = make_signals(observability, registry)
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)

    @app.get("/")
    def view() -> str:
        for key, signal in signals.items():
            send = signal.send
            started_ns = time.thread_time_ns()
            for _ in range(sends):
                send(app, **PAYLOAD)
            samples[key].append((time.thread_time_ns() - started_ns) / sends / 1000)
        return ""

    for _ in range(rounds + 1):
        app.test_client().get("/")
    return {key: statistics.median(values[1:]) for key, values in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sends", type=int, default=400, help="sends of a row in a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print the figures unrounded")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        found = measure(arguments.rounds, arguments.sends)
        os.chdir("/")
    if arguments.json:
        print(json.dumps({f"{name}/{kind}": microseconds for (name, kind), microseconds in found.items()}))
        return
    print(f"| {'outputs':<10} | watch µs | receivers µs | of them |")
    print("| ---------- | -------: | -----------: | ------: |")
    for name in ("nothing", "stopped", *WATCHES, "all four"):
        own, others = found[name, "watch"], found.get((name, "receivers"))
        ratio = "" if others is None else f"{own / others:.2f}"
        print(f"| {name:<10} | {own:>8.1f} | {'' if others is None else format(others, '.1f'):>12} | {ratio:>7} |")


if __name__ == "__main__":
    main()
