from __future__ import annotations

import sys

import pytest

from flask_signal_observability.tracebacks import exception_dicts
from flask_signal_observability.tracebacks import traceback_text


def caught(function):
    try:
        function()
    except Exception as error:
        return error


def cause():
    try:
        int("secret")
    except ValueError as error:
        raise KeyError("hidden") from error


def context():
    try:
        int("secret")
    except ValueError:
        raise KeyError("hidden")  # noqa: B904


def test_the_chain_of_causes_is_kept():
    raised, origin = exception_dicts(caught(cause), message=True)
    assert (raised["exc_type"], origin["exc_type"]) == ("KeyError", "ValueError")
    assert origin["is_cause"]
    assert raised["frames"][-1]["name"] == "cause"


def test_no_frame_has_locals():
    stacks = exception_dicts(caught(cause), message=True)
    assert all(frame.get("locals") is None for stack in stacks for frame in stack["frames"])


def test_an_exception_that_is_its_own_cause_is_told_once():
    def fail():
        error = ValueError("x")
        raise error from error

    assert len(exception_dicts(caught(fail), message=True)) == 1


def test_frames_are_at_most_50():
    def recurse(n):
        if n:
            recurse(n - 1)
        else:
            raise ValueError("deep")

    (stack,) = exception_dicts(caught(lambda: recurse(200)), message=True)
    real = [frame for frame in stack["frames"] if frame["filename"]]
    assert len(real) == 50
    assert "Skipped frames" in traceback_text([stack])


@pytest.mark.parametrize("function", [cause, context])
def test_without_messages_none_is_left(function):
    stacks = exception_dicts(caught(function), message=False)
    assert [stack["exc_type"] for stack in stacks] == ["KeyError", "ValueError"]
    assert "hidden" not in repr(stacks)
    assert "secret" not in repr(stacks)


def test_without_messages_a_syntax_error_shows_no_source():
    error = caught(lambda: compile("secret = = 1", "<string>", "exec"))
    assert "secret" not in repr(exception_dicts(error, message=False))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups and notes are new in Python 3.11")
def test_a_group_and_its_notes_lose_their_messages_too():
    def fail():
        error = ValueError("secret")
        error.add_note("hidden")
        raise ExceptionGroup("private", [error])  # noqa: F821

    whole = exception_dicts(caught(fail), message=True)
    assert all(word in repr(whole) for word in ("secret", "hidden", "private"))
    assert "hidden" in traceback_text(whole)
    assert "1. of the group" in traceback_text(whole)
    bare = exception_dicts(caught(fail), message=False)
    assert "ValueError" in repr(bare)
    assert not any(word in repr(bare) for word in ("secret", "hidden", "private"))


@pytest.mark.parametrize(
    ("function", "words"), [(cause, "direct cause of"), (context, "During handling of")], ids=["cause", "context"]
)
def test_the_text_reads_like_pythons_own(function, words):
    text = traceback_text(exception_dicts(caught(function), message=True))
    origin, raised = text.split(words)
    assert "ValueError: invalid literal for int()" in origin
    assert "KeyError: 'hidden'" in raised
    assert f'File "{__file__}", line' in raised
    assert 'raise KeyError("hidden")' in raised


def test_an_exception_that_was_never_raised_has_no_frames():
    (stack,) = exception_dicts(ValueError("x"), message=True)
    assert stack["frames"] == []
    assert traceback_text([stack]) == "ValueError: x\n"
