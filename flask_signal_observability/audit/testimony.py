"""What the notes of chains tell of others: torn lines, how far each writer got, which file a chain opened in."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .finding import Place
    from .mark import Note

__all__ = ["Testimony"]

SIMULTANEOUS_SECONDS = 5
"""Two may open an empty file at once."""


class Testimony:
    """Everything that proved notes have told so far."""

    def __init__(self) -> None:
        self.attested: dict[str, Place] = {}
        """Torn lines that a note tells of."""
        self.required: dict[bytes, tuple[int, Place]] = {}
        """How far the notes of others say that a writer got at least."""
        self.openings: set[Place] = set()
        """Where opening notes stand."""
        self.origins: set[Place] = set()
        """The opening notes that tell what they saw."""
        self._first_opening: dict[str, str] = {}
        """When each file was opened first."""

    def hear(self, note: Note, place: Place) -> bool:
        """Take a note in; False: it opens an empty file, and not this one."""
        is_here = note.kind != "opened" or self._opens_here(note, place)
        if note.kind == "opened":
            self.attested.update(dict.fromkeys(filter(None, note.fields.get("torn", "").split(",")), place))
        for head in note.fields.get("heads", "").split(","):
            self._require(head, place)
        return is_here

    def _opens_here(self, note: Note, place: Place) -> bool:
        """A chain that was brought here as a whole saw another file when it opened."""
        self.openings.add(place)
        began = self._first_opening.setdefault(place[0], note.time)
        saw = note.fields.get("saw", "?")
        if saw == "-":
            return _seconds_apart(began, note.time) <= SIMULTANEOUS_SECONDS
        if saw != "?":
            self._require(saw, place)
            self.origins.add(place)
        return True

    def _require(self, head: str, place: Place) -> None:
        writer, _, sequence = head.partition(".")
        if sequence.isdigit() and self.required.get(writer.encode(), (-1, place))[0] < int(sequence):
            self.required[writer.encode()] = int(sequence), place


def _seconds_apart(one: str, other: str) -> float:
    try:
        return abs((datetime.fromisoformat(one) - datetime.fromisoformat(other)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
