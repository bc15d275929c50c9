"""``watch`` and ``watch_namespace``, and the same by configuration."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

import blinker

from ..errors import ConfigurationError
from .configured import signal_at
from .known_keywords import check_keywords
from .known_keywords import checked
from .namespaces import NamespaceWatch
from .settings import check_sender
from .settings import WatchSettings
from .watch import Watch
from .watch import Watches

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

    from ..pipeline import Pipeline

    Take = Callable[[Any, dict[str, Any]], object]

__all__ = ["Watching", "watch_configured"]


class Watching:
    """What watches signals, for every app that is given to it before or later."""

    def __init__(self, *, told_anyhow: bool) -> None:
        self._watches = Watches(told_anyhow=told_anyhow)

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
        settings = WatchSettings.of(
            signal,
            name=name,
            count=count,
            labels=labels,
            measure=measure,
            value=value,
            buckets=buckets,
            span_event=span_event,
            span=span,
            log=log,
            audit=audit,
            when=when,
            fields=fields,
            redact=redact,
            asynchronous=asynchronous,
            told_anyhow=self._watches.told_anyhow,
        )
        return self._watches.add(settings, check_sender(sender))

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
        return watch_all(self._watches, namespace, check_sender(sender, NAMESPACE), options, NAMESPACE)


NAMESPACE = "watch_namespace()"


def watch_all(
    watches: Watches, namespace: blinker.Namespace, sender: Any, options: Mapping[str, Any], where: str
) -> NamespaceWatch:
    """Watch the signals of a namespace.

    Raises:
        ConfigurationError: It is none, or what is asked for cannot work.
    """
    if not isinstance(namespace, blinker.Namespace):
        raise ConfigurationError(
            f"{where}: {namespace!r} is no namespace of Blinker's; for one signal there is watch()"
        )

    def settings_of(signal: Any) -> WatchSettings:
        return WatchSettings.of(signal, where=where, many=True, told_anyhow=watches.told_anyhow, **options)

    settings_of(blinker.NamedSignal("any"))  # an empty namespace tells what is wrong, too
    watch = NamespaceWatch(
        namespace, lambda signal: watches.add(settings_of(signal), sender, many=True), watches.release
    )
    watches.hold(watch)
    return watch


def watch_configured(table: Mapping[str, Mapping[str, Any]], pipeline: Pipeline, *, told_anyhow: bool) -> None:
    """Watch what the settings of one app name, for that app alone.

    Raises:
        ConfigurationError: A place leads nowhere, or what is asked for cannot work.
    """
    if not table:
        return
    watches = Watches(told_anyhow=told_anyhow)
    watches.serve(pipeline)
    for place, options in table.items():
        where = f"OBSERVABILITY_WATCH[{place!r}]"
        found = signal_at(place)
        options = dict(options)  # noqa: PLW2901
        sender = check_sender(options.pop("sender", blinker.ANY), where)
        if isinstance(found, blinker.Namespace):
            check_keywords(where, options, Watching.watch_namespace)
            watch_all(watches, found, sender, options, where)
        else:
            check_keywords(where, options, Watching.watch)
            watches.add(WatchSettings.of(found, where=where, told_anyhow=told_anyhow, **options), sender)
