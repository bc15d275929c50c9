"""Whether a file can be written where it is to be, looked at before the first record needs it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["what_is_wrong_with"]


def what_is_wrong_with(path: str) -> str | None:
    """Return why no record could be written to ``path`` now, and the remedy; None where nothing is known.

    Nothing is made or opened. What is wrong now may be right when the first record comes, and the other way round.
    """
    file = Path(path).absolute()
    directory = file.parent
    if not directory.is_dir():
        return f"its directory {directory} does not exist: make it, or give another path"
    if file.is_symlink():
        return "it is a symbolic link, which is not followed: give the path that it leads to"
    if file.is_dir():
        return "it is a directory: give the path of a file in it"
    if file.exists():
        if not _may(file, os.W_OK):
            return f"this process (user {os.geteuid()}) may not write to it: change its owner or its mode"
    elif not _may(directory, os.W_OK | os.X_OK):
        return f"this process (user {os.geteuid()}) may not make files in {directory}: change its owner or its mode"
    return None


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
