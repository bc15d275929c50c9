"""A namespace that tells of the signals it makes, and the watch of a whole one."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any
from typing import Protocol
from typing import TYPE_CHECKING

import blinker

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .watch import Watch

__all__ = ["NamespaceWatch", "ObservedNamespace"]

logger = logging.getLogger("flask_signal_observability")


class Listener(Protocol):
    """Who wants to know of new signals."""

    def made(self, signal: blinker.NamedSignal) -> None:
        """Take note of a signal."""


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


class NamespaceWatch:
    """A namespace that is being watched: each of its signals has a watch. Safe to use from several threads."""

    def __init__(
        self,
        namespace: blinker.Namespace,
        watch: Callable[[blinker.NamedSignal], Watch],
        release: Callable[[NamespaceWatch], None],
    ) -> None:
        self._lock = threading.RLock()
        self._namespace = namespace
        self._watch = watch
        self._release = release
        self._watches: dict[str, Watch] = {}
        self._is_stopped = False
        present = namespace.listen(self) if isinstance(namespace, ObservedNamespace) else list(namespace.values())
        try:
            for signal in present:
                self._begin(signal)
        except ConfigurationError:
            self.stop()
            raise

    @property
    def names(self) -> list[str]:
        """The signals that are watched."""
        return sorted(self._watches)

    def made(self, signal: blinker.NamedSignal) -> None:
        """Watch a signal that is new. Whoever asked the namespace for it sees no error of ours."""
        try:
            self._begin(signal)
        except ConfigurationError as error:
            logger.warning("the new signal %r is not watched: %s", signal.name, error)

    def _begin(self, signal: blinker.NamedSignal) -> None:
        with self._lock:
            if not self._is_stopped and signal.name not in self._watches:
                self._watches[signal.name] = self._watch(signal)

    def stop(self) -> None:
        """Watch none of them any longer. Idempotent."""
        if isinstance(self._namespace, ObservedNamespace):
            self._namespace.forget(self)
        with self._lock:
            self._is_stopped = True
            watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.stop()
        self._release(self)

    def __enter__(self) -> NamespaceWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
