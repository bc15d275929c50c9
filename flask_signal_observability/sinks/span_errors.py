"""What a span tells of an error: its event, and its status."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode

from ..record import error_type_of
from ..redaction import mask_message
from ..redaction import mask_patterns
from ..text import utf8
from .request_span import NAME

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from ..guard import Guard
    from ..record import RequestRecord

    Attributes = dict[str, AttributeValue]

__all__ = ["SpanErrors"]


_FRAME = re.compile(r'[ |]*File "').match
"""A line of source is no message: ``password = form.password`` stays."""


class SpanErrors:
    """Puts errors into words.

    Args:
        guard: Stands between an error's ``__str__`` and the request.
        with_message: Whether an error's message is told, too.
    """

    def __init__(self, guard: Guard, *, with_message: bool) -> None:
        self._guard = guard
        self._with_message = with_message

    def status(self, record: RequestRecord) -> Status:
        """Return the status of a request that has an ``error_type``."""
        return Status(StatusCode.ERROR, self.describe(record.errors[0]) if record.errors else None)

    def attributes(self, error: BaseException) -> Attributes:
        """Return those of the convention's ``exception`` event."""
        text = traceback.TracebackException.from_exception(error)
        if self._with_message:
            return {
                "exception.type": error_type_of(error),
                "exception.message": self._message(error),
                "exception.stacktrace": utf8("".join(map(_masked, text.format()))),
            }
        return {"exception.type": error_type_of(error), "exception.stacktrace": "".join(text.stack.format())}

    def describe(self, error: BaseException) -> str:
        """Return the description of the status that an error leaves."""
        kind = error_type_of(error)
        return f"{kind}: {self._message(error)}" if self._with_message else kind

    def _message(self, error: BaseException) -> str:
        return utf8(mask_message(self._guard.call(NAME, "message", str, error, default="")))


def _masked(part: str) -> str:
    return mask_patterns(part) if _FRAME(part) else mask_message(part)
