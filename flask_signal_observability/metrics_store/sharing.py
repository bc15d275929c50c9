"""With whom a store shares, and when it begins to: as an app is made in a worker, or as a master forks its workers."""

from __future__ import annotations

import logging
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .runtime import Runtime
from .workers import a_worker_is_coming
from .workers import leader_of_coming_workers
from .workers import leader_of_this_worker
from .workers import on_uwsgi_fork

if TYPE_CHECKING:
    from .group import Group
    from .store import MetricsStore
    from .workers import Leader

__all__ = ["share"]

logger = logging.getLogger("flask_signal_observability")

_waiting: weakref.WeakKeyDictionary[MetricsStore, tuple[int, str]] = weakref.WeakKeyDictionary()
"""The stores that share with whatever workers this process forks; of each the number of its registry, and where it
shares, which is empty until the leader is known."""


def share(store: MetricsStore, setting: str, registry: int) -> None:
    """Begin to share, or wait until there is somebody to share with.

    Args:
        store: whose numbers.
        setting: ``auto``, ``off``, or a directory.
        registry: which of a process's registries this is, the same one in every worker.

    Raises:
        ConfigurationError: the directory is none, or is not this process's to write to.
    """
    if setting == "off":
        return
    path = "" if setting == "auto" else setting
    if path:
        there = Path(path) if Path(path).exists() else Path(path).parent  # the last folder is made where it is missing
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise ConfigurationError(
                f"metrics_shared={path!r} cannot be used: {str(there)!r} is no directory that it may write to. "
                "Make it, for the user of the server, or set metrics_shared='auto'."
            )
    leader = leader_of_this_worker()
    if leader is None:
        _waiting[store] = registry, path
        _wait_for_uwsgi()
    try:
        where = path or leader
        if where:
            _begin(store, _group(where, registry), is_worker=leader is not None)
    except OSError as error:
        _waiting.pop(store, None)
        _warn(store, error)


def _begin(store: MetricsStore, group: Group, *, is_worker: bool) -> None:
    if is_worker or leader_of_coming_workers() is None:
        store.share(group)
    else:
        store.prepare(group)
    store.runtime = Runtime(store)


def _before_fork() -> None:
    """Make the group of the workers that are about to be forked, while there is still one process."""
    leader = leader_of_coming_workers() if _waiting else None
    if leader is None:
        return
    aside = not a_worker_is_coming()
    for store, (registry, path) in list(_waiting.items()):
        store.begins_aside = aside
        if store.group is None:
            _prepare(store, path, leader, registry)
        elif store.member is not None:  # it was made before this process was known as a leader
            store.prepare(store.group)
        store.hand_over()


def _prepare(store: MetricsStore, path: str, leader: Leader, registry: int) -> None:
    try:
        store.prepare(_group(path or leader, registry, leader.owner))
        store.runtime = store.runtime or Runtime(store)
    except OSError as error:
        _waiting.pop(store, None)
        _warn(store, error)


def _group(where: str | Leader, registry: int, owner: tuple[int, int] | None = None) -> Group:
    """Return the group at a path, or the one of a leader.

    Imported here, when an app is made in a worker or a master forks one: a process that serves alone needs none.
    """
    from .group import Group  # noqa: PLC0415
    from .places import directory_for  # noqa: PLC0415

    return Group(where if isinstance(where, str) else directory_for(where), registry, owner)


def _warn(store: MetricsStore, error: OSError) -> None:
    store.failed(1)
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
    if leader is None:
        return
    for store, (registry, path) in list(_waiting.items()):
        if store.group is None:
            _prepare(store, path, leader, registry)
        if store.member is None:
            store.begin()


os.register_at_fork(before=_before_fork)
