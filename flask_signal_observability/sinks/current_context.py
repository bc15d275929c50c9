"""OpenTelemetry's current context, asked for at its ContextVar: the API has two calls more for each of set and reset.

This is the one place that holds private names of ``opentelemetry.context``. Where one of them is missing, or something
else keeps the context (``OTEL_PYTHON_CONTEXT``), what is here are the API's own functions.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

__all__ = ["attach", "get_current", "reset", "variable_of"]


def variable_of(runtime: object) -> ContextVar[Context] | None:
    """Return the variable that OpenTelemetry's runtime context is kept in; None where that cannot be known."""
    variable = getattr(runtime, "_current_context", None)
    return variable if type(runtime) is ContextVarsRuntimeContext and isinstance(variable, ContextVar) else None


_variable = variable_of(getattr(otel_context, "_RUNTIME_CONTEXT", None))

get_current: Callable[[], Context] = otel_context.get_current if _variable is None else _variable.get
attach: Callable[[Context], Any] = otel_context.attach if _variable is None else _variable.set
"""Makes a context current, and returns a token."""
reset: Callable[[Any], None] = otel_context.detach if _variable is None else _variable.reset
"""Takes a token back. Where that is of another thread's or greenlet's context, the variable raises ``ValueError``, and
the API logs."""
