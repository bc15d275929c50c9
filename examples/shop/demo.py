"""The shop under traffic, and what arrives: metrics, traces, JSON records, audit lines.

python examples/shop/demo.py            # about 300 requests, then a screen: routes, and one failure in every output
python examples/shop/demo.py --serve    # goes on serving, and being visited, until Ctrl-C
python examples/shop/demo.py --stack    # and starts Prometheus and a trace UI, where they are there or can be had
python examples/shop/demo.py --json     # what the screen says as one JSON object
python examples/shop/demo.py --svg examples/pictures/demo.svg    # and draws the screen

With OTEL_EXPORTER_OTLP_ENDPOINT set, that collector gets the spans; otherwise a small receiver of the demo's own does.
The screen is as wide as the terminal; elsewhere as COLUMNS says, or 100. Everything lives in a temporary directory and
on loopback, and is ended at exit; the trace UI and its Node.js are kept in the user's cache. The exit code is 0 only if
the outputs agree.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from contextlib import ExitStack
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from typing import TYPE_CHECKING

import processes
import promql
import traffic
from collector import Collector
from collector import receiving
from observation import AUDIT_FILE
from observation import JOURNAL_FILE
from observation import LOG_FILE
from observation import Observation
from report import print_report
from report import Served
from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from stack import devtools
from stack import prometheus
from stack import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SHOP_PORT, PROMETHEUS_PORT, TRACE_UI_PORT = 8000, 9090, 4318
PAUSE_SECONDS = 0.3
"""Between visits, once the report is there."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, leave)
    try:
        with ExitStack() as stack:
            return demonstrate(options, stack)
    except KeyboardInterrupt:
        return 130


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Drive the example shop and show what its observability tells.")
    parser.add_argument(
        "--requests",
        type=int,
        default=300,
        metavar="N",
        help="how many requests to make, the last of which fails (300)",
    )
    parser.add_argument("--port", type=int, help=f"the shop's port (a free one; {SHOP_PORT} where it goes on serving)")
    parser.add_argument("--seed", type=int, default=1, help="of the random traffic (1)")
    parser.add_argument("--serve", action="store_true", help="go on serving until Ctrl-C")
    parser.add_argument(
        "--stack",
        action="store_true",
        help="start Prometheus from the PATH, and a trace UI that npm fetches, and go on serving",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the screen, and end")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the screen, too")
    options = parser.parse_args(arguments)
    options.serve = (options.serve or options.stack) and not options.json
    return options


def leave(_number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: through every ``finally``."""
    sys.exit(143)


def demonstrate(options: argparse.Namespace, stack: ExitStack) -> int:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-demo-")))
    foreign = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    collector = None if foreign else stack.enter_context(receiving())
    trace_ui = start_trace_ui(options, stack, directory, collector)
    port = take_port("shop", options.port or (SHOP_PORT if options.serve else 0))
    shop = stack.enter_context(processes.shop(port, directory, environment_of(directory, collector)))
    scraper = start_prometheus(options, stack, directory, port)

    answers, failing, seconds = visit(options, port)
    observed = Observation(shop, directory, collector, foreign, answers, failing, seconds)
    observed.settle()
    queries = promql.ask(scraper, observed.sent) if scraper else {}
    if options.json:
        print(json.dumps({**observed.summary(), "prometheus": queries, "trace_ui": trace_ui}))
    elif options.serve:
        with suppress(KeyboardInterrupt):  # the end, from the moment on that the screen says so
            show(options, observed, Served(shop, scraper, trace_ui))
            keep_serving(port, collector)
    else:
        show(options, observed, Served())
    return 0 if observed.agrees else 1


def visit(options: argparse.Namespace, port: int) -> tuple[list[traffic.Answer], traffic.Visit, float]:
    """Make the requests; return the answers, the visit that fails, and how many seconds it took."""
    failing = traffic.failing_visit()
    visits = traffic.plan(options.requests - len(failing.steps), random.Random(options.seed))
    started = time.monotonic()
    with progress(sum(len(visit.steps) for visit in (*visits, failing))) as advance:
        answers = traffic.drive(port, visits, advance) + traffic.drive(port, [failing], advance)
    return answers, failing, time.monotonic() - started


def start_trace_ui(
    options: argparse.Namespace, stack: ExitStack, directory: Path, collector: Collector | None
) -> str | None:
    if not options.stack:
        return None
    if collector is None:
        return say("no trace UI: the spans go to the collector that the environment names")
    say("starting the trace UI, which npm fetches the first time")
    ports = take_port("trace UI", TRACE_UI_PORT), processes.free_port()
    collector.onward = entered(stack, devtools(*ports, directory))
    return collector.onward


def start_prometheus(options: argparse.Namespace, stack: ExitStack, directory: Path, port: int) -> str | None:
    if not options.stack:
        return None
    return entered(stack, prometheus(port, take_port("Prometheus", PROMETHEUS_PORT), directory))


def entered(stack: ExitStack, service: AbstractContextManager[str]) -> str | None:
    """Start ``service`` until the demo ends; where it cannot be had, say so and go on without."""
    try:
        return stack.enter_context(service)
    except UnavailableError as reason:
        return say(str(reason))


def take_port(name: str, preferred: int) -> int:
    port = processes.free_port(preferred)
    if preferred not in (0, port):
        say(f"port {preferred} is taken: the {name} is on {port}")
    return port


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def environment_of(directory: Path, collector: Collector | None) -> dict[str, str]:
    """Return the shop's environment; settings of the caller's own would change what the demo counts."""
    ours = ("OBSERVABILITY_", "GUNICORN_", "SHOP_") + (("OTEL_",) if collector else ())
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {
        "OBSERVABILITY_AUDIT_FORMAT": "json",
        "OBSERVABILITY_AUDIT_PATH": str(directory / AUDIT_FILE),
        "OBSERVABILITY_ERROR_JOURNAL_PATH": str(directory / JOURNAL_FILE),
        "OBSERVABILITY_LOG_STREAM": str(directory / LOG_FILE),
        "OBSERVABILITY_TRACE_RESPONSE": "true",
        "OBSERVABILITY_TRUSTED_PROXIES": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    if collector is not None:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
    return environment


def output(record: bool) -> Console:
    """Return standard output, as wide as its terminal or COLUMNS, else wide enough for most log lines."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if known else 100, record=record)


@contextmanager
def progress(requests: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error; yields what moves it on by one request."""
    columns = (TextColumn("visiting the shop"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=requests)
        yield lambda: bar.advance(task)


def show(options: argparse.Namespace, observed: Observation, served: Served) -> None:
    console = output(options.svg is not None)
    print_report(console, observed, served)
    if options.svg:
        drawn = console.export_svg(title="python examples/shop/demo.py")
        # Whoever looks at it shall not fetch fonts from somewhere.
        options.svg.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")


def keep_serving(port: int, collector: Collector | None) -> NoReturn:
    """Let visitors come, one after the other, until Ctrl-C.

    Without traces: the trace UI shows the last hundred, and is to keep the failing request's and those of who reads it.
    """
    if collector is not None:
        collector.keeps = False
    chance = random.Random()
    while True:
        with suppress(OSError, http.client.HTTPException):
            traffic.drive(port, traffic.unsampled(traffic.plan(3, chance)), lambda: None)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
