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
from .tail import read_tail
from .tail import torn_name

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
"""How often the heads file is written at most: records of the last second can be cut off unseen after a crash."""

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
        self._sequence, self._head = -1, b""
        self._as_json = False
        self._path: Path | None = None
        self._descriptor = -1
        self._heads: HeadsFile | None = None
        self._begin()

    def opened(self, path: Path, descriptor: int) -> list[bytes]:
        """Take note of the file that the next lines go to: the first of them brings the opening note with it."""
        if self._process_id != os.getpid():
            self._begin()
        if path != self._path or self._heads is None:
            self._close_heads()
            self._heads = HeadsFile(heads_path(path), self._key) if _is_regular(descriptor) else None
        self._path, self._descriptor = path, descriptor
        self._opening = self._noting = True
        return []

    def seal(self, line: bytes) -> bytes:
        """Return a line, without its newline, with its mark; in front of it what notes are due, each a line.

        Nothing has changed until ``commit``.
        """
        # The hot path: twice an os.write, of which the digest is the half (tests/benchmarks/audit_chain.py).
        is_json = line[0] == BRACE
        if self._noting:
            return self._seal_all([*self._due_notes(as_json=is_json), line])
        self._next = sequence = self._sequence + 1
        if is_json:
            signed = b'%b,"chain":"%b%d.' % (line[:-1], self._name, sequence)
        else:
            signed = b"%b #%b%d." % (line, self._name, sequence)
        state = self._copy_start()
        state.update(self._head + signed)
        self._next_head = head = b2a_base64(state.digest(), newline=False)
        self._sent = sealed = signed + head + JSON_END if is_json else signed + head
        return sealed

    def commit(self) -> None:
        """The sealed line is in the file, the whole of it."""
        self._sequence, self._head = self._next, self._next_head
        if self._noting:
            self._noted()
        now_seconds = monotonic()
        if now_seconds >= self._next_heads_seconds:
            self._put_head(now_seconds)

    def torn(self) -> None:
        """Only a part of the sealed line is in the file; the next one begins on a line of its own.

        That one brings an opening note, which tells what was left behind, so that nobody takes it for something that
        was put there.
        """
        self._left_behind = self._sent
        self._opening = self._noting = True

    def closing(self) -> list[bytes]:
        """Return the line, sealed and without a newline, that ends this file; ``commit`` when it is there."""
        if self._opening:
            return []
        self._next_heads_seconds = 0.0
        note = Note.at(time.time_ns(), "closed", self._other_heads())
        return [self._seal_all([note.line(as_json=self._as_json)])]

    def _begin(self) -> None:
        self._process_id = os.getpid()
        self._close_heads()
        self._writer = secrets.token_urlsafe(6).encode()
        self._name = self._writer + b"."
        self._sequence, self._head = -1, b""
        self._next, self._next_head = self._sequence, self._head
        self._sent = self._left_behind = b""
        self._as_json = False
        self._opened = self._file_began = ""
        self._opening = self._noting = True
        self._next_heads_seconds = 0.0
        self._next_checkpoint_seconds = monotonic() + CHECKPOINT_SECONDS

    def _seal_all(self, lines: list[bytes]) -> bytes:
        """Seal several lines for one write."""
        committed = self._sequence, self._head
        noting, self._noting = self._noting, False
        sealed = []
        for line in lines:
            sealed.append(self.seal(line))
            self._sequence, self._head = self._next, self._next_head
        self._sequence, self._head = committed
        self._noting = noting
        self._sent = b"\n".join(sealed)
        return self._sent

    def _due_notes(self, *, as_json: bool) -> list[bytes]:
        self._as_json = as_json
        fields = {**(self._origin() if self._opening else {}), **self._other_heads()}
        if not fields:
            return []
        note = Note.at(time.time_ns(), "opened" if self._opening else "checkpoint", fields)
        if self._opening:
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
            "after": self._head.decode() or "-",
            "saw": saw,
            **({"torn": ",".join(torn)} if torn else {}),
        }

    def _torn_lines(self, tail: Tail) -> list[str]:
        """Name what was left behind by this writer, and by one that is gone; go on behind what was written whole."""
        torn = {tail.fragment} - {b""}
        for part in self._left_behind.split(b"\n") if self._left_behind else ():
            mark = split(part)[1]
            if mark is not None and part in (*tail.lines, tail.fragment):
                self._sequence, self._head = mark.sequence, mark.mac
            elif (left := left_of(part, tail.lines)) is not None:
                torn.add(left)
        self._left_behind = b""
        return [torn_name(fragment) for fragment in sorted(torn)]

    def _noted(self) -> None:
        """The notes that were due are in the file."""
        if self._opening:
            self._next_heads_seconds = 0.0  # the head is of this file from now on
        self._opening = self._noting = False
        self._next_checkpoint_seconds = monotonic() + CHECKPOINT_SECONDS

    def _other_heads(self) -> dict[str, str]:
        """How far the other writers of this file got, by the heads file."""
        if self._heads is None:
            return {}
        try:
            inode, data = os.fstat(self._descriptor).st_ino, self._heads.path.read_bytes()
        except OSError:
            return {}
        heads = read_heads(data, {self._key.id: self._key}).heads
        # An inode is used again when its file is gone: the writers of that one opened it before this one began.
        others = [
            head
            for head in sorted(heads, key=lambda head: head.at)
            if head.inode == inode
            and head.opened >= self._file_began
            and head.writer != self._writer
            and head.sequence >= 0
        ]
        told = [f"{head.writer.decode()}.{head.sequence}" for head in others[-MAXIMUM_HEADS:]]
        return {"heads": ",".join(told)} if told else {}

    def _put_head(self, now_seconds: float) -> None:
        self._next_heads_seconds = now_seconds + HEAD_SECONDS
        if now_seconds >= self._next_checkpoint_seconds:
            self._noting = True
        if self._heads is None:
            return
        try:
            inode = os.fstat(self._descriptor).st_ino
            at = Note.at(time.time_ns(), "", {}).time
            self._heads.put(Head(self._writer, self._sequence, self._head, self._opened, at, inode, self._key.id))
        except OSError as error:
            if self._on_failed is not None:
                self._on_failed(error)

    def _close_heads(self) -> None:
        if self._heads is not None:
            self._heads.close()


def _is_regular(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False
