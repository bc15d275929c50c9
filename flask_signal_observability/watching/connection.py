"""A receiver on a signal that leaves, when it goes, everything as it was."""

from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

import blinker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connection"]

_lock = threading.RLock()
"""Blinker takes receivers in and out without one. Entered again by the garbage collector, which takes them out, too."""

INDEXES = ("_by_sender", "_weak_senders")
"""Where Blinker keeps a sender that nobody is connected to any more (1.9); without these, nothing is taken away."""


class Connection:
    """Holds the receiver strongly, through the signal, and the sender only where no weak reference can.

    Safe to use from several threads.
    """

    def __init__(self, signal: blinker.Signal, receiver: Callable[..., Any], sender: Any) -> None:
        self._signal = signal
        self._receiver = receiver
        self._is_closed = False
        with _lock:
            indexes = [getattr(signal, name, {}) for name in INDEXES]
            before = [set(index) for index in indexes]
            signal.connect(receiver, sender=sender, weak=False)
            self._new = [set(index) - known for index, known in zip(indexes, before, strict=True)]
        # Blinker knows senders by their id, which another object takes over when one is gone.
        self._kept = None if sender is blinker.ANY or _has_weak_reference(sender) else sender

    def close(self) -> None:
        """Take the receiver out; closing twice is harmless."""
        with _lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._signal.disconnect(self._receiver)
            by_sender, weak_senders = (getattr(self._signal, name, {}) for name in INDEXES)
            for sender_id in self._new[0]:
                if not by_sender.get(sender_id):
                    by_sender.pop(sender_id, None)
                    if sender_id in self._new[1]:
                        weak_senders.pop(sender_id, None)
            self._kept = None


def _has_weak_reference(sender: object) -> bool:
    return type(sender).__weakrefoffset__ != 0
