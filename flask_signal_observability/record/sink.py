"""What a sink may do with records."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .event import EventRecord
    from .request import RequestRecord

__all__ = ["REFUSED", "Sink"]

REFUSED = "refused"
"""The key in ``RequestRecord.state`` of the mark that a request which had to be audited could not be."""


class Sink:
    """One output. Override the stages you need; a stage that is not overridden costs nothing.

    Stages are called on the thread that serves the request, each behind the guard: what they raise is counted under
    ``observability_errors_total{sink,stage}`` and never reaches the response. Any object with a ``name`` and some of
    these methods will do.
    """

    name: str = ""
    sees_excluded_errors: bool = False
    """Whether an unhandled error of an excluded request is told to :meth:`event` all the same."""
    reads_details: bool = True
    """Whether it may read ``server_address`` and what else few outputs tell of a request; then that is read at
    request_started, and not where it is first asked for."""
    skips: frozenset[str] = frozenset()
    """Stages at which this sink, as it is configured, has nothing to do: they then cost nothing."""

    def open(self, record: RequestRecord) -> None:
        """A request came in: only its method, clock and id are known; ``record.describe()`` reads its path and more."""

    def attach(self, record: RequestRecord) -> None:
        """Code of the request is about to run: the application, or the next chunk of a streamed body.

        Called for an excluded request too (``record.excluded``), so that its caller's context can flow through it.
        """

    def detach(self, record: RequestRecord) -> None:
        """That code has returned; undo what ``attach`` did."""

    def start(self, record: RequestRecord) -> None:
        """request_started: route and client are known."""

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Something happened; ``record`` is None outside an observed request."""

    def signal(self, app_name: str, signal: str) -> None:
        """A lifecycle signal was sent outside an observed request; inside one it is in ``record.signals``."""

    def context(self, app_name: str, change: int) -> None:
        """``change`` (+1 or -1) application contexts more are alive, outside of an observed request.

        Those of a request are in ``record.open_contexts``.
        """

    def finish(self, record: RequestRecord) -> None:
        """The request is over, its body too; ``duration_ns``, ``status`` and ``error_type`` are final."""

    def abandon(self, record: RequestRecord) -> None:
        """The request turned out to be excluded after ``open``: forget it."""
