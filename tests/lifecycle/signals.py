"""What an app really sends: the signals of a request, in the letters of the lifecycle table."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flask import Flask
from flask import signals

from flask_signal_observability.teardowns import told_here

LETTERS = {
    "P": signals.appcontext_pushed,
    "S": signals.request_started,
    "F": signals.request_finished,
    "E": signals.got_request_exception,
    "R": signals.request_tearing_down,
    "A": signals.appcontext_tearing_down,
    "O": signals.appcontext_popped,
    "T0": signals.before_render_template,
    "T1": signals.template_rendered,
    "M": signals.message_flashed,
}

METRIC_LABELS = {letter: signal.name.replace("-", "_") for letter, signal in LETTERS.items()}


class RaisedByReceiver(Exception):
    """What a receiver of the app's own raises."""


class Recorder:
    """Receivers of one app's ten signals, which note each of them and raise in the one that they are told to.

    A signal carries what tells it apart: ``F[500]`` the status, ``E[KeyError]`` and ``R[KeyError]`` the error's class.
    """

    def __init__(self, app: Flask, raises_in: str = "") -> None:
        self.notes: list[str] = []
        self._receivers = {letter: self._receiver(letter, raises=letter == raises_in) for letter in LETTERS}
        for letter, receiver in self._receivers.items():
            LETTERS[letter].connect(receiver, sender=app)

    def _receiver(self, letter: str, *, raises: bool) -> Any:
        def receive(app: Flask, **payload: Any) -> None:
            self.notes.append(letter + detail_of(payload))
            if raises:
                raise RaisedByReceiver(letter)

        return receive

    def note(self, mark: str) -> None:
        """Note something that is no signal; a row of such marks is noted once."""
        if self.notes[-1:] != [mark]:
            self.notes.append(mark)

    def sequence(self, expected: str) -> str:
        """Return what was noted; marks that the expected sequence does not speak of are left out."""
        words = expected.split()
        return " ".join(note for note in self.notes if letter_of(note) in LETTERS or note in words)

    @property
    def counts(self) -> dict[str, int]:
        """How often each of the ten signals came."""
        counts = Counter(letter_of(note) for note in self.notes)
        return {letter: counts[letter] for letter in LETTERS}

    def comes_before_the_extension(self, letter: str, app: Flask) -> bool:
        """Tell which of the two receivers Blinker calls first; of a teardown signal the extension has none."""
        receivers = list(LETTERS[letter].receivers_for(app))
        modules = [receiver.__module__ for receiver in receivers]
        if told_here(app, METRIC_LABELS[letter]):
            assert modules == [__name__]
            return False
        assert "flask_signal_observability.receivers" in modules
        return modules.index("flask_signal_observability.receivers") > receivers.index(self._receivers[letter])


def detail_of(payload: dict[str, Any]) -> str:
    if "response" in payload:
        return f"[{payload['response'].status_code}]"
    error = payload.get("exception") or payload.get("exc")
    return "" if error is None else f"[{type(error).__name__}]"


def letter_of(note: str) -> str:
    return note.partition("[")[0]
