"""Whether audit files are as they were written, at some 250 000 lines a second.

What a chain proves, and what it cannot: examples/guides/audit.md.
"""

from __future__ import annotations

import binascii
import dataclasses
import time
from collections import Counter
from datetime import datetime
from datetime import timezone
from typing import TYPE_CHECKING

from .conclusion import conclude
from .conclusion import REMEDY
from .evidence import Evidence
from .finding import Finding
from .finding import Kind
from .finding import Verdict
from .heads import heads_path
from .heads import newest
from .heads import read_heads
from .key import AuditKey
from .mark import JSON_NOTE
from .trail import audit_files
from .trail import AuditFileError
from .trail import lines_of
from .trail import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Collection
    from collections.abc import Iterable
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

    from .heads import Head
    from .heads import HeadsReading

__all__ = ["Report", "verify"]

PROGRESS_LINES = 8192
"""Progress is told after so many lines."""

LATE_SECONDS = 2.0
"""A head is that late at most where its writer lives: a second, and what a busy machine adds."""

NEWLINE = ord("\n")

TEXT_NOTE = b" chain "
TEXT_NOTE_AT = slice(34, 41)
"""Where it stands, behind the time."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of it."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    """In the order of the files and lines."""
    files: tuple[str, ...]
    lines: int
    proved: int
    """Lines that their chains prove, the chains' own notes among them."""
    writers: int


