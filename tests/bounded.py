"""A process that a test reads from and waits for, but not for ever."""

from __future__ import annotations

import contextlib
import threading
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

__all__ = ["bounded"]


@contextlib.contextmanager
def bounded(process: subprocess.Popen[Any], seconds: float = 60) -> Iterator[subprocess.Popen[Any]]:
    """Kill ``process`` at the end of the block, and after ``seconds`` in any case: who reads from it finds its end."""
    limit = threading.Timer(seconds, process.kill)
    limit.start()
    with process:
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()
