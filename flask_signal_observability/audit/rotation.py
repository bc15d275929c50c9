"""Rotation by size and by time, safe with several processes, without a lock while records are written.

Whoever writes keeps a shared flock(2) on the open file, which ends with its process. Whoever rotates holds an exclusive
one on ``<file>.lock`` for as long as a rename takes; its modification time says when the file was begun. An old file is
packed when nobody has it open any more, which its exclusive lock proves, so that no late record is packed away.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from contextlib import suppress
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING

from .forks import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from ..files import Descriptor

__all__ = ["Rotation"]

WAIT_SECONDS = 0.5
ATTEMPTS = 10
"""How often, and how far apart, an old file that somebody still writes to is tried: longer than it takes a busy process
to notice that the file was renamed. An idle one keeps it open; the next rotation comes back to it."""

PACKED = ".gz"
PART = ".part"
CHUNK_BYTES = 256 * 1024


class Rotation:
    """Renames a file that is due, packs old ones in a thread, and deletes the oldest.

    ``audit.log`` becomes ``audit.log.20261122T100900.123456Z``, then ``….gz``. Safe to use from several threads and
    processes.

    Args:
        path: The file.
        max_bytes: From which size on it is due; None: none. Checked once a second, and whenever this process alone has
            written so much.
        seconds: It is due where a multiple of so many seconds since 1970 has passed since it was begun: with 86 400
            at midnight in UTC. None: never.
        keep: How many old files stay; None: all of them.
        tell: Told what went wrong in the thread.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None,
        seconds: int | None,
        keep: int | None,
        tell: Callable[[OSError], None],
    ) -> None:
        self._max_bytes = max_bytes
        self._path = path = Path(path).absolute()
        self._seconds = seconds
        self._keep = keep
        self._tell = tell
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._is_old = re.compile(re.escape(path.name) + r"\.\d{8}T\d{6}\.\d{6}Z(\.gz)?").fullmatch
        self._resume_seconds = 0.0
        self._packing = threading.Lock()
        self._is_wanted = False
        renew_in_children(self)

    def renew(self) -> None:
        """Let this process pack, whoever does in its parent."""
        self._packing = threading.Lock()

    def enter(self, file: Descriptor) -> bool:
        """Say that ``file`` is written to, for as long as any process has it open; False: it is an old one by now."""
        try:
            fcntl.flock(file.number, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._begin(file)
        except BlockingIOError:
            pass
        except OSError as error:  # a file system without locks
            self._tell(error)
            return True
        return file.is_at(self._path)

    def wants(self, size_bytes: int) -> bool:
        """Whether it is worth while to look at once, since this process knows that the file is so large."""
        return (
            self._max_bytes is not None and size_bytes >= self._max_bytes and time.monotonic() >= self._resume_seconds
        )

    def rotate_if_due(self, file: Descriptor) -> bool:
        """Return whether the path no longer leads to ``file``, which was renamed here or by somebody else.

        What cannot be rotated is told, and tried again a second later: no record is lost for it.
        """
        try:
            return self._is_due(file) and self._rotate(file)
        except OSError as error:
            self._resume_seconds = time.monotonic() + 1
            self._tell(error)
            return False

    def _begin(self, file: Descriptor) -> None:
        """Make the file whose modification time says when ``file`` was begun, if it is not there."""
        if not self._lock_path.exists():
            status = file.status()
            with suppress(FileExistsError):
                os.close(os.open(self._lock_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
                if status.st_size:
                    os.utime(self._lock_path, (status.st_mtime, status.st_mtime), follow_symlinks=False)

    def _rotate(self, file: Descriptor) -> bool:
        with self._alone(self._lock_path) as is_alone:
            if not is_alone:
                return False  # somebody else is at it; the next look will tell
            if not file.is_at(self._path):
                return True
            if not self._is_due(file):
                return False
            self._path.rename(self._free_name())
            os.utime(self._lock_path, follow_symlinks=False)
        self.pack_in_background()
        return True

    def pack_in_background(self) -> None:
        """Pack and delete old files in a thread, unless there is one that does."""
        self._is_wanted = True
        if self._packing.acquire(blocking=False):
            try:
                threading.Thread(target=self._pack_all, name="audit-pack", daemon=True).start()
            except RuntimeError as error:  # too many threads, or the interpreter ends: the next rotation packs
                self._packing.release()
                self._tell(OSError(f"no thread to pack {self._path.name}: {error}"))

    def _is_due(self, file: Descriptor) -> bool:
        size = file.status().st_size
        if self._max_bytes is not None and size >= self._max_bytes:
            return True
        if self._seconds is None:
            return False
        self._begin(file)
        begun = self._lock_path.lstat().st_mtime
        if begun // self._seconds >= time.time() // self._seconds:
            return False
        if size == 0:
            os.utime(self._lock_path, follow_symlinks=False)
            return False
        return True

    def _free_name(self) -> Path:
        while True:
            now = datetime.fromtimestamp(time.time(), timezone.utc)
            name = self._path.with_name(f"{self._path.name}.{now:%Y%m%dT%H%M%S.%f}Z")
            if not name.exists():
                return name

    @contextmanager
    def _alone(self, path: Path) -> Iterator[bool]:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(number)

    def _pack_all(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                self._pack_what_can_be()
                self._delete_oldest()
        except OSError as error:
            self._tell(error)
        finally:
            self._packing.release()
        if self._is_wanted:  # by a rotation between the last look and the release
            self.pack_in_background()

    def _pack_what_can_be(self) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(WAIT_SECONDS)
            if all([self._pack(old) for old in self._old_files() if old.suffix != PACKED]):  # noqa: C419 - each one
                return

    def _old_files(self) -> list[Path]:
        """Return the old files, the oldest first: their names sort as their times do."""
        return sorted(path for path in self._path.parent.iterdir() if self._is_old(path.name))

    def _pack(self, old: Path) -> bool:
        """Return whether ``old`` is done with; False: somebody has it open."""
        try:
            number = os.open(old, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        with open(number, "rb") as source:  # noqa: PTH123 - a descriptor
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if not old.exists():
                return True  # another process has packed it between the two lines above
            packed = old.with_name(old.name + PACKED)
            part = packed.with_name(packed.name + PART)
            mode = os.fstat(number).st_mode & 0o777
            out = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
            with open(out, "wb") as raw:  # noqa: PTH123
                os.fchmod(out, mode)
                with gzip.GzipFile(fileobj=raw, filename="", mode="wb", mtime=0) as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
                raw.flush()
                os.fsync(out)
            part.rename(packed)
            old.unlink()
        return True

    def _delete_oldest(self) -> None:
        if self._keep is None:
            return
        old_files = self._old_files()
        for old in old_files[: max(0, len(old_files) - self._keep)]:
            if old.suffix == PACKED:  # another one is still written to
                old.unlink(missing_ok=True)
