"""Requests a second and latency: the app under gunicorn with one worker, driven by wrk over loopback, in turns.

For Linux. The worker's CPU time is told too: a busy worker's requests a second come from it, and other programs of the
machine are not in it.
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
from stacks import PEERS
from table import Column
from table import Report
from views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

__all__ = ["cores", "measure", "serving"]

HERE = Path(__file__).resolve().parent
START_SECONDS = 30
CONNECTIONS = 4
ONE_WORKER = ("--worker-class", "sync", "--workers", "1")
HTTP_ERROR = 400

COLUMNS = (
    Column("stack", "stack"),
    Column("median", "requests/s", ",.0f"),
    Column("lower", "lower quartile", ",.0f"),
    Column("upper", "upper", ",.0f"),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p99_ms", "p99 ms", ".2f"),
    Column("times_peers", "times peers", ".2f"),
    Column("over_bare_us", "over bare µs", ",.0f"),
    Column("of_peers", "of the peers", ".3f"),
    Column("cpu_us", "CPU µs", ",.0f"),
    Column("cpu_of_peers", "CPU of the peers", ".3f"),
)

NOTES = (
    "p50 and p99: medians of the rounds",
    "times peers: requests a second beside those of `peers`",
    "over bare: what the stack adds to the time of a request, from requests a second",
    "CPU: what the worker needs for a request",
    "of the peers, CPU of the peers: what the stack adds to these, beside what `peers` adds",
)


class Drive(NamedTuple):
    """What wrk saw in one round."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(stacks: Sequence[str], view: str, *, rounds: int, seconds: int, tell: Callable[[str], None]) -> Report:
    """Serve every stack at once and drive one after the other, so many seconds each round."""
    require_program("wrk")
    if find_spec("gunicorn") is None:
        raise MissingError('gunicorn is missing: pip install -e ".[bench]"')
    driven: dict[str, list[Drive]] = defaultdict(list)
    with contextlib.ExitStack() as exit_stack:
        servers = {}
        for stack in stacks:
            tell(f"starting {stack}")
            servers[stack] = exit_stack.enter_context(serving(f"views:make_app({stack!r})"))
            drive(servers[stack], view, seconds)
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}")
            for stack, server in servers.items():
                driven[stack].append(drive(server, view, seconds))
    rows = [{"view": view, **row} for row in throughput_rows(driven)]
    title = f"Throughput of the {view} view (gunicorn, one sync worker; {rounds} rounds of {seconds} s, taking turns)"
    return Report(title, "requests/s", COLUMNS, rows, [*legend([{"stack": s} for s in stacks]), *NOTES])


def throughput_rows(driven: dict[str, list[Drive]]) -> list[dict[str, Any]]:
    """Return a row for each stack; overhead is compared as the time that one request takes."""
    medians = {stack: statistics.median(d.requests_per_second for d in drives) for stack, drives in driven.items()}
    request_us = {stack: 1e6 / median for stack, median in medians.items()}
    cpu_us = {stack: statistics.median(d.cpu_us for d in drives) for stack, drives in driven.items()}
    return [
        {
            "stack": stack,
            **quartiles([d.requests_per_second for d in drives]),
            "p50_ms": statistics.median(d.p50_ms for d in drives),
            "p99_ms": statistics.median(d.p99_ms for d in drives),
            "times_peers": medians[stack] / medians[PEERS] if PEERS in medians else None,
            "over_bare_us": request_us[stack] - request_us[BARE],
            "of_peers": overhead_ratio(request_us, stack, PEERS),
            "cpu_us": cpu_us[stack],
            "cpu_of_peers": overhead_ratio(cpu_us, stack, PEERS),
        }
        for stack, drives in driven.items()
    ]


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
    options: Sequence[str] = ONE_WORKER,
    *,
    env: Mapping[str, str] | None = None,
    core: int | None = 0,
) -> Iterator[Server]:
    """Serve an app, its files in a temporary directory, to the end of the block.

    Args:
        application: what gunicorn is to serve; modules of this directory are found.
        options: gunicorn's.
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
                *("--log-level", "error", *options, application),
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
