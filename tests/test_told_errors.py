"""The note on an error of which record has told it."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from flask_signal_observability.told_errors import tell
from flask_signal_observability.told_errors import told_of


class Bare(Exception):
    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int


@pytest.mark.parametrize("error", [RuntimeError(), Bare(), Frozen(7), KeyboardInterrupt()], ids=repr)
def test_the_places_of_one_record_are_kept_together(error: BaseException) -> None:
    assert told_of(error) is None
    tell(error, "stdout", {"request_id": "a"})
    tell(error, "app.json", {"request_id": "a"})
    assert told_of(error) == (("stdout", "app.json"), {"request_id": "a"})


def test_an_error_that_is_raised_again_is_the_later_requests() -> None:
    error = RuntimeError()
    tell(error, "stdout", {"request_id": "a"})
    tell(error, "app.json", {"request_id": "b"})
    assert told_of(error) == (("app.json",), {"request_id": "b"})


def test_the_note_is_nothing_that_another_process_could_not_read() -> None:
    error = RuntimeError("x")
    tell(error, "stdout", {"request_id": "a"})
    octets = pickle.dumps(error)
    assert b"told_errors" not in octets
    assert told_of(pickle.loads(octets)) == told_of(copy.copy(error)) == told_of(error)
