"""The watch of a whole namespace."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..namespace import ObservedNamespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import blinker

    from .watch import Watch

__all__ = ["NamespaceWatch"]

logger = logging.getLogger("flask_signal_observability")


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
