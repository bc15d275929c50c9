"""request_tearing_down and appcontext_tearing_down, told by what Flask calls right before it sends them.

Flask calls an app's teardown functions, the last one registered first and a blueprint's before the app's, and then
sends the signal, unless one of them has raised and it does not (up to 3.1). What stands first in the app's list is
called last, and so when the signal is about to be sent: for less than half of what Blinker takes to find a receiver,
and whatever another receiver does. ``tests/lifecycle`` holds the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import MAX_SIGNALS_HELD
from .record import record_here

if TYPE_CHECKING:
    from collections.abc import Callable

    import flask

    from .pipeline import Pipeline
    from .record import RequestRecord

    Teardown = Callable[[BaseException | None], None]

__all__ = ["TEARDOWN_SIGNALS", "precede_signals", "told_here"]

REQUEST, CONTEXT = TEARDOWN_SIGNALS = "request_tearing_down", "appcontext_tearing_down"


def precede_signals(app: flask.Flask, pipeline: Pipeline, *, counted: bool) -> None:
    """Have Flask call what tells of its two teardown signals.

    Args:
        app: The app that sends them.
        pipeline: The app's.
        counted: Whether anybody counts signals; appcontext_tearing_down has nothing else to tell.
    """
    # In front by hand: app.teardown_request() appends, and refuses to once a request was served. In new lists: other
    # threads may be on their way through the old ones, from behind, where what is put in front repels the next one.
    app.teardown_request_funcs[None] = [_of_request(app, pipeline), *app.teardown_request_funcs.get(None, ())]
    if counted:
        app.teardown_appcontext_funcs = [_of_context(app, pipeline), *app.teardown_appcontext_funcs]


def told_here(app: flask.Flask, signal: str) -> bool:
    """Tell whether ``signal`` is a teardown signal of which this module tells for ``app``."""
    functions = {REQUEST: app.teardown_request_funcs.get(None, ()), CONTEXT: app.teardown_appcontext_funcs}
    return any(getattr(function, "__module__", None) == __name__ for function in functions.get(signal, ()))


def _of_request(app: flask.Flask, pipeline: Pipeline) -> Teardown:
    def request_tearing_down(_error: BaseException | None) -> None:
        # The hot path: mostly there was an answer, and with it the user was read.
        record = record_here()
        if record is None or record.observed_app is not app:
            pipeline.signal_elsewhere(REQUEST, record)
            return
        sent = record.signals
        sent.append(REQUEST)
        if len(sent) >= MAX_SIGNALS_HELD:
            pipeline.count_signals(record)
        if record.streamed is None and not record.errors:
            # The last moment at which the user can be read, for a request that had neither a response nor an error.
            pipeline.learn_user(record)

    return request_tearing_down


def _of_context(app: flask.Flask, pipeline: Pipeline) -> Teardown:
    def appcontext_tearing_down(_error: BaseException | None) -> None:
        # The hot path.
        record: RequestRecord | None = record_here()
        if record is None or record.observed_app is not app:
            pipeline.signal_elsewhere(CONTEXT, record)
        else:
            record.signals.append(CONTEXT)

    return appcontext_tearing_down
