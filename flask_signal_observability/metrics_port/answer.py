"""What answers at a metrics port: the exposition of a group that this process is no member of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from ..access import make_rule
from ..access import Refusal
from ..exposition import Exposition
from ..guard import Guard
from ..metrics_store.family import Family
from ..metrics_store.group import Group
from ..metrics_store.runtime import Runtime
from ..sinks.families import Families
from .offer import STANDARD
from .server import listen
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment

    from .offer import Offer

__all__ = ["Port"]

logger = logging.getLogger("flask_signal_observability")

CLOSED = Refusal(
    "403 Forbidden",
    [("Content-Type", "text/plain; charset=utf-8")],
    "metrics_access is a function of the app, which only its workers can ask: the metrics port stays closed. Give it a "
    "token or networks, or read the metrics of a worker at metrics_path.\n",
)


class Port:
    """One port: it is opened when it can be had, and answers what was offered last."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._offers: list[Offer] = []
        self._exposition: Exposition | None = None
        self._group: Group | None = None
        self._server: Server | None = None
        self._has_warned = False

    def offer(self, offers: list[Offer]) -> None:
        """Answer with the metrics of these apps; of several registries, with those of the first.

        Raises:
            OSError: their directory cannot be opened.
        """
        offers = [offer for offer in offers if offer.registry == offers[0].registry]
        if offers != self._offers:
            before, self._group = self._group, Group(offers[0].path, offers[0].registry)
            self._exposition = exposition_of(offers, self._group)
            self._offers = offers
            del before  # closed when the last scrape of it is done

    def open(self) -> None:
        """Listen, if it is not done; a port that cannot be had is told in one warning, and tried again."""
        if self._server is not None:
            return
        try:
            self._server = Server(listen(self.number), self)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "metrics_port %d could not be opened (%s): the metrics are not served there yet. It is tried again "
                    "every second; stop what listens on it, or set another metrics_port.",
                    self.number,
                    error,
                )

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        assert self._exposition is not None
        return self._exposition(environ, start_response)


def exposition_of(offers: list[Offer], group: Group) -> Exposition:
    """Return what a worker would answer."""
    first = offers[0]
    registry = CollectorRegistry()
    for name in first.standard:
        STANDARD[name](registry=registry)
    if first.multiprocess is not None:
        MultiProcessCollector(registry, first.multiprocess)  # type: ignore[no-untyped-call]
    families = Families.of(registry, first.extra_labels)
    store = families.store
    for metric in first.own_families:
        Family(metric, store)
    for offer in offers:
        families.in_flight.of(offer.app_name).follows_contexts = offer.context_signals
    store.prepare(group)
    store.runtime = Runtime(store)
    guard = Guard()

    def count(sink: str, stage: str, times: int = 1) -> None:
        families["observability_errors_total"].child(sink, stage).inc(times)
        store.hand_over()  # so that every scrape tells of it, also when this process is gone

    guard.count = count
    store.failed = lambda files: count("metrics", "share", files)
    rule = (lambda environ: CLOSED) if first.access is None else make_rule(first.access, guard)
    return Exposition(registry, rule, guard)
