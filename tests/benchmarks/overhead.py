"""What observing a request costs: bare Flask, this package, and the tools that people use today, side by side.

It installs nothing. The peers and gunicorn come with  pip install -e ".[bench]" , valgrind and wrk from Debian.
Nothing is exported; records and audit lines go to files in a temporary directory.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import callgrind
import latency
import memory
import peers
import plot
import start
import throughput
import timing
from process import MissingError
from stacks import BARE
from stacks import PEER_STACKS
from stacks import PEERS
from stacks import STACKS
from table import as_json
from table import as_markdown
from views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from table import Report

EXAMPLES = """
examples:
  python tests/benchmarks/overhead.py                               # CPU time, every stack and view: two minutes
  python tests/benchmarks/overhead.py --stacks 'ours*' --views json --rounds 50
  python tests/benchmarks/overhead.py --instructions --requests 300 # what repeats: a minute a stack
  python tests/benchmarks/overhead.py --http --rounds 20            # gunicorn and wrk; --worker-class gevent
  python tests/benchmarks/overhead.py --memory                      # bytes that stay after 50 000 requests
  python tests/benchmarks/overhead.py --start                       # import and init_app; --instructions counts them
  python tests/benchmarks/overhead.py --latency                     # what a scrape adds to p99: gunicorn's threads
  python tests/benchmarks/overhead.py --views json --plot cost.svg  # a picture beside the table
  python tests/benchmarks/overhead.py --scrape --help               # /metrics, by scrape.py
"""

SCRAPE = Path(__file__).with_name("scrape.py")
HTTP_STACKS = (BARE, "ours", PEERS)
MEMORY_STACKS = (BARE, "ours")


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "--scrape" in arguments:
        return scrape([argument for argument in arguments if argument != "--scrape"])
    options = parse(arguments)
    try:
        if not (options.start or options.latency):
            check_peers(options.stacks)
        report = measure(options)
        if options.plot:
            plot.draw(report, options.plot)
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 2
    print(as_json(report) if options.json else as_markdown(report))
    return 0


def measure(options: argparse.Namespace) -> Report:
    """Run the chosen mode."""
    stacks, views = options.stacks, options.views
    if options.http:
        often: dict[str, int] = {"workers": options.workers, "rounds": options.rounds or 10, "seconds": options.seconds}
        view = (views or ["json"])[0]
        return throughput.measure(stacks, view, worker_class=options.worker_class, **often, tell=tell)
    if options.memory:
        return memory.measure(stacks, views or list(VIEWS), requests=options.requests or 50_000, tell=tell)
    if options.latency:
        return latency.measure(rounds=options.rounds or 10, seconds=options.seconds, tell=tell)
    if options.start:
        return start.measure(rounds=options.rounds or 10, instructions=options.instructions, tell=tell)
    if options.instructions:
        requests, jobs = options.requests or 500, options.jobs
        return callgrind.measure(stacks, views or ["json"], requests=requests, jobs=jobs, tell=tell)
    return timing.measure(
        stacks, views or list(VIEWS), rounds=options.rounds or 25, requests=options.requests or 50, tell=tell
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instructions", action="store_true", help="callgrind's counts in place of CPU time")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--http", action="store_true", help="requests a second and latency of one view: gunicorn and wrk")
    mode.add_argument("--memory", action="store_true", help="bytes that a request keeps after it ended")
    mode.add_argument("--start", action="store_true", help="time of the import and of init_app")
    mode.add_argument("--latency", action="store_true", help="p99 of requests with and without a scrape meanwhile")
    mode.add_argument("--scrape", action="store_true", help="time of /metrics; what else is said is for scrape.py")
    parser.add_argument(
        "--stacks",
        type=lambda text: names(text, STACKS),
        metavar="A,B",
        help=f"{BARE} and these of {', '.join(STACKS)}; * as in a shell (all; {', '.join(HTTP_STACKS)} with --http)",
    )
    parser.add_argument(
        "--views",
        type=lambda text: names(text, VIEWS),
        metavar="A,B",
        help=f"these of {', '.join(VIEWS)} (all; json with --instructions and --http)",
    )
    parser.add_argument("--requests", type=positive, metavar="N", help="at a time (50; 500, 50000 with --memory)")
    parser.add_argument(
        "--rounds", type=positive, metavar="N", help="how often (25; 10 where a server or a start is measured)"
    )
    parser.add_argument(
        "--seconds", type=positive, default=1, metavar="N", help="of a round with --http, --latency (1)"
    )
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="of gunicorn's with --http (1)")
    parser.add_argument("--worker-class", choices=throughput.WORKERS, default="sync", help="gunicorn's, --http (sync)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes at a time, --instructions (1)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a Markdown table")
    parser.add_argument("--plot", type=picture, metavar="FILE", help="also draw it, as .svg or .png (matplotlib)")
    options = parser.parse_args(arguments)
    if options.instructions and (options.http or options.memory or options.latency):
        parser.error("--instructions are counted of requests, and with --start of a start")
    if options.plot and (options.memory or options.start or options.latency):
        parser.error("--plot draws what a request costs; --memory, --start and --latency have no picture")
    chosen = options.stacks or (HTTP_STACKS if options.http else MEMORY_STACKS if options.memory else STACKS)
    options.stacks = [stack for stack in STACKS if stack in chosen or stack == BARE]
    return options


def names(text: str, known: Iterable[str]) -> list[str]:
    """Return the names that match one of these patterns; each must match one."""
    patterns = text.split(",")
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in known):
            raise argparse.ArgumentTypeError(f"{pattern!r} is none of {', '.join(known)}")
    return [name for name in known if any(fnmatch(name, pattern) for pattern in patterns)]


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in {".svg", ".png"}:
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .svg nor in .png")
    return path


def check_peers(stacks: Sequence[str]) -> None:
    """Raise if one of these stacks is not installed."""
    needed = [stack for stack in stacks if stack in PEER_STACKS]
    missing = peers.missing()
    if needed and missing:
        raise MissingError(
            f"{', '.join(missing)} is missing, which {', '.join(needed)} need: "
            """pip install -e ".[bench]", or leave the peers out: --stacks 'ours*'"""
        )


def tell(progress: str) -> None:
    """Say on standard error what is being done; on a terminal in one line, which the table takes the place of."""
    before, after = ("\r\033[K", "\r") if sys.stderr.isatty() else ("", "\n")
    print(f"{before}{progress} …", end=after, file=sys.stderr, flush=True)


def scrape(arguments: list[str]) -> int:
    """Run scrape.py with the other arguments."""
    if not SCRAPE.exists():
        print(f"there is no {SCRAPE.name} beside {Path(__file__).name}", file=sys.stderr)
        return 2
    sys.argv = [str(SCRAPE), *arguments]
    runpy.run_path(str(SCRAPE), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
