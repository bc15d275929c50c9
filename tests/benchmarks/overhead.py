"""Print what observing a small JSON view costs, in instructions a request: bare Flask, this package, the peers' stack.

usage: python tests/benchmarks/overhead.py [--requests N]

Instructions are counted by callgrind (Debian's package valgrind), as the difference of two runs of one process that
serve a different number of requests: they repeat where time on a shared machine swings by two. The peers come with
pip install -e ".[bench]"; everything is sampled, nothing is exported.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

from flask import Flask
from flask import g
from flask import request
from flask import request_finished
from werkzeug.test import create_environ

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 100


def bare(app: Flask) -> None:
    """Flask alone."""


def ours(app: Flask) -> None:
    """This package, all four outputs."""
    from flask_signal_observability import Observability

    Observability(app, audit_requests=True, log_stream="records.jsonl", log_format="json", tracer_provider=provider())


def peers(app: Flask) -> None:
    """What PEERS calls the usual stack: three libraries, and the audit receiver that this project grew from."""
    import orjson
    import structlog
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from prometheus_flask_exporter import PrometheusMetrics

    trace.set_tracer_provider(provider())
    FlaskInstrumentor().instrument_app(app)
    PrometheusMetrics(app, group_by="url_rule")
    log = structlog.wrap_logger(
        structlog.BytesLogger(Path("records.jsonl").open("ab", buffering=0)),  # noqa: SIM115 - as long as the process
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
    )

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def tell(response: Any) -> Any:
        context = trace.get_current_span().get_span_context()
        log.info(
            "request",
            method=request.method,
            path=request.path,
            endpoint=request.endpoint,
            status=response.status_code,
            duration=time.perf_counter() - g.started,
            client=request.remote_addr,
            trace_id=f"{context.trace_id:032x}",
            span_id=f"{context.span_id:016x}",
        )
        return response

    @request_finished.connect_via(app)
    def persist(sender: Flask, **_: object) -> None:
        now = datetime.now(timezone.utc).isoformat()
        client = request.headers.get("X-Forwarded-For", request.remote_addr)
        with Path("access_audit.log").open("a") as file:
            file.write(f"[{now}] {getattr(g, 'current_user', 'anonymous')}@{client} accessed {request.path}\n")

    app.extensions["benchmark"] = persist  # Blinker holds it weakly


def provider() -> Any:
    """Return a TracerProvider that samples everything and hands it to a processor that does nothing."""
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(type("Nothing", (SpanProcessor,), {})())
    return provider


STACKS: dict[str, Callable[[Flask], None]] = {"bare": bare, "ours": ours, "peers": peers}


def serve(stack: str, requests: int) -> None:
    """Serve so many requests as a server would."""
    app = Flask("shop")
    app.add_url_rule("/api/item/<int:number>", view_func=lambda number: {"id": number, "name": "thing", "price": 12.5})
    STACKS[stack](app)
    environ = create_environ("/api/item/7", headers={"User-Agent": "benchmark/1"})
    for _ in range(requests):
        body = app(dict(environ), lambda status, headers, exc_info=None: lambda data: None)
        for _ in body:
            pass
        body.close()  # type: ignore[attr-defined]


def instructions(stack: str, requests: int) -> int:
    """Return what callgrind counts of a process that serves so many requests."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable),
                *(str(Path(__file__).resolve()), "--serve", stack, "--requests", str(requests)),
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=directory,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    (collected,) = re.findall(r"Collected : (\d+)", done.stderr)
    return int(collected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500, help="requests counted for each stack (default: 500)")
    parser.add_argument("--serve", choices=STACKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.requests)
        return
    if shutil.which("valgrind") is None:
        parser.exit(2, "valgrind is missing: apt-get install valgrind\n")
    counts = {}
    for stack in STACKS:
        print(f"counting {stack} …", file=sys.stderr)
        more = instructions(stack, WARM_UP + options.requests)
        counts[stack] = (more - instructions(stack, WARM_UP)) // options.requests
    over = {stack: count - counts["bare"] for stack, count in counts.items()}
    print(f"{'stack':8}{'instructions a request':>24}{'over bare Flask':>18}{'of the peers':>14}")
    for stack, count in counts.items():
        print(f"{stack:8}{count:24,}{over[stack]:18,}{over[stack] / over['peers']:14.3f}")


if __name__ == "__main__":
    main()
