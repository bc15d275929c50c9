"""CPU time a request: each stack in a process of its own, in rounds that take turns."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

from costs import cost_rows
from costs import legend
from process import working
from table import Column
from table import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

__all__ = ["measure"]

WARM_UP = 100

COLUMNS = (
    Column("view", "view"),
    Column("stack", "stack"),
    Column("median", "median µs", ",.0f"),
    Column("lower", "lower quartile", ",.0f"),
    Column("upper", "upper", ",.0f"),
    Column("of_bare", "of bare", ".2f"),
    Column("over_bare", "over bare µs", ",.0f"),
    Column("of_peers", "of the peers", ".3f"),
    Column("peer", "its peer"),
    Column("of_its_peer", "of its peer", ".3f"),
)


def measure(
    stacks: Sequence[str], views: Sequence[str], *, rounds: int, requests: int, tell: Callable[[str], None]
) -> Report:
    """Time each view of each stack once a round, so many requests, one process at a time.

    What slows the machine down for a while slows all stacks down alike; what interrupts one of them is an outlier.
    """
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    with contextlib.ExitStack() as exit_stack:
        workers = {stack: exit_stack.enter_context(working(stack)) for stack in stacks}
        for stack, worker in workers.items():
            tell(f"warming up {stack}")
            for view in views:
                worker.serve(view, WARM_UP)
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}")
            for view in views:
                for stack, worker in workers.items():
                    samples[view, stack].append(worker.serve(view, requests).cpu_ns / requests / 1000)
    rows = cost_rows(samples)
    title = f"CPU time a request ({rounds} rounds of {requests:,} requests, taking turns)"
    return Report(title, "µs", COLUMNS, rows, legend(rows))
