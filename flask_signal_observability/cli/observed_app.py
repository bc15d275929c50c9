"""The app that a command is about, found as Flask finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ObservabilityError
from ..pipeline import EXTENSION
from ..pipeline import Pipeline

if TYPE_CHECKING:
    from flask.cli import ScriptInfo

__all__ = ["pipeline_of"]


def pipeline_of(info: ScriptInfo) -> Pipeline:
    """Load the app, without a context, which would be counted, and return its pipeline.

    Raises:
        ObservabilityError: The app is not observed.
    """
    app = info.load_app()
    pipeline = app.extensions.get(EXTENSION)
    if not isinstance(pipeline, Pipeline):
        raise ObservabilityError(f"the app {app.name!r} is not observed: call Observability(app) where it is made")
    return pipeline
