"""The shop under traffic, and what arrives: metrics, traces, JSON records, audit lines.

python examples/shop/demo.py            # about 300 requests, then tables, a trace and the last lines of each file
python examples/shop/demo.py --keep     # goes on serving until Ctrl-C
python examples/shop/demo.py --json     # the same as one JSON object

With OTEL_EXPORTER_OTLP_ENDPOINT set, that collector gets the spans; otherwise a small receiver of the demo's own does.
The tables are as wide as the terminal; elsewhere as COLUMNS says, or 100.
Where ``prometheus`` is installed, it scrapes the shop and answers a few queries. Everything lives in a temporary
directory and on loopback, and is ended at exit. The exit code is 0 only if the outputs agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from contextlib import ExitStack
from pathlib import Path
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
from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence
    from types import FrameType

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


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
    parser.add_argument("--port", type=int, help="the shop's port (a free one)")
    parser.add_argument("--seed", type=int, default=1, help="of the random traffic (1)")
    parser.add_argument("--keep", action="store_true", help="go on serving until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser.parse_args(arguments)


def leave(_number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: through every ``finally``."""
    sys.exit(143)


def demonstrate(options: argparse.Namespace, stack: ExitStack) -> int:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-demo-")))
    foreign = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    collector = None if foreign else stack.enter_context(receiving())
    port = options.port or processes.free_port()
    shop = stack.enter_context(processes.shop(port, directory, environment_of(directory, collector)))
    prometheus = stack.enter_context(processes.prometheus(port, directory))
    if prometheus:
        promql.await_first_scrape(prometheus)

    failing = traffic.failing_visit()
    visits = traffic.plan(options.requests - len(failing.steps), random.Random(options.seed))
    started = time.monotonic()
    with progress(sum(len(visit.steps) for visit in (*visits, failing))) as advance:
        answers = traffic.drive(port, visits, advance) + traffic.drive(port, [failing], advance)
    seconds = time.monotonic() - started

    observed = Observation(shop, directory, collector, foreign, answers, failing, seconds)
    observed.settle()
    queries = promql.ask(prometheus, observed.sent) if prometheus else {}
    if options.json:
        print(json.dumps({**observed.summary(), "prometheus": queries}))
    else:
        print_report(output(), observed, prometheus=prometheus, queries=queries, stays=options.keep)
    if options.keep:
        keep_serving(shop, directory)
    return 0 if observed.agrees else 1


def environment_of(directory: Path, collector: Collector | None) -> dict[str, str]:
    """Return the shop's environment; settings of the caller's own would change what the demo counts."""
    ours = ("OBSERVABILITY_", "GUNICORN_", "SHOP_") + (("OTEL_",) if collector else ())
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {
        "OBSERVABILITY_AUDIT_PATH": str(directory / AUDIT_FILE),
        "OBSERVABILITY_ERROR_JOURNAL_PATH": str(directory / JOURNAL_FILE),
        "OBSERVABILITY_LOG_STREAM": str(directory / LOG_FILE),
        "OBSERVABILITY_TRUSTED_PROXIES": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    if collector is not None:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
    return environment


def output() -> Console:
    """Return standard output, as wide as its terminal or COLUMNS, else wide enough for most log lines."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if known else 100)


@contextmanager
def progress(requests: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error; yields what moves it on by one request."""
    columns = (TextColumn("visiting the shop"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=requests)
        yield lambda: bar.advance(task)


def keep_serving(shop: str, directory: Path) -> None:
    print(f"\nserving {shop}, files in {directory}; Ctrl-C ends it", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