def verify(
    paths: Sequence[Path],
    keys: Sequence[AuditKey] = (),
    *,
    heads: Sequence[Path] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Check audit files, which are read in the order of their first lines.

    Args:
        paths: The files of one series, rotated ones and compressed ones too; heads files among them are read as such.
        keys: Those that may have sealed them; without any the chains are checked that have no key.
        heads: Heads files kept elsewhere, read beside those that lie beside the files.
        on_progress: Told now and then how many bytes were read since the last time.

    Raises:
        AuditFileError: A file cannot be read.
    """
    return _Verification(keys or (AuditKey(),), on_progress).run(paths, heads)


class _Verification:
    def __init__(self, keys: Sequence[AuditKey], on_progress: Callable[[int], None] | None) -> None:
        self._evidence = Evidence({key.id: key for key in keys})
        self._on_progress = on_progress
        self._lines = 0

    def run(self, paths: Sequence[Path], heads_files: Sequence[Path]) -> Report:
        files = audit_files(paths)
        # Before the audit files: a writer's line is in its file before its head tells of it.
        heads_files = list(dict.fromkeys([*heads_files, *_beside(files)]))
        heads = self._heads(heads_files)
        for file in files:
            self._read(file)
        order = {str(file): number for number, file in enumerate(files)}
        all_here = not {heads_path(file).name for file in files}.isdisjoint(path.name for path in heads_files)
        alive = self._alive(heads, heads_files)
        conclude(self._evidence, heads, order=order, all_here=all_here, alive=alive, copies_of=_copies(files))
        if not self._evidence.chains and not self._evidence.findings:
            self._evidence.find(Kind.UNSEALED, (str(files[0]), 0), "", f"there is no chain in it: {REMEDY}")
        found = sorted(
            self._evidence.findings, key=lambda each: (order.get(each.file, len(order)), each.line, each.writer)
        )
        return Report(
            _verdict(found), tuple(found), tuple(order), self._lines, self._evidence.proved, len(self._evidence.chains)
        )

    def _alive(self, heads: dict[bytes, Head], heads_files: Sequence[Path]) -> set[bytes]:
        """Return which writers went on since their heads were read; wait for those that may be late."""
        late = {
            chain.writer: chain.sequence
            for chain in self._evidence.chains.values()
            if (head := heads.get(chain.writer)) is not None and not chain.closed and _may_be_late(head, chain.sequence)
        }
        if not late:
            return set()
        time.sleep(LATE_SECONDS)
        now = {
            head.writer: head for head in newest(head for path in heads_files for head in self._heads_in(path).heads)
        }
        return {
            writer
            for writer, sequence in late.items()
            if (head := now.get(writer)) is not None and head.sequence >= sequence and head.at > heads[writer].at
        }

    def _heads(self, heads_files: Iterable[Path]) -> dict[bytes, Head]:
        heads: list[Head] = []
        for path in heads_files:
            reading = self._heads_in(path)
            if reading.bad_lines:  # a slot may have been read while it was written
                reading = self._heads_in(path)
            heads += reading.heads
            for line in reading.bad_lines:
                self._evidence.find(Kind.HEADS, (str(path), line), "", "the line is not as it was sealed")
        return {head.writer: head for head in newest(heads)}

    def _heads_in(self, path: Path) -> HeadsReading:
        try:
            return read_heads(path.read_bytes(), self._evidence.keys)
        except OSError as error:
            raise AuditFileError(f"{path}: {error}") from error

    def _read(self, file: Path) -> None:
        with opened(file) as (stream, raw):
            self._read_lines(str(file), stream, raw)

    def _read_lines(self, name: str, stream: IO[bytes], raw: IO[bytes]) -> None:
        # The hot path of verification: a line that its chain expects takes 3 µs, 1.2 of them for the digest.
        evidence, chains = self._evidence, self._evidence.chains
        told = number = 0
        for number, line in enumerate(stream, 1):
            if number % PROGRESS_LINES == 0 and self._on_progress is not None:
                at_bytes = raw.tell()
                self._on_progress(at_bytes - told)
                told = at_bytes
            signed, mac = (line[:-43], line[-43:-3]) if line[-3:] == b'"}\n' else (line[:-41], line[-41:-1])
            mark = signed[signed.rfind(b".", 0, -1) - 8 :]
            chain = chains.get(mark[:8])
            if chain is not None and chain.expected == mark and evidence.settled and chain.key is not None:
                state = chain.key.start.copy()
                state.update(chain.head + signed)
                if binascii.b2a_base64(state.digest(), newline=False) == mac and line[-1] == NEWLINE:
                    place = name, number
                    chain.advance(chain.sequence + 1, mac, place)
                    chain.closed = False
                    if line[TEXT_NOTE_AT] == TEXT_NOTE or line.startswith(JSON_NOTE):
                        evidence.prove_note(chain, line[:-1], place)
                    continue
            evidence.look_at(line, (name, number))
        self._lines += number
        if self._on_progress is not None:
            self._on_progress(raw.tell() - told)


def _copies(files: Sequence[Path]) -> Callable[[Collection[bytes]], Collection[bytes]]:
    def copies_of(lines: Collection[bytes]) -> Collection[bytes]:
        """Read the files once more, for these lines alone."""
        counts = Counter(line for line in lines_of(files) if line in lines)
        return {line for line, count in counts.items() if count > 1 and line}

    return copies_of


def _may_be_late(head: Head, sequence: int) -> bool:
    """Whether a chain has got further than its head, or may have, whose writer has perhaps not had the time to say."""
    if head.sequence > sequence or (head.sequence == sequence and head.settled):
        return False
    written = datetime.fromisoformat(head.at)
    return abs((datetime.now(timezone.utc) - written).total_seconds()) < LATE_SECONDS


def _is_heads(path: Path) -> bool:
    return path.name.endswith((".heads", ".heads.1"))


def _beside(files: Sequence[Path]) -> list[Path]:
    """Return the heads files that lie beside these files: that of ``a.log`` is also that of ``a.log.2.gz``."""
    found: dict[Path, None] = {}
    for file in files:
        for path in file.absolute().parent.iterdir():
            if _is_heads(path) and file.name.startswith(path.name.removesuffix(".1").removesuffix(".heads")):
                found[path] = None
    return list(found)


def _verdict(findings: Sequence[Finding]) -> Verdict:
    verdicts = {finding.kind.verdict for finding in findings}
    order = (Verdict.TAMPERED, Verdict.UNCHECKED, Verdict.TORN)
    return next((verdict for verdict in order if verdict in verdicts), Verdict.INTACT)
