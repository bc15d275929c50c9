"""The way into the watches: of one signal, of a namespace, and of what the configuration names."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

import blinker

from ..errors import ConfigurationError
from ..known_keywords import check_keywords
from ..watchable import Watching
from .configured import signal_at
from .namespaces import NamespaceWatch
from .settings import check_sender
from .settings import WatchSettings
from .watch import Watches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pipeline import Pipeline
    from .watch import Watch

__all__ = ["watch_all", "watch_configured", "watch_one"]

NAMESPACE = "watch_namespace()"


def watch_one(
    watches: Watches, signal: blinker.Signal, sender: Any, options: Mapping[str, Any], where: str = ""
) -> Watch:
    """Watch a signal, with the keywords of ``watch``.

    Raises:
        ConfigurationError: What is asked for cannot work.
    """
    settings = WatchSettings.of(signal, where=where, told_anyhow=watches.told_anyhow, **options)
    return watches.add(settings, check_sender(sender, where or "watch()"))


def watch_all(
    watches: Watches, namespace: blinker.Namespace, sender: Any, options: Mapping[str, Any], where: str = NAMESPACE
) -> NamespaceWatch:
    """Watch the signals of a namespace, with the keywords of ``watch_namespace``.

    Raises:
        ConfigurationError: It is none, or what is asked for cannot work.
    """
    sender = check_sender(sender, where)
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
    watches = Watches(told_anyhow=told_anyhow)
    watches.serve(pipeline)
    for place, options in table.items():
        where = f"OBSERVABILITY_WATCH[{place!r}]"
        found = signal_at(place)
        options = dict(options)  # noqa: PLW2901
        sender = options.pop("sender", blinker.ANY)
        if isinstance(found, blinker.Namespace):
            check_keywords(where, options, Watching.watch_namespace)
            watch_all(watches, found, sender, options, where)
        else:
            check_keywords(where, options, Watching.watch)
            watch_one(watches, found, sender, options, where)
