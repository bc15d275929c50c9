"""Several workers: whether their metrics can be added up."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ..metrics_store.places import home_of
from ..metrics_store.places import is_of_the_living
from ..text import counted
from .finding import Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from .finding import Finding
    from .target import Target

__all__ = ["look"]

report = Report("workers")

MANY_LEFT = 10
"""Servers that were killed and not started again leave some; more have not been taken away by the next one."""

OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def look(target: Target) -> Iterator[Finding]:
    """Tell where workers would meet, and what stands in the way."""
    config = target.config
    if config is None or not config.metrics:
        return
    count = workers_of(target.environ)
    if config.metrics_shared == "off":
        if count > 1:
            yield report.error(
                f"{count} workers and metrics_shared='off': a scrape tells of one of them, another each time",
                "set metrics_shared='auto'",
            )
        else:
            yield report.ok("metrics_shared='off': a scrape tells of the worker that answers it")
        return
    directory = Path(config.metrics_shared) if config.metrics_shared != "auto" else home_of(os.geteuid())
    wrong = _what_is_wrong_with(directory)
    if wrong is not None:
        yield report.error(f"the metrics of several workers cannot be shared: {wrong[0]}", wrong[1])
        return
    yield report.ok(f"workers share their metrics in {directory}")
    if config.metrics_shared == "auto":
        yield from _left_behind(directory)


def workers_of(environ: Mapping[str, str]) -> int:
    """Return how many workers the environment asks gunicorn for."""
    count = environ.get("WEB_CONCURRENCY", "")
    try:
        arguments = shlex.split(environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:
        arguments = []
    asked = re.findall(r"(?:^| )(?:-w|--workers)[ =]?(\d+)", " ".join(arguments))
    found = asked[-1] if asked else count
    return int(found) if found.isdecimal() else 1


def _what_is_wrong_with(directory: Path) -> tuple[str, str] | None:
    try:
        found = directory.lstat()
    except FileNotFoundError:
        parent = directory.parent
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            return f"{parent} is no directory that this user may write to", f"make {directory}, or name another"
        return None
    except OSError as error:
        return f"{directory}: {error.strerror}", "name a directory that this user may use with metrics_shared="
    return _what_is_wrong_with_owner_or_mode(directory, found)


def _what_is_wrong_with_owner_or_mode(directory: Path, found: os.stat_result) -> tuple[str, str] | None:
    if stat.S_ISLNK(found.st_mode):
        return f"{directory} is a symbolic link, which is not followed", "give the path that it leads to"
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is no directory", "take it away, or name another with metrics_shared="
    if found.st_uid != os.geteuid():
        remedy = f"take it away, or name another with metrics_shared= ({directory} belongs to uid {found.st_uid})"
        return f"{directory} belongs to another user", remedy
    if found.st_mode & OTHERS_MAY_WRITE:
        return f"others may write to {directory} (mode {stat.S_IMODE(found.st_mode):o})", f"chmod 700 {directory}"
    return None


def _left_behind(home: Path) -> Iterator[Finding]:
    names = sorted(path.name for path in home.iterdir()) if home.is_dir() else []
    dead = [name for name in names if not is_of_the_living(home, name)]
    left = f"{home} keeps the metrics of {counted(len(dead), 'server')} gone by now"
    if len(dead) > MANY_LEFT:
        yield report.warning(left, "take them away: the next server that starts does, where it may")
    elif dead:
        yield report.ok(f"{left}; the next one that starts takes them away")
