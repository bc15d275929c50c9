"""``watch`` and ``watch_namespace``: what they take. All that watches is imported when something is watched."""

from __future__ import annotations

import threading
import weakref
from typing import Any
from typing import TYPE_CHECKING

import blinker

from .known_keywords import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

    from .pipeline import Pipeline
    from .watching.namespaces import NamespaceWatch
    from .watching.watch import Watch
    from .watching.watch import Watches

    Take = Callable[[Any, dict[str, Any]], object]

__all__ = ["Watching"]


class Watching:
    """What watches signals, for every app that is given to it before or later.

    Args:
        told_anyhow: There are sinks of the user's own, which are told of every event.
    """

    def __init__(self, *, told_anyhow: bool) -> None:
        self._told_anyhow = told_anyhow
        self._pipelines: list[weakref.ref[Pipeline]] = []
        self._watches: Watches | None = None
        self._beginning = threading.Lock()

    @checked
    def watch(
        self,
        signal: blinker.Signal,
        *,
        sender: Any = blinker.ANY,
        name: str | None = None,
        count: str | None = None,
        labels: Mapping[str, Iterable[str]] | None = None,
        measure: str | None = None,
        value: str | Take | None = None,
        buckets: Iterable[float] | None = None,
        span_event: str | bool | None = None,
        span: bool | blinker.Signal = False,
        log: str | None = None,
        audit: str | None = None,
        when: Take | None = None,
        fields: Iterable[str] | None = None,
        redact: Iterable[str] = (),
        asynchronous: bool = False,
    ) -> Watch:
        """Say once what becomes of a signal, for every app of this object, observed before or after.

        A field is the name of something that is sent, with dots to look into it: ``order.id``. Nothing here ever
        raises where the signal is sent; what fails is counted in ``observability_errors_total{sink="watch"}``.
        Sinks of one's own get the event, too. Safe to use from several threads.

        Args:
            signal: Blinker's.
            sender: Whose signals count; by default anybody's. It is not kept.
            name: What the event is called; by default as the signal.
            count: A counter; its name ends in ``_total``. Its labels are ``flask_app`` and ``labels``.
            labels: The fields that are labels of ``count`` and ``measure``, each with its allowed values. Any other
                value is ``_OTHER``, none is empty. Dots become ``_``.
            measure: A histogram; its name ends in its unit.
            value: What it measures, from 0: a field, or a callable that is given sender and payload.
            buckets: Rising upper bounds; those of ``_seconds`` and ``_bytes`` are known.
            span_event: An event on the current span, the request's or one of the app's own; True: of the signal's name.
            span: A child span that ends with this signal: the signal that announces its start (in the same thread or
                task, from the same sender), or True, where ``measure`` in ``_seconds`` tells how long it took.
            log: The level of a JSON record.
            audit: The text of an audit line; ``{user}``, ``{ip}`` and ``{path}`` are the request's, ``{sender}`` and
                ``{signal}`` what they say, anything else a field.
            when: A callable that is given sender and payload, and tells whether the signal counts at all.
            fields: The fields that spans, records and one's own sinks may have; by default all that are text, numbers
                or the like.
            redact: Keys that are masked besides those of ``Config.redact``.
            asynchronous: The signal is sent with ``send_async``; Blinker then takes no other receivers.

        Returns:
            The watch, which nobody needs to keep: ``stop()`` ends it, and so does the end of a ``with`` block.

        Raises:
            ConfigurationError: What is asked for cannot work.
        """
        from .watching.entry import watch_one  # noqa: PLC0415 - most apps watch nothing

        options: dict[str, Any] = {
            "name": name,
            "count": count,
            "labels": labels,
            "measure": measure,
            "value": value,
            "buckets": buckets,
            "span_event": span_event,
            "span": span,
            "log": log,
            "audit": audit,
            "when": when,
            "fields": fields,
            "redact": redact,
            "asynchronous": asynchronous,
        }
        return watch_one(self._begun(), signal, sender, options)

    @checked
    def watch_namespace(
        self,
        namespace: blinker.Namespace,
        *,
        sender: Any = blinker.ANY,
        count: str | None = None,
        labels: Mapping[str, Iterable[str]] | None = None,
        measure: str | None = None,
        value: str | Take | None = None,
        buckets: Iterable[float] | None = None,
        span_event: bool = False,
        span: bool = False,
        log: str | None = None,
        audit: str | None = None,
        when: Take | None = None,
        fields: Iterable[str] | None = None,
        redact: Iterable[str] = (),
        asynchronous: bool = False,
    ) -> NamespaceWatch:
        """Watch every signal that a namespace holds, and, of an ``ObservedNamespace``, every one that it makes later.

        The keywords are those of :meth:`watch`. Events are called as their signals, and the metrics have one label
        more, ``signal``.

        Raises:
            ConfigurationError: What is asked for cannot work.
        """
        from .watching.entry import watch_all  # noqa: PLC0415 - as above

        options: dict[str, Any] = {
            "count": count,
            "labels": labels,
            "measure": measure,
            "value": value,
            "buckets": buckets,
            "span_event": span_event,
            "span": span,
            "log": log,
            "audit": audit,
            "when": when,
            "fields": fields,
            "redact": redact,
            "asynchronous": asynchronous,
        }
        return watch_all(self._begun(), namespace, sender, options)

    def _serve(self, pipeline: Pipeline) -> None:
        """Watch for this app, too.

        Raises:
            ConfigurationError: A metric's name is taken in its registry.
        """
        with self._beginning:
            if self._watches is None:
                self._pipelines.append(weakref.ref(pipeline))
            else:
                self._watches.serve(pipeline)

    def _serve_configured(self, pipeline: Pipeline) -> None:
        """Watch what the app's own settings name, for it alone.

        Raises:
            ConfigurationError: A place leads nowhere, or what is asked for cannot work.
        """
        if pipeline.config.watch:
            from .watching.entry import watch_configured  # noqa: PLC0415 - as above

            watch_configured(pipeline.config.watch, pipeline, told_anyhow=self._told_anyhow)

    def _begun(self) -> Watches:
        """Return the watches, of all apps that there are."""
        from .watching.watch import Watches  # noqa: PLC0415 - as above

        with self._beginning:
            if self._watches is None:
                self._watches = Watches(told_anyhow=self._told_anyhow)
                for reference in self._pipelines:
                    if (pipeline := reference()) is not None:
                        self._watches.serve(pipeline)
            return self._watches
