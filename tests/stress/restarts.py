"""Print what CPU time a scrape takes, and how many files there are, while a thousand workers come and go.

usage: python tests/stress/restarts.py [--restarts N] [--workers N] [--series N] [--rounds N] [--seconds N] [--json]

Real processes are forked, join a group, count in every series, and die, some of them by SIGKILL; a group of the same
size that nobody has left is scraped in turns with it, so that a busy machine slows both, and CPU time is what is
measured. It ends with 1 where a scrape takes more than a fifth longer than it did after the first restart, or where
there are more files than living workers and the archive.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from flask_signal_observability.metrics_store.group import Group  # noqa: E402
from tests.benchmarks.scrape import AMOUNTS_NS  # noqa: E402
from tests.benchmarks.scrape import children  # noqa: E402
from tests.benchmarks.scrape import NAME  # noqa: E402
from tests.benchmarks.scrape import ours  # noqa: E402
from tests.benchmarks.scrape import SPAN  # noqa: E402
from tests.benchmarks.scrape import TRACE  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from flask_signal_observability.metrics_store.reading import Reading

CHECKPOINTS = (0, 1, 10, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
KILLED = 0.3
"""How many of the workers are killed; the others end by themselves."""
LIMIT = 1.2


class Row(NamedTuple):
    """What was measured after so many restarts; the ratio is that of the two medians."""

    restarts: int
    restarted_ms: float
    fresh_ms: float
    ratio: float
    after_a_death_ms: float
    files: int
    kilobytes: float
    counted: int
    expected: int


class Pool:
    """A group of workers that are this process's children, and what they are known to have counted."""

    def __init__(self, directory: Path, workers: int, series: int) -> None:
        self.directory = directory
        self._series = series
        self.counted = 0
        self.store = ours(series)
        self.counted += len(children(series)) * len(AMOUNTS_NS)
        self.store.share(Group(str(directory)))
        self._workers = [self._start() for _ in range(workers - 1)]

    def _start(self) -> int:
        """Fork a worker, and return its pid when it has counted."""
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            family = self.store.families[NAME]
            for labels in children(self._series):
                for amount_ns in AMOUNTS_NS:
                    family.child(*labels, max_series=10_000).observe(amount_ns, (time.time_ns(), TRACE, SPAN))
            os.write(told, b"x")
            while True:
                signal.pause()
        os.close(told)
        assert os.read(ready, 1) == b"x"
        os.close(ready)
        self.counted += len(children(self._series)) * len(AMOUNTS_NS)
        return pid

    def restart(self) -> None:
        self._end(self._workers.pop(random.randrange(len(self._workers))))
        self._workers.append(self._start())

    def _end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL if random.random() < KILLED else signal.SIGTERM)
        os.waitpid(pid, 0)

    def close(self) -> None:
        while self._workers:
            self._end(self._workers.pop())

    def scrape(self) -> Reading:
        reading = self.store.read(exemplars=True)
        b"".join([text.write(reading, openmetrics=True) for text in self.store.texts()])
        return reading

    def scrape_ms(self) -> float:
        started = time.process_time()
        self.scrape()
        return (time.process_time() - started) * 1e3

    def told(self) -> int:
        family = self.store.families[NAME]
        return sum(row.cumulated[-1] for row in self.scrape().histograms(family))


class Fresh:
    """A pool that nobody leaves, in a process of its own, as a process is in the groups of all its stores."""

    def __init__(self, directory: Path, workers: int, series: int) -> None:
        self._asked, asked = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=self._serve, args=(asked, directory, workers, series)
        )
        self._process.start()

    @staticmethod
    def _serve(asked: Connection, directory: Path, workers: int, series: int) -> None:
        pool = Pool(directory, workers, series)
        while asked.recv():
            asked.send(pool.scrape_ms())
        pool.close()

    def scrape_ms(self) -> float:
        self._asked.send(True)
        taken: float = self._asked.recv()
        return taken

    def close(self) -> None:
        self._asked.send(False)
        self._process.join()


def measure(restarted: Pool, fresh: Fresh, restarts: int, rounds: int) -> Row:
    after_a_death_ms = restarted.scrape_ms()  # folds whoever died, and finds the others anew
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for pool, taken in zip((restarted, fresh), times, strict=True):
            taken.append(pool.scrape_ms())
    mine, theirs = (statistics.median(taken) for taken in times)
    files = [file.stat().st_size for file in restarted.directory.iterdir()]
    counts = restarted.told(), restarted.counted
    return Row(restarts, mine, theirs, mine / theirs, after_a_death_ms, len(files), sum(files) / 1024, *counts)


def run(options: argparse.Namespace, tell: Callable[[Row], None]) -> list[Row]:
    deadline = time.monotonic() + options.seconds
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        fresh = Fresh(Path(directory, "fresh"), options.workers, options.series)
        restarted = Pool(Path(directory, "restarted"), options.workers, options.series)
        try:
            for restarts in range(options.restarts + 1):
                last = restarts == options.restarts or time.monotonic() > deadline
                if last or restarts in CHECKPOINTS:
                    rows.append(measure(restarted, fresh, restarts, options.rounds))
                    tell(rows[-1])
                if last:
                    return rows
                restarted.restart()
        finally:
            restarted.close()
            fresh.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=1000, help="how many workers die (default: 1000)")
    parser.add_argument("--workers", type=int, default=16, help="how many live at once (default: 16)")
    parser.add_argument("--series", type=int, default=10_000, help="sample lines of each (default: 10000)")
    parser.add_argument("--rounds", type=int, default=15, help="scrapes of each group at a time (default: 15)")
    parser.add_argument("--seconds", type=float, default=600, help="no more restarts after these (default: 600)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    if options.json:
        rows = run(options, lambda row: None)
        print(json.dumps([row._asdict() for row in rows]))
    else:
        print("".join(f"{title:>17}" for title in Row._fields))
        rows = run(options, lambda row: print("".join(map(cell, row)), flush=True))
    return 0 if is_right(rows, options.workers) else 1


def cell(value: float) -> str:
    return f"{value:17,.2f}" if isinstance(value, float) else f"{value:17,}"


def is_right(rows: list[Row], workers: int) -> bool:
    after_one = next((row for row in rows if row.restarts > 0), rows[-1])
    return (
        all(row.files <= workers + 1 and row.counted == row.expected for row in rows)
        and rows[-1].ratio <= LIMIT * after_one.ratio
    )


if __name__ == "__main__":
    sys.exit(main())
