"""Requests a second and latency: the app under gunicorn, driven by wrk over loopback, in turns.

For Linux. The CPU time of the workers is told too: a busy worker's requests a second come from it, and other programs
of the machine are not in it. With several workers the peers keep their metrics in multiprocess mode of
prometheus_client's, without which a scrape would tell of one worker alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from costs import legend
from costs import overhead_ratio
from costs import quartiles
from process import environment
from process import MissingError
from process import require_program
from stacks import BARE
from stacks import PEER_STACKS
from stacks import PEERS
from table import Column
from table import Report
from views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

__all__ = ["WORKERS", "cores", "measure", "serving"]

HERE = Path(__file__).resolve().parent
START_SECONDS = 30
CONNECTIONS = 4
HTTP_ERROR = 400

WORKERS = {
    "sync": ("--worker-class", "sync"),
    "gthread": ("--worker-class", "gthread", "--threads", "4"),
    "gevent": ("--worker-class", "gevent"),
}
"""gunicorn's options for each of its worker classes."""

COLUMNS = (
    Column("stack", "stack"),
    Column("median", "requests/s", ",.0f"),
    Column("lower", "lower quartile", ",.0f"),
    Column("upper", "upper", ",.0f"),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p99_ms", "p99 ms", ".2f"),
    Column("times_peers", "times peers", ".2f"),
    Column("cpu_us", "CPU µs", ",.0f"),
    Column("cpu_times_peers", "times peers by CPU", ".2f"),
    Column("cpu_over_bare_us", "CPU over bare µs", ",.0f"),
    Column("cpu_of_peers", "of the peers", ".3f"),
)

NOTES = (
    "p50 and p99: medians of the rounds",
    "times peers: requests a second beside those of `peers`; no stack can have more of it than `bare`",
    "CPU: what the workers need for a request, gunicorn's own work with it; times peers by CPU: the ratio from that",
    "of the peers: the CPU time that the stack adds to bare Flask, beside what `peers` adds",
    "each ratio is the median of those of the rounds",
)
SEVERAL = "`peers` and its parts: with PROMETHEUS_MULTIPROC_DIR, so that a scrape tells of all workers, as ours does"


class Drive(NamedTuple):
    """What wrk saw in one round."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(
    stacks: Sequence[str],
    view: str,
    *,
    worker_class: str,
    workers: int,
    rounds: int,
    seconds: int,
    tell: Callable[[str], None],
) -> Report:
    """Serve every stack at once and drive one after the other, so many seconds each round."""
    require_program("wrk")
    if find_spec("gunicorn") is None:
        raise MissingError('gunicorn is missing: pip install -e ".[bench]"')
    driven: dict[str, list[Drive]] = defaultdict(list)
    with contextlib.ExitStack() as exit_stack:
        servers = {}
        for stack in stacks:
            tell(f"starting {stack}")
            # "." is the directory that the stack has for its files.
            env = {"PROMETHEUS_MULTIPROC_DIR": "."} if workers > 1 and stack in PEER_STACKS else {}
            servers[stack] = exit_stack.enter_context(
                serving(f"views:make_app({stack!r})", workers, worker=WORKERS[worker_class], env=env)
            )
            drive(servers[stack], view, seconds)
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}")
            for stack, server in servers.items():
                driven[stack].append(drive(server, view, seconds))
    rows = [{"view": view, **row} for row in throughput_rows(driven)]
    served_by = f"one {worker_class} worker" if workers == 1 else f"{workers} {worker_class} workers on one core"
    title = f"Throughput of the {view} view (gunicorn, {served_by}; {rounds} rounds of {seconds} s, taking turns)"
    notes = [*legend([{"stack": s} for s in stacks]), *NOTES, *([SEVERAL] if workers > 1 else [])]
    return Report(title, "requests/s", COLUMNS, rows, notes)


def throughput_rows(driven: dict[str, list[Drive]]) -> list[dict[str, Any]]:
    """Return a row for each stack; what is compared is compared round by round, since a busy machine slows one down."""
    cpu_rounds = [
        dict(zip(driven, [drive.cpu_us for drive in drives], strict=True))
        for drives in zip(*driven.values(), strict=True)
    ]
    return [
        {
            "stack": stack,
            **quartiles([d.requests_per_second for d in drives]),
            "p50_ms": statistics.median(d.p50_ms for d in drives),
            "p99_ms": statistics.median(d.p99_ms for d in drives),
            "times_peers": middle(
                d.requests_per_second / p.requests_per_second
                for d, p in zip(drives, driven.get(PEERS, []), strict=PEERS in driven)
            ),
            "cpu_us": statistics.median(d.cpu_us for d in drives),
            "cpu_times_peers": middle(each[PEERS] / each[stack] for each in cpu_rounds if PEERS in each),
            "cpu_over_bare_us": middle(each[stack] - each[BARE] for each in cpu_rounds),
            "cpu_of_peers": middle(overhead_ratio(each, stack, PEERS) for each in cpu_rounds),
        }
        for stack, drives in driven.items()
    ]


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of what could be compared."""
    compared = [value for value in values if value is not None]
    return statistics.median(compared) if compared else None


