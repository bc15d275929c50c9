"""Gunicorn's server hooks: ``gunicorn -c python:flask_signal_observability.gunicorn app:app``.

A configuration file of one's own takes them over with ``from flask_signal_observability.gunicorn import *``, or calls
them from its own hooks. Gunicorn works without them, too; they add what only a hook is told: that a worker starts, that
its time-out has come, and that it ends; and ``metrics_port`` is answered by a process of its own, which lives as long
as the master.

What they need is imported in the worker alone: in the master it would be there before gevent has patched it.
https://docs.gunicorn.org/en/stable/settings.html#server-hooks
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from .metrics_port import process

__all__ = ["WorkerTimeout", "on_exit", "post_worker_init", "pre_fork", "worker_abort", "worker_exit"]


class WorkerTimeout(SystemExit):
    """The worker was silent for longer than gunicorn's ``timeout``: the ``error.type`` of what it was serving.

    A SystemExit, as gunicorn itself raises, that the views, their ``finally`` blocks and the server treat alike.
    """

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(f"the worker was silent for more than {timeout_seconds} s")
        self.code = 1  # gunicorn's exit status for it


def __getattr__(name: str) -> Any:
    """Fetch ``Logger`` for who names it as ``logger_class``: it brings structlog into the master."""
    if name == "Logger":
        from .gunicorn_log import Logger

        return Logger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def pre_fork(server: Any, worker: Any) -> None:
    """See that there is a process for ``metrics_port``, before each worker; it ends by itself where no app has one.

    Where the app was loaded before the fork, and listens already, that ends: a listener would be in every worker.
    """
    signals = sys.modules.get(f"{__package__}.signals")
    pipelines = [] if signals is None else signals.live_pipelines()
    for pipeline in pipelines:
        if pipeline.metrics_server is not None:
            pipeline.metrics_server.close()
            pipeline.metrics_server = None
    if pipelines and all(pipeline.config.metrics_port is None for pipeline in pipelines):
        return
    try:
        process.keep((worker.cfg.uid, worker.cfg.gid))
    except OSError as error:
        server.log.warning("The process for metrics_port could not be started: %s", error)


def on_exit(server: Any) -> None:
    """End the process for ``metrics_port``, and take away what the workers have shared: nobody reads it any more."""
    from .metrics_store.places import take_away
    from .metrics_store.workers import leader_of_coming_workers

    process.end()
    leader = leader_of_coming_workers()
    if leader is not None:
        with contextlib.suppress(OSError):  # the next server does it
            take_away(leader)


def post_worker_init(worker: Any) -> None:
    """Write ``worker_started``, once for each app that is observed in this worker; and tell of their metrics."""
    from .metrics_port.offer import offer_of
    from .metrics_port.offer import written
    from .record import EventRecord
    from .signals import live_pipelines

    if process.is_kept():
        try:
            process.tell(written(filter(None, map(offer_of, live_pipelines()))))
        except OSError as error:
            worker.log.warning("The process for metrics_port could not be told: %s", error)
    fields = {"process.pid": os.getpid(), "gunicorn.worker.age": worker.age}
    for pipeline in live_pipelines():
        pipeline.event(EventRecord("worker_started", pipeline.app_name, fields, time.time_ns(), worker), None)


def worker_abort(worker: Any) -> None:
    """End the request that keeps the worker from answering, wherever it is, with :class:`WorkerTimeout`.

    Call it last, as it raises in place of gunicorn's own ``sys.exit``. The master is given a sign of life, since it
    kills a second later, and the story has yet to be told.

    Raises:
        WorkerTimeout: always, in the thread or greenlet that the signal has interrupted.
    """
    with contextlib.suppress(OSError, ValueError):  # the worker is on its way out already
        worker.notify()
    raise WorkerTimeout(worker.cfg.timeout)


def worker_exit(server: Any, worker: Any) -> None:
    """Tell the requests that the worker leaves unfinished, deliver its last spans, and close its files.

    Waits at most ``flush_timeout_seconds`` for a collector. Does nothing in the master, which calls it for a worker
    that is gone.
    """
    from .shutdown import end_open_requests
    from .shutdown import shut_down
    from .signals import live_pipelines

    if worker.pid == os.getpid():
        # Gunicorn calls this while a SystemExit passes: the reason why the worker ends.
        end_open_requests(sys.exc_info()[1] or SystemExit(0))
        shut_down(live_pipelines())
