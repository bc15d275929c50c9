"""The seal of the audit file: a hash chain for each writer, so that whoever changes a line breaks it.

A line is sealed with a digest of itself and of the digest before it. Processes share nothing: each has a chain of its
own, under a name that it makes at its start and after a fork, and opens it in every file with a note that says where
it comes from: the digest that it ended the earlier file with, and the last mark that it found in this one.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from binascii import b2a_base64
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from .heads import Head
from .heads import heads_path
from .heads import HeadsFile
from .heads import read_heads
from .mark import JSON_END
from .mark import Note
from .mark import split
from .tail import left_of
from .tail import lines_between
from .tail import read_tail
from .tail import torn_name
from .tail import WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .key import AuditKey
    from .tail import Tail

__all__ = ["Chain"]

VERSION = "1"
ALGORITHM = "blake2b-240"

BRACE = ord("{")

HEAD_SECONDS = 1.0
"""How often records make the heads file be written: it is a second late at most, by ``settle`` where none follow."""

CHECKPOINT_SECONDS = 300.0
"""How often a writer tells in its own chain how far the others got."""

MAXIMUM_HEADS = 64
"""A checkpoint tells of so many other writers: those that wrote last."""


class Chain:
    """Seals one writer's lines. Its methods are called under the writer's lock.

    In a forked process ``opened`` is called anew, and begins a chain of another name. What fails here is the heads file
    alone, and loses no record: it is told to ``on_failed`` and tried again.

    Args:
        key: Makes the digests.
        on_failed: Told why the heads file could not be written.
    """

    def __init__(self, key: AuditKey, *, on_failed: Callable[[OSError], None] | None = None) -> None:
        self._key = key
        self._copy_start = key.start.copy
        self._on_failed = on_failed
        self.state: tuple[int, bytes] = (-1, b"")
        """The number and the digest of the last line."""
        self.due_seconds = 0.0
        self._left_behind = b""
        """What may be in the file in part, or whole, each on a line."""
        self._left_between = (0, 0)
        """From where to where in the file, in bytes; others may have written there, too."""
        self._as_json = False
        self._path: Path | None = None
        self._descriptor = self._inode = -1
        self._settled: tuple[int, bytes] | None = None
        """The state that the heads file tells for good."""
        self._is_closing = False
        self._heads: HeadsFile | None = None
        self._begin()

    def opened(self, path: Path, descriptor: int) -> None:
        """Take note of the file that the next lines go to: the first of them brings the opening note with it.

        The note tells the time of now, when the path leads to the file, so that files of a series are in its order.
        """
        if self._process_id != os.getpid():
            self._begin()
        status = os.fstat(descriptor)
        if path != self._path or self._heads is None:
            self._close_heads()
            self._heads = HeadsFile(heads_path(path), self._key) if stat.S_ISREG(status.st_mode) else None
        self._path, self._descriptor = path, descriptor
        self._inode = status.st_ino  # of now: a late head may come when the descriptor is closed
        self._is_closing = False
        self._opened_ns = time.time_ns()
        self._opening = self._noting = True

    def seal(self, line: bytes) -> bytes:
        """Return a line, without its newline, with its mark; in front of it what notes are due, each a line."""
        # The hot path: tests/benchmarks/audit.py tells what it costs; the digest is the half of it.
        is_json = line[0] == BRACE
        if self._noting:
            return self._seal_all([*self._due_notes(as_json=is_json), line])
        sequence, head = self.state
        sequence += 1
        if is_json:
            signed = b'%b,"chain":"%b%d.' % (line[:-1], self._name, sequence)
        else:
            signed = b"%b #%b%d." % (line, self._name, sequence)
        digest = self._copy_start()
        digest.update(head + signed)
        head = b2a_base64(digest.digest(), newline=False)
        self.state = sequence, head  # as a whole: an interrupt leaves it as it was or as it is to be
        return signed + head + JSON_END if is_json else signed + head

    def torn(self, sealed: bytes, from_bytes: int) -> None:
        """Only a part of it is in the file, or nobody knows: the next line goes on behind what is there, on its own.

        It brings an opening note, which tells what was left behind, so that nobody takes it for something that was put
        there.
        """
        if not self._left_behind:
            self._left_between = (max(from_bytes, 0), 0)
        self._left_behind = b"\n".join((self._left_behind, sealed))[-WINDOW_BYTES:]
        self._opening = self._noting = True
        with suppress(OSError):
            self._left_between = self._left_between[0], os.fstat(self._descriptor).st_size
        # At once: the next line may go to another file.
        self._left_behind = b"\n".join(self._left_beside(self._lines_around()))

    def written(self, now_seconds: float) -> bool:
        """Tell the heads file, and take note of notes that are in the file; return whether ``settle`` has to follow."""
        if self._noting:
            self._noted()
        self._put_head(now_seconds, settled=self._is_closing)
        return self._heads is not None and not self._is_closing

    def settle(self) -> bool:
        """Have the heads file tell of the last record for good, until the next one; return whether it did not before.

        The next record then puts its own head at once, so that whoever cuts off what came after a head shows: either it
        is settled, and nothing came, or it is not, and the end is open.
        """
        if self._settled == self.state:
            return False
        return self._put_head(monotonic(), settled=True)

    def closing(self) -> bytes | None:
        """Return the line, not sealed so far and without a newline, that ends this file."""
        if self._opening:
            return None
        self.due_seconds = 0.0
        self._is_closing = True
        note = Note.at(time.time_ns(), "closed", self._other_heads())
        return note.line(as_json=self._as_json)

    def _begin(self) -> None:
        self._process_id = os.getpid()
        self._close_heads()
        self._writer = secrets.token_urlsafe(6).encode()
        self._name = self._writer + b"."
        self.state = -1, b""
        self._left_behind = b""
        self._as_json = False
        self._opened = self._file_began = ""
        self._opened_ns = time.time_ns()
        self._opening = self._noting = True
        self.due_seconds = 0.0
        self._next_checkpoint_seconds = monotonic() + CHECKPOINT_SECONDS

    def _seal_all(self, lines: list[bytes]) -> bytes:
        """Seal several lines for one write, and have ``written`` called after it."""
        noting, self._noting = self._noting, False
        sealed = b"\n".join([self.seal(line) for line in lines])
        self._noting = noting
        self.due_seconds = 0.0
        return sealed

    def _due_notes(self, *, as_json: bool) -> list[bytes]:
        self._as_json = as_json
        fields = {**(self._origin() if self._opening else {}), **self._other_heads()}
        if not fields:
            return []
        if not self._opening:
            note = Note.at(time.time_ns(), "checkpoint", fields)
        else:
            note = Note.at(self._opened_ns, "opened", fields)
            self._opened = note.time
            self._put_head(monotonic())  # before the first line, lest a writer that is killed right after it be unknown
        return [note.line(as_json=as_json)]

    def _origin(self) -> dict[str, str]:
        """What the opening note says of where this chain comes from, and of the file that it goes on in."""
        tail = read_tail(self._path, self._descriptor) if self._path else None
        torn = self._torn_lines(tail) if tail else []
        saw, self._file_began = "?", ""
        if tail is not None:
            self._file_began = tail.began
            saw = (tail.last.writer + b".%d" % tail.last.sequence).decode() if tail.last else "-"
        return {
            "version": VERSION,
            "algorithm": ALGORITHM,
            "key": self._key.id,
            "after": self.state[1].decode() or "-",
            "saw": saw,
            **({"torn": ",".join(torn)} if torn else {}),
        }

    def _torn_lines(self, tail: Tail) -> list[str]:
        """Name what was left behind by this writer, and by one that is gone; go on behind what was written whole."""
        torn = {tail.fragment} - {b""}
        lines = [*self._lines_around(), *tail.lines]
        for part in self._left_beside([*lines, tail.fragment]):
            torn |= left_of(part, lines)
        return [torn_name(fragment) for fragment in sorted(torn)]

    def _lines_around(self) -> list[bytes]:
        """The lines where something was left behind."""
        if not self._left_behind or self._path is None:
            return []
        return lines_between(self._path, self._descriptor, *self._left_between)

    def _left_beside(self, lines: list[bytes]) -> list[bytes]:
        """Go on behind what was written whole, and return what else was left behind."""
        left = []
        for part in filter(None, self._left_behind.split(b"\n")):
            mark = split(part)[1]
            if mark is not None and part in lines:
                self.state = mark.sequence, mark.mac
            else:
                left.append(part)
        return left

    def _noted(self) -> None:
        """The notes that were due are in the file."""
        self._opening = self._noting = False
        self._left_behind = b""
        self._next_checkpoint_seconds = monotonic() + CHECKPOINT_SECONDS

    def _other_heads(self) -> dict[str, str]:
        """How far the other writers of this file got, by the heads file."""
        if self._heads is None:
            return {}
        try:
            data = self._heads.path.read_bytes()
        except OSError:
            return {}
        heads = read_heads(data, {self._key.id: self._key}).heads
        # An inode is used again when its file is gone: the writers of that one opened it before this one began.
        others = [
            head
            for head in sorted(heads, key=lambda head: head.at)
            if head.inode == self._inode
            and head.opened >= self._file_began
            and head.writer != self._writer
            and head.sequence >= 0
        ]
        told = [f"{head.writer.decode()}.{head.sequence}" for head in others[-MAXIMUM_HEADS:]]
        return {"heads": ",".join(told)} if told else {}

    def _put_head(self, now_seconds: float, *, settled: bool = False) -> bool:
        """Return whether it is there. One that is settled has the next record put another one at once."""
        self.due_seconds = now_seconds + HEAD_SECONDS
        if now_seconds >= self._next_checkpoint_seconds:
            self._noting = True
        if self._heads is None:
            return False
        self._settled = None
        at = Note.at(time.time_ns(), "", {}).time
        try:
            self._heads.put(Head(self._writer, *self.state, self._opened, at, self._inode, self._key.id, settled))
        except FileNotFoundError:  # the directory is gone, and the audit file with it: that is told with the records
            return False
        except OSError as error:
            if self._on_failed is not None:
                self._on_failed(error)
            return False
        if settled:
            self._settled, self.due_seconds = self.state, 0.0
        return True

    def _close_heads(self) -> None:
        if self._heads is not None:
            self._heads.close()
