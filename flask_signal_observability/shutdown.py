"""The end of a process: what was begun in it is told, and nobody waits for it for ever."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from .record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from .pipeline import Pipeline

__all__ = ["BoundedShutdown", "end_open_requests", "flush", "shut_down", "within"]

logger = logging.getLogger("flask_signal_observability")


class BoundedShutdown:
    """Runs a function once, when the process ends, and waits for it no longer than a limit.

    Its thread is there from the start, and started again in a forked child: from Python 3.12 on, none can be started
    while the interpreter ends. Safe to call from several threads.

    Args:
        shut_down: What to do; it goes on in its daemon thread when the limit is over.
        timeout_seconds: The limit, from the first call on, in each process.
        meanwhile: What to do until then, again and again.
        interval_seconds: How long to wait before it is done, and before it is done again.
    """

    def __init__(
        self,
        shut_down: Callable[[], object],
        timeout_seconds: float,
        meanwhile: Callable[[], object] = lambda: None,
        interval_seconds: float | None = None,
    ) -> None:
        self._make = partial(_Shutdown, shut_down, meanwhile, interval_seconds)
        self._timeout_seconds = timeout_seconds
        self._here = self._make()
        start_in_child = weakref.WeakMethod(self.start)

        def after_fork() -> None:
            start = start_in_child()
            if start is not None:
                start()

        os.register_at_fork(after_in_child=after_fork)

    def start(self) -> None:
        """Be ready in this process; done by itself, unless it was forked behind Python's back, as uWSGI does."""
        if self._here.process_id != os.getpid():
            self._here = self._make()

    def __call__(self) -> bool:
        """Return whether the function came to its end in time."""
        self.start()
        return self._here.wait(self._timeout_seconds)


class _Shutdown:
    """The one of one process."""

    def __init__(
        self, shut_down: Callable[[], object], meanwhile: Callable[[], object], interval_seconds: float | None
    ) -> None:
        self.process_id = os.getpid()
        self._shut_down = shut_down
        self._meanwhile = meanwhile
        self._interval_seconds = interval_seconds
        self._deadline_seconds: float | None = None
        self._asked = threading.Event()
        self._done = threading.Event()
        threading.Thread(target=self._run, name="shutdown", daemon=True).start()

    def wait(self, timeout_seconds: float) -> bool:
        """Let it happen, and return whether it came to its end in time, which is the first caller's."""
        if self._deadline_seconds is None:
            self._deadline_seconds = time.monotonic() + timeout_seconds
        self._asked.set()
        return self._done.wait(max(0.0, self._deadline_seconds - time.monotonic()))

    def _run(self) -> None:
        while not self._asked.wait(self._interval_seconds):
            self._meanwhile()
        try:
            self._shut_down()
        finally:
            self._done.set()


def within(timeout_seconds: float, function: Callable[[], object]) -> bool:
    """Run ``function`` in a daemon thread, and return whether it came to its end within the limit."""
    thread = threading.Thread(target=function, name="shutdown", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    return not thread.is_alive()


def end_open_requests(error: BaseException) -> None:
    """Tell that the requests which are open in this process have failed with ``error``: nobody else will.

    They are found by the garbage collector, so that no request pays for being on a list.
    """
    for found in gc.get_objects():
        if type(found) is RequestRecord and found.duration_ns is None and not found.excluded:
            pipeline: Pipeline | None = found.pipeline
            if pipeline is not None:
                pipeline.attach(found)
                pipeline.fail(found, error)
                pipeline.finish(found)
                pipeline.detach(found)


def shut_down(pipelines: Iterable[Pipeline]) -> None:
    """Close what these apps' sinks keep open, behind their guards; each sink is given its own time."""
    _each(pipelines, "close")


def flush(pipelines: Iterable[Pipeline]) -> None:
    """Hand over what these apps' sinks have, behind their guards; each sink is given its own time."""
    _each(pipelines, "flush")


def _each(pipelines: Iterable[Pipeline], what: str) -> None:
    for pipeline in pipelines:
        pipeline.finish_dropped()
        for sink in pipeline.sinks:
            method = getattr(sink, what, None)
            if method is not None:
                pipeline.guard.call(getattr(sink, "name", "") or type(sink).__name__, what, method)
