"""Who sends a signal, and from where, as an audit line tells it: in a request, in a command, in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask

from .catalogue import OTHER
from .record import RequestRecord

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["request_of", "user_of"]


def request_of(pipeline: Pipeline, record: RequestRecord | None) -> RequestRecord | None:
    """Return a described record of the request that this happens in: its own, or one of a context without a server."""
    if record is None or record.app is not pipeline.app:
        if not flask.has_request_context():
            return None
        # Such as test_request_context(), or a request that no sink sees.
        environ = flask.request.environ
        record = RequestRecord(pipeline.app, pipeline.app_name, environ, OTHER, 0, 0, pipeline.read_environ)
    if not record.path:
        record.describe()
    return record


def user_of(pipeline: Pipeline, record: RequestRecord | None) -> str | None:
    """Return the id of the current user; None where there is none."""
    user = pipeline.user() if flask.has_app_context() else None
    return record.user if user is None and record is not None else user
