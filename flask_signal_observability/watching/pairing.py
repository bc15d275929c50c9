"""The start that an end belongs to, for spans that two signals announce."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import NamedTuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Started", "begin", "end"]

MAX_OPEN = 64
"""Starts without an end that a context keeps; beyond these the oldest is forgotten."""


class Started(NamedTuple):
    """A start that was announced: by which watch's signal, from whom, and when."""

    key: int
    sender: Hashable
    request: object
    started_ns: int


_open: ContextVar[tuple[Started, ...]] = ContextVar("flask_signal_observability.started", default=())
"""Of this thread, greenlet or task, so that those that run beside each other are not mixed up."""


def begin(key: int, sender: object, request_id: str | None) -> None:
    """Note a start. What another request of this thread left open is forgotten."""
    mine = tuple(started for started in _open.get() if started.request == request_id)
    started = Started(key, _identity(sender), request_id, time.perf_counter_ns())
    _open.set((*mine, started)[-MAX_OPEN:])


def end(key: int, sender: object, request_id: str | None) -> Started | None:
    """Return the newest start of the same watch, sender and request, once; None where there is none."""
    pending, identity = _open.get(), _identity(sender)
    for started in reversed(pending):
        if started[:3] == (key, identity, request_id):
            _open.set(tuple(other for other in pending if other is not started))
            return started
    return None


def _identity(sender: object) -> Hashable:
    """Return what makes two senders one, as Blinker has it, without keeping the sender."""
    return sender if type(sender) in (str, int) else id(sender)
