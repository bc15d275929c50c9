"""Taking a request along into another thread."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from typing import TypeVar

from opentelemetry import context as otel_context

from .record import current_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    Arguments = ParamSpec("Arguments")

__all__ = ["carry_context"]

Result = TypeVar("Result")


def carry_context(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return ``function`` as it is to be called in another thread on behalf of the request that is current now.

    Spans made in it are children of the span that is current now, log records carry the request's ids, and
    ``annotate()`` still finds the request, as long as that goes on. Every call gives the thread back as it was. Outside
    a request only OpenTelemetry's context is carried.

    ``executor.submit(carry_context(resize), image)``; around Flask's own wrapper where the thread needs ``request``:
    ``executor.submit(carry_context(copy_current_request_context(notify)))``.
    """
    record = current_record.get()
    context = otel_context.get_current()

    @functools.wraps(function)
    def carried(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        token = current_record.set(record)
        otel_token = otel_context.attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            otel_context.detach(otel_token)
            current_record.reset(token)

    return carried
