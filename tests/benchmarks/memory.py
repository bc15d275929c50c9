"""Bytes that a request keeps after it ended, as tracemalloc tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costs import legend
from process import working
from table import Column
from table import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from process import Worker

__all__ = ["measure"]

WARM_UP = 200

COLUMNS = (
    Column("stack", "stack"),
    Column("requests", "requests", ",d"),
    Column("first_bytes", "bytes kept, first half", ",d"),
    Column("second_bytes", "second half", ",d"),
    Column("kept_bytes_a_request", "bytes a request", ".3f"),
)

NOTE = "bytes a request: of the second half; what is made once, such as a cache that fills, is mostly in the first"


def measure(stacks: Sequence[str], views: Sequence[str], *, requests: int, tell: Callable[[str], None]) -> Report:
    """Serve so many requests, shared by the views, and see what Python has more than before, garbage collected.

    The warm-up fills the caches; each request is for a path of its own, so that what is kept by path is seen.
    """
    rows, grew = [], []
    each = -(-requests // 2 // len(views))
    for stack in stacks:
        tell(f"serving {2 * each * len(views):,} requests: {stack}")
        with working(stack, {"PYTHONTRACEMALLOC": "1"}) as worker:
            allocated_bytes(worker, views, WARM_UP)  # twice: tables and buffers have then the size that they stay at
            before = allocated_bytes(worker, views, WARM_UP)
            first_bytes = allocated_bytes(worker, views, each) - before
            worker.remember()
            before = allocated_bytes(worker, views, 0)
            second_bytes = allocated_bytes(worker, views, each) - before
            grew += [f"`{stack}`, second half: {line}" for line in worker.grown()]
        told = {"first_bytes": first_bytes, "second_bytes": second_bytes}
        a_request = second_bytes / (each * len(views))
        rows.append({"stack": stack, "requests": 2 * each * len(views), **told, "kept_bytes_a_request": a_request})
    notes = [*legend(rows), f"views: {', '.join(views)}", NOTE, *grew]
    return Report("Memory that requests keep after they ended (tracemalloc)", "bytes", COLUMNS, rows, notes)


def allocated_bytes(worker: Worker, views: Sequence[str], requests: int) -> int:
    """Return what is allocated after so many requests for each view."""
    return [worker.serve(view, requests).kept_bytes for view in views][-1]
