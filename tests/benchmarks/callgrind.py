"""Instructions a request, counted by callgrind: they repeat where time on a shared machine swings by two."""

from __future__ import annotations

import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from costs import cost_rows
from costs import legend
from process import command
from process import environment
from process import FREEZE
from process import require_program
from table import Column
from table import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

__all__ = ["counted", "measure"]

WARM_UP = 100

COLUMNS = (
    Column("view", "view"),
    Column("stack", "stack"),
    Column("median", "instructions", ",.0f"),
    Column("of_bare", "of bare", ".2f"),
    Column("over_bare", "over bare", ",.0f"),
    Column("of_peers", "of the peers", ".3f"),
    Column("peer", "its peer"),
    Column("of_its_peer", "of its peer", ".3f"),
)


def measure(
    stacks: Sequence[str], views: Sequence[str], *, requests: int, jobs: int, tell: Callable[[str], None]
) -> Report:
    """Count each view as the difference of two processes, one of which serves so many requests more.

    So many jobs run at a time: what else a machine does changes no count.
    """
    require_program("valgrind")
    warm_up = "".join(f"{view} {WARM_UP}\n" for view in views) + FREEZE
    servings = {view: f"{warm_up}{view} {requests}\n" for view in views}

    def count(stack: str, served: str) -> int:
        tell(f"counting {stack}: {served.splitlines()[-1]}")
        return instructions(stack, served)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            before = {stack: pool.submit(count, stack, warm_up) for stack in stacks}
            after = {(view, stack): pool.submit(count, stack, servings[view]) for view in views for stack in stacks}
            counts = {key: [(more.result() - before[key[1]].result()) / requests] for key, more in after.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    rows = cost_rows(counts)
    title = f"Instructions a request (callgrind, mean of {requests:,} requests)"
    return Report(title, "instructions", COLUMNS, rows, legend(rows))


def instructions(stack: str, served: str) -> int:
    """Return what callgrind counts of a stack's process that serves what these lines say."""
    with tempfile.TemporaryDirectory() as directory:
        return counted(command(stack), directory, environment(), served)


def counted(command: Sequence[str], directory: str, env: Mapping[str, str], told: str = "") -> int:
    """Return the instructions of a program, run in this directory, that reads what it is told."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        input=told,
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env=env,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed under valgrind:\n{done.stderr}")
    (collected,) = re.findall(r"Collected : (\d+)", done.stderr)
    return int(collected)
