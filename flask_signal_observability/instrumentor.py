"""``opentelemetry-instrument flask run``: an app that nobody has given an ``Observability`` gets one by itself.

Neither a class of Flask's nor its name is replaced. Flask's own signal tells of an app's first context; from there on
the instance, and it alone, has a ``full_dispatch_request`` of ours, which Flask calls in ``wsgi_app`` where a context
is there and nothing else has happened. The app is then observed, and this request answered by going through
``wsgi_app`` once more, now by the boundary: so the first request is told like any other, and ``/metrics`` answers. The
price is one more context around it, which opens the session and runs the teardown functions a second time.

By then an app that has an ``Observability`` has it, whatever was pushed while it was made; and one that
opentelemetry-instrumentation-flask observes is left to it, for two spans a request would be worse.
"""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import Any
from typing import TYPE_CHECKING

from flask import signals
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined, unused-ignore]

from .extension import Observability
from .guard import Guard
from .pipeline import EXTENSION
from .record import record_here

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Iterable

    from flask import Flask

__all__ = ["FlaskSignalObservabilityInstrumentor"]

logger = logging.getLogger("flask_signal_observability")

BY_OPENTELEMETRY = "_is_instrumented_by_opentelemetry"
"""What opentelemetry-instrumentation-flask leaves on an app."""

DISPATCH = "full_dispatch_request"

_began_unobserved: ContextVar[object] = ContextVar("flask_signal_observability.began_unobserved", default=None)
"""The app whose context was pushed here before the app was observed."""

_lock = threading.RLock()


class FlaskSignalObservabilityInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]
    """What ``opentelemetry-instrument`` finds by the entry point; ``instrument()`` does the same in a program.

    Settings are those of ``app.config`` and the environment.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what has to be installed."""
        return ("flask >= 3.0, < 4",)

    def _instrument(self, **kwargs: Any) -> None:
        signals.appcontext_pushed.connect(_context_pushed)

    def _uninstrument(self, **kwargs: Any) -> None:
        signals.appcontext_pushed.disconnect(_context_pushed)


def _context_pushed(app: Flask, /, **_: Any) -> None:
    if EXTENSION not in app.extensions:
        _began_unobserved.set(app)
        with _lock:
            if not isinstance(app.__dict__.get(DISPATCH), FirstDispatch):
                app.full_dispatch_request = FirstDispatch(app)  # type: ignore[method-assign]


class FirstDispatch:
    """An app's ``full_dispatch_request``: observes it at the first request, and is out of the way from then on."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._dispatch = app.full_dispatch_request
        self._observability: Observability | None = None
        self._is_declined = False

    def __call__(self, *arguments: Any) -> Any:
        """Dispatch the request; ``arguments`` are Flask 3.2's context."""
        app = self._app
        if _began_unobserved.get() is app:
            _began_unobserved.set(None)
            with _lock:
                self._observe(app)
            record = record_here()
            if self._observability is not None and (record is None or record.app is not app):
                # Its context was not told when it came, and will be when it goes.
                app.extensions[EXTENSION].context(+1)
                return OnceMore(app)
        return self._dispatch(*arguments)

    def _observe(self, app: Flask) -> None:
        if EXTENSION in app.extensions or self._is_declined:
            return
        if getattr(app, BY_OPENTELEMETRY, False):
            self._is_declined = True
            logger.warning(
                "%r is instrumented by opentelemetry-instrumentation-flask and left to it; set "
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=flask to have it observed here",
                app,
            )
            return
        observability = Observability()
        if Guard().call("instrumentor", "init_app", observability.init_app, app) is None:
            self._is_declined = True
        else:
            self._observability = observability


class OnceMore:
    """What a response is to Flask: it answers by the whole app again."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer the request."""
        return self._app.wsgi_app(environ, start_response)