class Server:
    """A gunicorn."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    def await_answer(self) -> None:
        """Wait until the worker answers, whatever it answers."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.url, timeout=START_SECONDS).close()
            except urllib.error.HTTPError as answer:
                answer.close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"gunicorn did not answer within {START_SECONDS} s; what it said is above")

    def cpu_ns(self) -> int:
        """Return the CPU time that the threads of the workers have used."""
        pid = self._process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        threads = [thread for worker in workers for thread in Path(f"/proc/{worker}/task").glob("*/schedstat")]
        return sum(int(thread.read_text().split()[0]) for thread in threads)


@contextlib.contextmanager
def serving(
    application: str,
    workers: int = 1,
    *,
    worker: Sequence[str] = WORKERS["sync"],
    env: Mapping[str, str] | None = None,
    core: int | None = 0,
) -> Iterator[Server]:
    """Serve an app, its files in a temporary directory, to the end of the block.

    Args:
        application: what gunicorn is to serve; modules of this directory are found.
        workers: how many processes.
        worker: gunicorn's options for each.
        env: more variables; a relative path is in that directory.
        core: where all of it runs; None leaves that to the machine.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.create_server(("127.0.0.1", 0)) as listener,
        contextlib.nullcontext() if core is None else cores(core),
        subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "--pythonpath", str(HERE)),
                *("--log-level", "error", "--workers", str(workers), *worker, application),
            ],
            cwd=directory,
            pass_fds=[listener.fileno()],
            # gunicorn 25.1 and later keep a control socket there, else in the home
            env={**environment(), "XDG_RUNTIME_DIR": directory, **(env or {})},
        ) as process,
    ):
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}", process)
        try:
            server.await_answer()
            yield server
        finally:
            process.terminate()


def drive(server: Server, view: str, seconds: int) -> Drive:
    """Keep a few connections busy for so many seconds, from the last core."""
    path, status, _ = VIEWS[view]
    wrk = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    before_ns = server.cpu_ns()
    with cores(-1):
        done = subprocess.run(
            [*wrk, "--script", str(HERE / "drive.lua"), server.url + path.format(7)],
            capture_output=True,
            text=True,
            check=True,
        )
    cpu_ns = server.cpu_ns() - before_ns
    requests, errors, failures, duration_us, p50_us, p99_us = map(int, done.stdout.splitlines()[-1].split())
    if errors or bool(failures) != (status >= HTTP_ERROR):
        raise RuntimeError(f"{path} gave {failures} answers that are no success and {errors} errors")
    return Drive(requests / duration_us * 1e6, p50_us / 1000, p99_us / 1000, cpu_ns / requests / 1000)


@contextlib.contextmanager
def cores(number: int) -> Iterator[None]:
    """Start what is started in this block on one core, so that server and driver do not share theirs."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
