"""Where something is written or kept: files, streams, directories."""

# What overrides Kind's methods is told by its class.
# ruff: noqa: D102

from __future__ import annotations

import contextlib
import difflib
import io
import os
from typing import Any
from typing import Protocol

from .kind import Kind

__all__ = ["FilePath", "Shared", "Stream", "TextStream"]


class TextStream(Protocol):
    """What log lines can be written to."""

    def write(self, text: str, /) -> object:
        """Write ``text``."""


class FilePath(Kind[str]):
    """The path of a file, as a string or an ``os.PathLike``."""

    def check(self, value: Any) -> str:
        path = os.fsdecode(value) if isinstance(value, os.PathLike) else value
        if isinstance(path, str) and path and "\0" not in path:
            return path
        raise ValueError("give the path of a file")


class Shared(Kind[str]):
    """``auto``, ``off``, or the absolute path of a directory."""

    def check(self, value: Any) -> str:
        if value in ("auto", "off"):
            return str(value)
        with contextlib.suppress(ValueError):
            path = FilePath().check(value)
            if os.path.isabs(path):  # noqa: PTH117 - a string, which it stays
                return path
        raise ValueError("give 'auto', 'off' or the absolute path of a directory")


NAMED_STREAMS = ("stdout", "stderr", "otlp")
DEVICES = {"/dev/stdout": "stdout", "/dev/stderr": "stderr"}
"""Symbolic links, which log files do not follow."""

NEAR_NAME = 0.75
"""How like a stream's name a bare word must be to be taken for a typing error (difflib's ratio): "otel" has as much."""


class Stream(Kind["str | TextStream"]):
    """``stdout``, ``stderr``, ``otlp``, the path of a file, or an open text stream."""

    def check(self, value: Any) -> str | TextStream:
        remedy = "give 'stdout', 'stderr', 'otlp', the path of a file or an open text stream"
        if isinstance(value, (io.RawIOBase, io.BufferedIOBase)):
            raise ValueError("it takes bytes; open it in text mode")  # noqa: TRY004
        if hasattr(value, "write"):
            return value  # type: ignore[no-any-return]
        try:
            path = FilePath().check(value)
        except ValueError:
            raise ValueError(remedy) from None
        path = DEVICES.get(path, path)
        if path not in NAMED_STREAMS and not {"/", "."} & set(path):
            near = difflib.get_close_matches(path.lower(), NAMED_STREAMS, 1, NEAR_NAME)
            if near:
                raise ValueError(f"did you mean {near[0]!r}? A file of this name is './{path}'")
        return path
