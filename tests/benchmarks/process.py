"""A stack in a process of its own, that serves when it is told to and says what that took.

python tests/benchmarks/process.py STACK    # reads lines such as "json 100"; answers each with nanoseconds and bytes

"freeze" and "remember" are answered with nothing, "grown" with the lines of code that have allocated most since.

The nanoseconds are of this process' CPU time: other programs of the machine are not in them. The bytes are what Python
has allocated and not freed, 0 unless PYTHONTRACEMALLOC is set.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import NamedTuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

__all__ = ["FREEZE", "MissingError", "Took", "Worker", "command", "environment", "require_program", "working"]


FREEZE = "freeze\n"
"""Asks a process to leave what is there by now out of every garbage collection: whether a full one falls into a run is
chance, and it would be a tenth of what is measured."""


GROWN_LINES = 5


class MissingError(Exception):
    """Something that the benchmark needs is not installed; the message says how to get it."""


class Took(NamedTuple):
    """What serving some requests took."""

    cpu_ns: int
    kept_bytes: int


class Worker:
    """The other end of a stack's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def serve(self, view: str, requests: int) -> Took:
        """Serve so many requests; raise where the process failed, its error is on standard error."""
        assert self._process.stdin
        assert self._process.stdout
        print(view, requests, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        if not answer:
            raise RuntimeError(f"the process ended while it served {view}")
        return Took(*map(int, answer))

    def remember(self) -> None:
        """Have the process take down what is allocated now."""
        assert self._process.stdin
        print("remember", file=self._process.stdin, flush=True)

    def grown(self) -> list[str]:
        """Return which lines of code have allocated most since, and not freed it."""
        assert self._process.stdin
        assert self._process.stdout
        print("grown", file=self._process.stdin, flush=True)
        lines: list[str] = json.loads(self._process.stdout.readline())
        return lines


@contextlib.contextmanager
def working(stack: str, env: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """Run a stack's process, its files in a temporary directory, to the end of the block."""
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            command(stack),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
            env={**environment(), **(env or {})},
        ) as process,
    ):
        try:
            yield Worker(process)
        finally:
            process.terminate()


def command(stack: str) -> list[str]:
    """Return how a stack's process is started."""
    return [sys.executable, str(Path(__file__).resolve()), stack]


def environment() -> dict[str, str]:
    """Return the caller's environment without what would change a stack; dicts and sets are always in one order."""
    settings = ("OBSERVABILITY_", "OTEL_", "PROMETHEUS_", "GUNICORN_", "PYTHONTRACEMALLOC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return {**kept, "PYTHONHASHSEED": "0"}


def require_program(name: str) -> None:
    """Raise if a program of Debian's is missing."""
    if shutil.which(name) is None:
        raise MissingError(f"{name} is missing: apt-get install {name}")


def main(stack: str) -> None:
    from views import make_app
    from views import serve

    app = make_app(stack)
    remembered = None
    for line in sys.stdin:
        if line == FREEZE:
            gc.collect()
            gc.freeze()
            continue
        if line == "remember\n":
            remembered = snapshot()
            continue
        if line == "grown\n":
            print(json.dumps(grown(remembered)), flush=True)
            continue
        view, requests = line.split()
        started_ns = time.process_time_ns()
        serve(app, view, int(requests))
        cpu_ns = time.process_time_ns() - started_ns
        print(*Took(cpu_ns, allocated_bytes()), flush=True)


def allocated_bytes() -> int:
    if not tracemalloc.is_tracing():
        return 0
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def snapshot() -> tracemalloc.Snapshot:
    gc.collect()
    return tracemalloc.take_snapshot()


def grown(since: tracemalloc.Snapshot) -> list[str]:
    now, its_own = snapshot(), [tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)]
    told = []
    for change in now.filter_traces(its_own).compare_to(since.filter_traces(its_own), "lineno")[:GROWN_LINES]:
        where, line = "/".join(Path(change.traceback[0].filename).parts[-2:]), change.traceback[0].lineno
        told += [f"{change.size_diff:,} bytes more by {where}:{line}"] if change.size_diff > 0 else []
    return told


if __name__ == "__main__":
    main(sys.argv[1])
