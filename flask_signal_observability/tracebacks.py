"""Exceptions as data for a JSON record, and that data as text for a person."""

from __future__ import annotations

import linecache
from typing import Any

from structlog.tracebacks import ExceptionDictTransformer

__all__ = ["exception_dicts", "traceback_text"]

MAX_FRAMES = 50

_transform = ExceptionDictTransformer(show_locals=False, max_frames=MAX_FRAMES)

Stack = dict[str, Any]

MESSAGES = ("exc_value", "exc_notes", "syntax_error")
"""The keys of a stack that repeat what the exception says."""

CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def exception_dicts(error: BaseException, *, message: bool) -> list[Stack]:
    """Return structlog's dicts for ``error`` and, after it, for what it came from; without locals, 50 frames each.

    Args:
        error: The exception.
        message: Whether messages and notes stay in; frames and types always do.
    """
    stacks: list[Stack] = _transform((type(error), error, error.__traceback__))
    return stacks if message else [_without_messages(stack) for stack in stacks]


def traceback_text(stacks: list[Stack]) -> str:
    """Return what Python would have printed: the oldest exception first, with source lines where they are found.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: ``stacks`` is not what ``exception_dicts`` returns.
    """
    text = ""
    for i, stack in enumerate(reversed(stacks)):
        if i:
            # structlog says of an exception whether it is the cause of the one before it in the list.
            text += CAUSE if stacks[len(stacks) - i]["is_cause"] else CONTEXT
        text += _stack_text(stack)
    return text


def _without_messages(stack: Stack) -> Stack:
    kept = {key: value for key, value in stack.items() if key not in MESSAGES}
    if kept.get("exceptions"):
        kept["exceptions"] = [[_without_messages(inner) for inner in group] for group in kept["exceptions"]]
    return kept


def _stack_text(stack: Stack) -> str:
    lines = ["Traceback (most recent call last):"] if stack["frames"] else []
    for frame in stack["frames"]:
        lines += _frame_lines(frame)
    message = stack.get("exc_value")
    lines.append(f"{stack['exc_type']}: {message}" if message else stack["exc_type"])
    lines += stack.get("exc_notes") or []
    for i, group in enumerate(stack.get("exceptions") or (), 1):
        lines.append(f"  {i}. of the group:")
        lines += [f"    {line}" for line in traceback_text(group).splitlines()]
    return "\n".join(lines) + "\n"


def _frame_lines(frame: Stack) -> list[str]:
    if not frame["filename"]:  # structlog's note of how many frames it left out
        return [f"  [{frame['name']}]"]
    source = linecache.getline(frame["filename"], frame["lineno"] or 0).strip()
    where = f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
    return [where, f"    {source}"] if source else [where]
