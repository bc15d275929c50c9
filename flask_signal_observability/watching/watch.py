"""A watch, and the watches of one ``Observability`` with the apps that they tell of."""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from typing import Any
from typing import TYPE_CHECKING

import flask

from ..errors import ConfigurationError
from ..pipeline import EXTENSION
from ..pipeline import Pipeline
from ..record import record_here
from .connection import Connection
from .pairing import begin
from .pairing import end
from .settings import disagreement
from .telling import make_tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import blinker

    from .settings import WatchSettings
    from .telling import Tell

    Receiver = Callable[..., Any]

__all__ = ["Watch", "Watches"]

logger = logging.getLogger("flask_signal_observability")

WATCHED_TWICE = (
    "the signal %s is watched a second time in the same way: whatever it becomes, it becomes twice. A watch serves "
    "every app of its Observability: watch once, beside Observability(), not in what makes an app; or stop() the other"
)

_keys = itertools.count(1)


class Watch:
    """A signal that is being watched. As a context manager it is watched to the end of the block.

    Safe to use from several threads. Nobody needs to keep it: a watch lives as long as its ``Observability``, or one
    of the apps that this observes.
    """

    def __init__(self, settings: WatchSettings, watches: Watches, sender_id: int, *, many: bool) -> None:
        self.settings = settings
        self.sender_id = sender_id
        self.asked = settings.asked
        self.key = next(_keys)
        self.many = many
        self._watches = weakref.ref(watches)

    @property
    def name(self) -> str:
        """What its events are called."""
        return self.settings.name

    def stop(self) -> None:
        """Watch no longer; the signal's receivers are as they were before. What was counted stays. Idempotent."""
        watches = self._watches()
        if watches is not None:
            watches.remove(self)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Watch {self.name!r}>"


class Watches:
    """The watches of one ``Observability``. An app holds it, too; the signals do not. Safe to use from several threads.

    Args:
        told_anyhow: There are sinks of the user's own, which are told of every event.
    """

    def __init__(self, *, told_anyhow: bool) -> None:
        self.told_anyhow = told_anyhow
        self._lock = threading.RLock()
        self._watches: dict[int, Watch] = {}
        self._pipelines: list[weakref.ref[Pipeline]] = []
        self._connections: dict[int, list[Connection]] = {}
        self._held: list[object] = []
        # Once neither the Observability nor an app of it is left.
        weakref.finalize(self, _close_all, self._connections).atexit = False

    def pipelines(self) -> list[Pipeline]:
        """Return those of the apps that are still there, the oldest first."""
        return [pipeline for reference in self._pipelines if (pipeline := reference()) is not None]

    def all(self) -> list[Watch]:
        """Return what is watched now, the oldest first."""
        with self._lock:
            return list(self._watches.values())

    def serve(self, pipeline: Pipeline) -> None:
        """Watch for this app, too.

        Raises:
            ConfigurationError: A metric's name is taken in its registry.
        """
        with self._lock:
            if pipeline in self.pipelines():
                return
            tells = {key: self._tell(watch, pipeline) for key, watch in self._watches.items()}
            pipeline.watched.update(tells)
            pipeline.kept.append(self)
            self._pipelines = [*(weakref.ref(known) for known in self.pipelines()), weakref.ref(pipeline)]

    def renew(self, pipeline: Pipeline) -> None:
        """Tell the sinks that this app has by now."""
        with self._lock:
            pipeline.watched.update({key: self._tell(watch, pipeline) for key, watch in self._watches.items()})

    def hold(self, thing: object) -> None:
        """Keep something as long as the watches."""
        with self._lock:
            self._held.append(thing)

    def release(self, thing: object) -> None:
        """Keep it no longer."""
        with self._lock:
            if thing in self._held:
                self._held.remove(thing)

    def add(self, settings: WatchSettings, sender: object, *, many: bool = False) -> Watch:
        """Begin to watch what ``sender`` sends, without keeping it.

        Raises:
            ConfigurationError: A metric's name is taken.
        """
        with self._lock:
            self._check_agreement(settings)
            watch = Watch(settings, self, id(sender), many=many)
            if any(known.sender_id == watch.sender_id and known.asked == watch.asked for known in self.all()):
                logger.warning(WATCHED_TWICE, settings.name)
            tells = [(pipeline, self._tell(watch, pipeline)) for pipeline in self.pipelines()]
            for pipeline, tell in tells:
                pipeline.watched[watch.key] = tell
            self._watches[watch.key] = watch
            receivers = make_receivers(settings, watch.key, weakref.ref(self))
            self._connections[watch.key] = [Connection(signal, receiver, sender) for signal, receiver in receivers]
            return watch

    def remove(self, watch: Watch) -> None:
        """Stop to watch; what is not watched any more is left alone."""
        with self._lock:
            for connection in self._connections.pop(watch.key, ()):
                connection.close()
            self._watches.pop(watch.key, None)
            for pipeline in self.pipelines():
                pipeline.watched.pop(watch.key, None)

    def _tell(self, watch: Watch, pipeline: Pipeline) -> Tell:
        return make_tell(watch.settings, pipeline, many=watch.many)

    def _check_agreement(self, settings: WatchSettings) -> None:
        """Find what two watches say of one metric while there is no app yet; a registry knows it of those it has."""
        for metric in settings.metrics:
            for other in (other for watch in self._watches.values() for other in watch.settings.metrics):
                difference = disagreement(metric, other) if metric.name == other.name else None
                if difference is not None:
                    raise ConfigurationError(
                        f"two watches disagree on {metric.name}: {difference}. Give one of them another name."
                    )


def _close_all(connections: dict[int, list[Connection]]) -> None:
    while connections:
        for connection in connections.popitem()[1]:
            connection.close()


def make_receivers(
    settings: WatchSettings, key: int, watches: weakref.ref[Watches]
) -> list[tuple[blinker.Signal, Receiver]]:
    """Return the signals of a watch, each with its own receiver. They hold neither the watch nor an app."""
    is_paired = settings.started is not None

    def receive(sender: object, /, **payload: Any) -> None:
        # The hot path.
        record = record_here()
        tell: Tell | None = None if record is None else record.pipeline.watched.get(key)
        if tell is None:
            record, tell = None, _tell_elsewhere(key, watches)
        if tell is not None:
            started = end(key, sender, _request_id()) if is_paired else None
            tell(sender, payload, None if record is None or record.excluded else record, started)

    def start(sender: object, /, **_: Any) -> None:
        begin(key, sender, _request_id())

    wrap = _awaited if settings.asynchronous else _as_it_is
    receivers = [(settings.signal, wrap(receive))]
    if settings.started is not None:
        receivers.append((settings.started, wrap(start)))
    return receivers


def _as_it_is(receiver: Receiver) -> Receiver:
    return receiver


def _awaited(receiver: Receiver) -> Receiver:
    async def receive(sender: object, /, **payload: Any) -> None:
        receiver(sender, **payload)

    return receive


def _request_id() -> str | None:
    record = record_here()
    return None if record is None else record.request_id


def _tell_elsewhere(key: int, watches: weakref.ref[Watches]) -> Tell | None:
    """Return what tells of a signal that is sent outside of our requests: in a context of the app, else the first app.

    What happens in another app that is observed is that one's affair: where every test makes an app, and every app
    watches, each tells of its own.
    """
    if flask.has_app_context():
        pipeline = flask.current_app.extensions.get(EXTENSION)
        if isinstance(pipeline, Pipeline):
            return pipeline.watched.get(key)
    own = watches()
    for pipeline in own.pipelines() if own is not None else ():
        return pipeline.watched.get(key)
    return None
