"""With whom a store shares, and when it begins to: as an app is made in a worker, or as a master forks its workers."""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING

from .group import Group
from .places import directory_for
from .runtime import Runtime
from .workers import leader_of_coming_workers
from .workers import leader_of_this_worker
from .workers import on_uwsgi_fork

if TYPE_CHECKING:
    from .store import MetricsStore
    from .workers import Leader

__all__ = ["share"]

logger = logging.getLogger("flask_signal_observability")

_waiting: weakref.WeakKeyDictionary[MetricsStore, int] = weakref.WeakKeyDictionary()
"""The stores that share with whatever workers this process forks, and the number of the registry of each."""


def share(store: MetricsStore, setting: str, registry: int) -> None:
    """Begin to share, or wait until there is somebody to share with.

    Args:
        store: whose numbers.
        setting: ``auto``, ``off``, or a directory.
        registry: which of a process's registries this is, the same one in every worker.
    """
    if setting == "off":
        return
    if setting != "auto":
        _begin(store, setting, registry)
        return
    leader = leader_of_this_worker()
    if leader is None:
        _waiting[store] = registry
        _wait_for_uwsgi()
    else:
        _begin_below(store, leader, registry)


def _begin_below(store: MetricsStore, leader: Leader, registry: int) -> None:
    try:
        _begin(store, directory_for(leader), registry)
    except OSError as error:
        _warn(error)


def _begin(store: MetricsStore, path: str, registry: int) -> None:
    try:
        store.share(Group(path, registry))
        store.runtime = Runtime(store)
    except OSError as error:
        _warn(error)


def _before_fork() -> None:
    """Make the group of the workers that are about to be forked, while there is still one process."""
    leader = leader_of_coming_workers() if _waiting else None
    if leader is None:
        return
    for store, registry in list(_waiting.items()):
        if store.group is None:
            _prepare(store, leader, registry)
        store.hand_over()


def _prepare(store: MetricsStore, leader: Leader, registry: int) -> None:
    try:
        store.prepare(Group(directory_for(leader), registry, leader.owner))
        store.runtime = Runtime(store)
    except OSError as error:
        del _waiting[store]
        _warn(error)


def _warn(error: OSError) -> None:
    logger.warning(
        "the metrics of this server's workers cannot be shared (%s): a scrape tells of the worker that answers it. "
        "Name a directory that its user may write to with metrics_shared=, or set metrics_shared='off'.",
        error,
    )


_uwsgi: list[bool] = []


def _wait_for_uwsgi() -> None:
    if not _uwsgi:
        _uwsgi.append(True)
        on_uwsgi_fork(_forked_by_uwsgi)


def _forked_by_uwsgi() -> None:
    leader = leader_of_this_worker()
    for store, registry in list(_waiting.items()):
        if leader is not None and store.group is None:
            try:
                store.prepare(Group(directory_for(leader), registry))
            except OSError as error:
                _warn(error)
            else:
                store.runtime = store.runtime or Runtime(store)
                store.begin()


os.register_at_fork(before=_before_fork)
