"""Which Flask is installed."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import flask

__all__ = ["flask_version"]

BEGIN, END = "flask-", ".dist-info"


def flask_version() -> str:
    """Return Flask's version, by the name of the directory of metadata beside it.

    ``importlib.metadata`` looks through every directory of packages and parses what it finds, a third of what a start
    took; it is asked where there is no such directory, or more than one.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    try:
        names = os.listdir(Path(flask.__file__).parent.parent)  # noqa: PTH208 - hundreds of paths take a millisecond
    except OSError:  # imported from an archive
        names = []
    found = [name for name in names if name.startswith(BEGIN) and name.endswith(END)]
    return found[0][len(BEGIN) : -len(END)] if len(found) == 1 else metadata.version("flask")
