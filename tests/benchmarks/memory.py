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
    Column("kept_bytes", "bytes kept", ",d"),
    Column("kept_bytes_a_request", "bytes a request", ".3f"),
)


def measure(stacks: Sequence[str], views: Sequence[str], *, requests: int, tell: Callable[[str], None]) -> Report:
    """Serve so many requests, shared by the views, and see what Python has more than before, garbage collected.

    The warm-up fills the caches; each request is for a path of its own, so that what is kept by path is seen.
    """
    rows = []
    each = -(-requests // len(views))
    for stack in stacks:
        tell(f"serving {each * len(views):,} requests: {stack}")
        with working(stack, {"PYTHONTRACEMALLOC": "1"}) as worker:
            allocated_bytes(worker, views, WARM_UP)  # twice: tables and buffers have then the size that they stay at
            before = allocated_bytes(worker, views, WARM_UP)
            kept_bytes = allocated_bytes(worker, views, each) - before
        served = each * len(views)
        told = {"kept_bytes": kept_bytes, "kept_bytes_a_request": kept_bytes / served}
        rows.append({"stack": stack, "requests": served, **told})
    notes = [*legend(rows), f"views: {', '.join(views)}"]
    return Report("Memory that requests keep after they ended (tracemalloc)", "bytes", COLUMNS, rows, notes)


def allocated_bytes(worker: Worker, views: Sequence[str], requests: int) -> int:
    """Return what is allocated after so many requests for each view."""
    return [worker.serve(view, requests).kept_bytes for view in views][-1]
