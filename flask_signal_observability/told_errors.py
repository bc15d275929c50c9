"""Which errors a record has told already, of which request and where: who logs one again need not repeat it all.

A server logs the error of a streamed body, or of a worker's time-out, when the request is over. The note is on the
error itself, since nothing else lives as long as it does: most kinds of exceptions take no weak references.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import TextStream

__all__ = ["Told", "place_of", "tell", "told_of"]

NOTE = "_flask_signal_observability"
"""The attribute; a tuple of what every process can unpickle, as an error may be sent to another one."""


class Told(NamedTuple):
    """Where a record with an error's traceback has gone, and the ids that it carries."""

    places: tuple[str, ...]
    ids: dict[str, Any]


def place_of(stream: str | os.PathLike[str] | TextStream) -> str:
    """Return what tells one ``log_stream`` from another."""
    return os.fspath(stream) if isinstance(stream, (str, os.PathLike)) else f"stream {id(stream)}"


def tell(error: BaseException, place: str, ids: dict[str, Any]) -> None:
    """Note that a record with these ids has told ``error``; an error that takes no note goes without."""
    before = told_of(error)
    places = before.places if before is not None and before.ids == ids else ()
    with contextlib.suppress(AttributeError, TypeError):
        # Past a __setattr__ of the class's own, as a frozen dataclass has.
        object.__setattr__(error, NOTE, ((*places, place), ids))


def told_of(error: BaseException) -> Told | None:
    """Return the note on ``error``; None where no record has told it."""
    note = vars(error).get(NOTE)
    return None if note is None else Told(*note)
