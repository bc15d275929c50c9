"""One round through all rooms, in bounded time: what waits for the network does so beside the others."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from . import collector
from . import company
from . import configuration
from . import exposition
from . import files
from . import releases
from . import tracing
from . import workers
from .finding import Report
from .target import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from .finding import Finding
    from .target import Target

    Room = Callable[[Target], Iterator[Finding]]

__all__ = ["look_round"]

LOCAL: tuple[tuple[str, Room], ...] = (
    ("releases", releases.look),
    ("configuration", configuration.look),
    ("tracing", tracing.look),
    ("metrics", exposition.look),
    ("workers", workers.look),
    ("files", files.look),
    ("duplicates", company.look),
)
OVER_THE_NETWORK: tuple[tuple[str, Room], ...] = (
    ("collector", collector.look),
    ("running app", exposition.look_at_running),
)

STEPS = 4
"""As many time-outs as a room of the network may take: the collector's has three kinds of telemetry."""


def look_round(target: Target) -> list[Finding]:
    """Return what all rooms find. A room that fails is a finding, too; nothing is raised."""
    visits = [_Visit(name, room, target) for name, room in OVER_THE_NETWORK]
    findings = [finding for name, room in LOCAL for finding in _visited(name, room, target)]
    deadline = time.monotonic() + STEPS * target.timeout_seconds
    for visit in visits:
        findings += visit.result(deadline)
    return list(dict.fromkeys(findings))  # three kinds of telemetry may go to one place


def _visited(name: str, room: Room, target: Target) -> list[Finding]:
    attempt = Attempt()
    findings: list[Finding] = []
    attempt.make(name, partial(_collect, room, target, findings))
    if attempt.error is not None:
        what = f"this could not be looked at: {type(attempt.error).__name__}: {attempt.error}"
        findings.append(Report(name).error(what, "look by hand, and tell the authors of flask_signal_observability"))
    return findings


def _collect(room: Room, target: Target, findings: list[Finding]) -> None:
    findings.extend(room(target))


class _Visit:
    """A room that is looked at on a thread of its own, which nobody waits for longer than agreed."""

    def __init__(self, name: str, room: Room, target: Target) -> None:
        self._name = name
        self._findings: list[Finding] | None = None
        self._thread = threading.Thread(target=self._go, args=(room, target), name=f"check-{name}", daemon=True)
        self._thread.start()

    def _go(self, room: Room, target: Target) -> None:
        self._findings = _visited(self._name, room, target)

    def result(self, deadline: float) -> list[Finding]:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._findings is None:
            what = "there is no answer in time: a name that is not resolved, or a server that sends byte by byte"
            return [Report(self._name).error(what, "see whether curl reaches it from this machine")]
        return self._findings
