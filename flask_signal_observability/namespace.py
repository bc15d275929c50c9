"""A namespace that tells of the signals it makes."""

from __future__ import annotations

import threading
import weakref
from typing import Any
from typing import TYPE_CHECKING

import blinker

if TYPE_CHECKING:
    from typing import Protocol

    class Listener(Protocol):
        """Who wants to know of new signals."""

        def made(self, signal: blinker.NamedSignal) -> None:
            """Take note of a signal."""


__all__ = ["ObservedNamespace"]


class ObservedNamespace(blinker.Namespace):
    """A Blinker namespace whose watch covers the signals, too, that it makes later.

    Safe to use from several threads.
    """

    def __init__(self, *arguments: Any, **signals: blinker.NamedSignal) -> None:
        super().__init__(*arguments, **signals)
        self._making = threading.RLock()
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()

    def signal(self, name: str, doc: str | None = None) -> blinker.NamedSignal:
        """Return the signal of this name, made and told of where there was none."""
        known = self.get(name)
        if known is not None:
            return known
        with self._making:
            if name in self:
                return self[name]
            made = super().signal(name, doc)
            for listener in list(self._listeners):
                listener.made(made)
            return made

    def listen(self, listener: Listener) -> list[blinker.NamedSignal]:
        """Tell ``listener``, held weakly, of every signal from now on, and return those that there are."""
        with self._making:
            self._listeners.add(listener)
            return list(self.values())

    def forget(self, listener: Listener) -> None:
        """Tell it no more."""
        with self._making:
            self._listeners.discard(listener)
