"""``<audit file>.heads``: how far each writer got, so that lines cut off at the end of the audit file show.

One line of fixed length for each writer, which it appends once and then writes over in place: no lock, and no file
that grows with the records. Each line is sealed with the key, and tells the last record that was surely written.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping
    from pathlib import Path

    from .key import AuditKey

__all__ = ["Head", "HeadsFile", "HeadsReading", "heads_path", "read_heads"]

SLOT_BYTES = 256
"""Divides a sector of 512 bytes, which a disk writes as a whole."""

MAXIMUM_BYTES = 4096 * SLOT_BYTES
"""At 4096 writers, which is as many starts of a process, the file becomes ``.heads.1`` and a new one begins."""

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)
_SLOT = re.compile(
    rb"(([\w-]{8})\.(-1|\d{1,19})\.([\w+/]{40}|) opened=([^ ]+) at=([^ ]+) inode=(\d+) key=([0-9a-f]{8}|-)"
    rb"( settled)?) #([\w+/]{40}) *"
)


@dataclasses.dataclass(frozen=True)
class Head:
    """How far one writer surely got."""

    writer: bytes
    sequence: int
    """-1 before the first record."""
    mac: bytes
    opened: str
    """When it opened the file that it writes to, as its opening note says it."""
    at: str
    inode: int
    """Of that file."""
    key_id: str
    settled: bool = False
    """The next record, whenever it comes, is followed by another head at once: as long as this one is here, nothing
    came after it."""

    def text(self) -> bytes:
        """Return what the slot seals."""
        return b"%b.%d.%b opened=%b at=%b inode=%d key=%b%b" % (
            *(self.writer, self.sequence, self.mac, self.opened.encode(), self.at.encode()),
            *(self.inode, self.key_id.encode(), b" settled" if self.settled else b""),
        )


@dataclasses.dataclass(frozen=True)
class HeadsReading:
    """What a heads file says."""

    heads: tuple[Head, ...]
    bad_lines: tuple[int, ...]
    """Lines that no holder of these keys wrote."""
    unknown_keys: frozenset[str]
    """Keys of lines that could not be checked."""


def heads_path(audit_path: Path) -> Path:
    """Return where the heads of an audit file are."""
    return audit_path.with_name(f"{audit_path.name}.heads")


class HeadsFile:
    """This writer's slot. Not safe to use from several threads: the writer's lock is around it."""

    def __init__(self, path: Path, key: AuditKey) -> None:
        self.path = path
        self._key = key
        self._descriptor: int | None = None
        self._offset = 0

    def put(self, head: Head) -> None:
        """Write the head into this writer's slot.

        Raises:
            OSError: It is not there; the next call tries again.
        """
        text = head.text()
        slot = (text + b" #" + self._key.mac(b"head " + text)).ljust(SLOT_BYTES - 1) + b"\n"
        if self._descriptor is not None and not self._is_at_path(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._claim(slot)
        else:
            os.pwrite(self._descriptor, slot, self._offset)

    def close(self) -> None:
        """Let go of the slot; a later head takes a new one."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except OSError:
            return False

    def _claim(self, slot: bytes) -> None:
        descriptor = os.open(self.path, _FLAGS, 0o640)
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes >= MAXIMUM_BYTES:
            os.close(descriptor)
            self.path.replace(f"{self.path}.1")
            descriptor, size_bytes = os.open(self.path, _FLAGS, 0o640), 0
        try:
            data = b"\n" + slot if size_bytes % SLOT_BYTES else slot  # somebody's slot was torn
            if os.write(descriptor, data) == len(data):
                self._offset = os.lseek(descriptor, 0, os.SEEK_CUR) - SLOT_BYTES
                # Linux appends even a pwrite where O_APPEND is set (pwrite(2), BUGS).
                fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_APPEND)
                self._descriptor = descriptor
        finally:
            if self._descriptor is None:
                os.close(descriptor)


def read_heads(data: bytes, keys: Mapping[str, AuditKey]) -> HeadsReading:
    """Return what the contents of a heads file say, each line checked with its key."""
    heads, bad_lines, unknown = [], [], set()
    for number, line in enumerate(data.split(b"\n"), 1):
        match = _SLOT.fullmatch(line)
        if match is None:
            bad_lines += [number] * bool(line)
            continue
        text, writer, sequence, mac, opened, at, inode, key_id, settled, seal = match.groups()
        key = keys.get(key_id.decode())
        if key is None:
            unknown.add(key_id.decode())
        elif key.mac(b"head " + text) != seal:
            bad_lines.append(number)
        else:
            told = opened.decode(), at.decode(), int(inode), key_id.decode()
            heads.append(Head(writer, int(sequence), mac, *told, settled=bool(settled)))
    return HeadsReading(tuple(newest(heads)), tuple(bad_lines), frozenset(unknown))


def newest(heads: Iterable[Head]) -> list[Head]:
    """Return the furthest head of each writer: one that took a second slot has two."""
    furthest: dict[bytes, Head] = {}
    for head in heads:
        if head.writer not in furthest or _reach(furthest[head.writer]) < _reach(head):
            furthest[head.writer] = head
    return list(furthest.values())


def _reach(head: Head) -> tuple[int, str]:
    return head.sequence, head.at
