"""The package's own signals, and what a view may say about its request."""

from __future__ import annotations

import logging
import time
import weakref
from typing import Any
from typing import TYPE_CHECKING

import flask
from werkzeug.exceptions import ServiceUnavailable

from .audit.payload import warn_of_unused
from .namespace import ObservedNamespace
from .origin import request_of
from .pipeline import EXTENSION
from .record import current_record
from .record import EventRecord
from .record import record_here
from .record import REFUSED

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["access_logged", "annotate", "event_bus", "live_pipelines", "register", "reopen_files"]

logger = logging.getLogger("flask_signal_observability")

event_bus = ObservedNamespace()
"""A namespace for an app's own signals; ``access_logged`` lives in it."""

access_logged = event_bus.signal(
    "access-event",
    doc="Send it, with any sender, to write ``{user}@{ip} accessed {path}`` to the audit file. Of the payload "
    "``action``, ``object``, ``outcome`` and ``changes`` are told where audit_format is json; outside of a request "
    "``user``, ``ip`` and ``path`` say who and what. It raises werkzeug's "
    "ServiceUnavailable where audit_on_error is closed and the line cannot be written.",
)


def annotate(**fields: Any) -> None:
    """Add fields to this request's span and JSON records, and to metrics where ``Config.metric_labels`` allows them.

    A later value replaces an earlier one; a field can never replace one of the package's own. Outside an observed
    request nothing happens.
    """
    record = current_record.get()
    if record is not None:
        record.annotations = {**(record.annotations or {}), **fields}


_pipelines: list[weakref.ref[Pipeline]] = []
"""Every live pipeline, the oldest first: where ``access_logged`` goes when it is sent outside of any app."""

_warned_of_several = False


def register(pipeline: Pipeline) -> None:
    """Let ``access_logged`` reach this pipeline from outside of any app."""
    _pipelines[:] = [reference for reference in _pipelines if reference() is not None]
    _pipelines.append(weakref.ref(pipeline))


def live_pipelines() -> list[Pipeline]:
    """Return the pipeline of every app that is observed in this process, the oldest first."""
    return [pipeline for reference in _pipelines if (pipeline := reference()) is not None]


def _app_here() -> flask.Flask | None:
    try:
        app: flask.Flask = flask.current_app._get_current_object()  # type: ignore[attr-defined]  # one proxy read
    except RuntimeError:
        return None
    return app


def _first_pipeline() -> Pipeline | None:
    live = live_pipelines()
    global _warned_of_several  # noqa: PLW0603 - once a process
    if len(live) > 1 and not _warned_of_several:
        _warned_of_several = True
        logger.warning(
            "access_logged was sent outside of any app while %d apps are observed; it goes to the first, %r. "
            "Send it inside an application context to choose another.",
            len(live),
            live[0].app_name,
        )
    return live[0] if live else None


def reopen_files() -> None:
    """Open the audit file and the error journal anew at their next record, in this process.

    That a file was renamed or deleted is noticed within a second anyway; a program that is told so by a signal may call
    this in its handler, and nothing more is written to the old file.
    """
    for pipeline in live_pipelines():
        for sink in pipeline.sinks:
            reopen = getattr(sink, "reopen", None)
            if reopen is not None:
                pipeline.guard.call(getattr(sink, "name", "") or type(sink).__name__, "reopen", reopen)


def _on_access(sender: object, /, **payload: Any) -> None:
    app = _app_here()
    pipeline = None if app is None else app.extensions.get(EXTENSION)
    if pipeline is None:
        pipeline = _first_pipeline()
    if pipeline is not None:
        user = None if app is None else pipeline.user()
        is_refused = pipeline.guard.call("receivers", "access_logged", _tell_access, pipeline, sender, payload, user)
        if is_refused:
            raise ServiceUnavailable


def _tell_access(pipeline: Pipeline, sender: object, payload: dict[str, Any], user: str | None) -> bool:
    """Return whether the record had to be written and could not be; the payload becomes the event's fields."""
    record = record_here()
    own = record if record is not None and record.app is pipeline.app else None
    request = request_of(pipeline, record)
    if payload and pipeline.config.audit:
        warn_of_unused(list(payload), audit_format=pipeline.config.audit_format, in_request=request is not None)
    if request is not None:
        payload["user"], payload["ip"], payload["path"] = user, request.client_address, request.path
    elif payload.get("user") is None:
        payload["user"] = user
    event = EventRecord("access_logged", pipeline.app_name, payload, time.time_ns(), sender)
    pipeline.event(event, own)
    if event.refused and own is not None:
        own.state[REFUSED] = True  # the answer, too, whatever the view makes of the error
    return event.refused


access_logged.connect(_on_access)
