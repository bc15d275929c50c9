"""What the lines of an audit file prove, one after the other, and what is to be made of those that do not fit.

A line is proved by its predecessor's digest. One that does not fit is a suspect until later lines tell: a line that
is proved by the suspect's own digest shows that this digest is genuine; one that fits without it shows that it was put
there. What is missing is a gap until a later line fills it.
"""

from __future__ import annotations

import dataclasses
import re
from itertools import islice
from typing import TYPE_CHECKING

from .finding import Finding
from .finding import Kind
from .mark import Note
from .mark import split
from .mark import torn_mark
from .testimony import Testimony
from .writer_chain import Gap
from .writer_chain import Suspect
from .writer_chain import WriterChain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .finding import Place
    from .key import AuditKey
    from .mark import Mark

__all__ = ["Evidence"]

ANCHORS = 16
"""A line is tried on so many of the last suspects; each try costs what verifying a line costs."""

ANCHOR_LINES = 4096
"""And on none that lies further back than this."""


_BEGINNING = re.compile(rb"\[(?=\d{4}-)|\{(?=\")")
"""Where a line may begin."""


class Evidence:
    """Everything that is known of the lines so far.

    Args:
        keys: By their id; the id of no key is ``-``.
    """

    def __init__(self, keys: dict[str, AuditKey]) -> None:
        self.keys = keys
        self.chains: dict[bytes, WriterChain] = {}
        self.findings: list[Finding] = []
        self.suspects: list[Suspect] = []
        self.testimony = Testimony()
        self.unsealed: list[Place] = []
        """The lines before the first chain."""
        self.glued: list[tuple[Place, bytes]] = []
        """What stands in front of a whole line, which it is no part of."""
        self._here: Place = ("", 0)
        self.settled = True
        """No suspect is left that a coming line could explain: a line that fits needs no second look."""

    @property
    def proved(self) -> int:
        """How many lines a key, or the lack of one, proves."""
        return sum(chain.proved for chain in self.chains.values() if chain.key is not None)

    def find(self, kind: Kind, place: Place, writer: str, message: str) -> None:
        """Keep a finding."""
        self.findings.append(Finding(kind, place[0], place[1], writer, message))

    def look_at(self, raw: bytes, place: Place) -> None:
        """Judge a line that is not simply its chain's next one, or after which there is more to do."""
        self._here = place
        raw, is_whole = raw.removesuffix(b"\n"), raw.endswith(b"\n")
        if not is_whole:
            self.find(Kind.TORN, place, "", "the file ends within a record, or before its newline")
        record, mark = split(raw)
        if mark is None:
            if not is_whole:
                return
            if self.chains or self.suspects:
                self._suspect(Suspect(place, raw, None, None, None))
            else:
                self.unsealed.append(place)
            return
        note = Note.read(record)
        chain = self.chains.get(mark.writer)
        if chain is None:
            chain = self._new_chain(mark, note, place)
        if chain is None and (opening := self._opening_behind_tear(raw, place)) is not None:
            chain, mark, note = opening
        if chain is not None and self._fits(chain, mark, note, place):
            self._proved(chain, note, place)
            self._take_in(chain)
        elif chain is None or not (self.fills(chain, mark, note, place) or self._follows_tear(chain, raw, mark, place)):
            self._try_anchors(raw, mark, note, place)

    def prove_note(self, chain: WriterChain, raw: bytes, place: Place) -> None:
        """Read the note that the last proved line of a chain is."""
        self._proved(chain, Note.read(split(raw)[0]), place)

    def _new_chain(self, mark: Mark, note: Note | None, place: Place) -> WriterChain | None:
        """Return a chain for an opening note of a writer that was not seen before."""
        if note is None or note.kind != "opened":
            return None
        key = self.keys.get(note.fields.get("key", ""))
        chain = WriterChain(mark.writer, key, mark.sequence)
        chain.head = _after(note)
        if not chain.proves(mark, chain.head):
            return None
        self.chains[mark.writer] = chain
        if key is None:
            self.find(Kind.WRONG_KEY, place, chain.name, _wrong_key(note.fields.get("key", ""), list(self.keys)))
        return chain

    def _fits(self, chain: WriterChain, mark: Mark, note: Note | None, place: Place) -> bool:
        """Whether the line is the chain's next, or begins it again in a later file."""
        if mark.sequence == chain.sequence + 1:
            if chain.key is None:
                self._find_key(chain, mark)
            if chain.proves(mark, chain.head):
                chain.advance(mark.sequence, mark.mac, place)
                return True
        if note is None or note.kind != "opened" or mark.sequence <= chain.sequence + 1:
            return False
        if not chain.proves(mark, _after(note)):
            return False
        chain.miss(Gap(chain.sequence + 1, mark.sequence - 1, chain.head, chain.place, place, None))
        chain.advance(mark.sequence, mark.mac, place)
        return True

    def _find_key(self, chain: WriterChain, mark: Mark) -> None:
        """A key that is given may be the one after all: then the note that names another was changed."""
        for key in self.keys.values():
            if key.mac(chain.head + mark.signed) == mark.mac:
                chain.key = key
                self.findings = [
                    dataclasses.replace(finding, kind=Kind.EDIT, message=f"the key is {key.id!r}, not what it says")
                    if finding.kind is Kind.WRONG_KEY and finding.writer == chain.name
                    else finding
                    for finding in self.findings
                ]

    def _proved(self, chain: WriterChain, note: Note | None, place: Place) -> None:
        chain.closed = note is not None and note.kind == "closed"
        if note is None or chain.key is None:
            return
        if note.kind == "opened":
            chain.opened = note.time
        if not self.testimony.hear(note, place):
            self.find(Kind.SPLICE, place, chain.name, "the chain opened an empty file, and not this one")

    def _take_in(self, chain: WriterChain) -> None:
        """Prove the suspects that the chain has now come to: they stand before their predecessors."""
        while suspect := self._next_suspect(chain):
            mark = suspect.mark
            if mark is None:
                return
            self.displaced(chain, suspect.place, mark.sequence)
            suspect.explained = True
            chain.advance(mark.sequence, mark.mac, chain.place)
            self._proved(chain, suspect.note, suspect.place)
        self.settled = not any(self._open_suspects())

    def _next_suspect(self, chain: WriterChain) -> Suspect | None:
        for suspect in self._open_suspects():
            mark = suspect.mark
            is_next = mark and mark.writer == chain.writer and mark.sequence == chain.sequence + 1
            if mark and is_next and chain.proves(mark, chain.head):
                return suspect
        return None

    def _open_suspects(self) -> Iterator[Suspect]:
        file, line = self._here
        return (
            suspect
            for suspect in self.suspects[-ANCHORS:]
            if suspect.mark and not suspect.explained
            if suspect.place[0] != file or line - suspect.place[1] < ANCHOR_LINES
        )

    def displaced(self, chain: WriterChain, place: Place, sequence: int) -> None:
        """Find a line that stands where it does not belong."""
        self.find(Kind.SWAP, place, chain.name, f"record {sequence} of its writer stands in another's place")

    def fills(self, chain: WriterChain, mark: Mark, note: Note | None, place: Place) -> bool:
        """Take the line for the first of a gap, which only stands too late, and say whether it is."""
        gap = chain.gaps.get(mark.sequence)
        if gap is None and note is not None and note.kind == "opened" and mark.sequence < chain.first:
            gap = chain.gaps.get(0)
        head = gap.head if gap else None
        if head is None and note is not None and note.kind == "opened":
            head = _after(note)
        if gap is None or head is None or not chain.proves(mark, head):
            return False
        self.displaced(chain, place, mark.sequence)
        del chain.gaps[gap.first]
        chain.proved += 1
        gap.first = mark.sequence
        gap.first, gap.head = gap.first + 1, mark.mac
        if gap.first <= gap.last:
            chain.miss(gap)
        elif (unproved := gap.unproved) and unproved.mark and not chain.proves(unproved.mark, gap.head):
            self._edited(unproved, chain.name)
        self._proved_late(chain, note, place)
        return True

    def _follows_tear(self, chain: WriterChain, raw: bytes, mark: Mark, place: Place) -> bool:
        """Whether the line is the chain's next, behind a torn one that nobody had closed off."""
        if mark.sequence != chain.sequence + 1 or chain.key is None:
            return False
        for match in islice(_BEGINNING.finditer(raw, 1), ANCHORS):
            if chain.key.mac(chain.head + mark.signed[match.start() :]) == mark.mac:
                self.glued.append((place, raw[: match.start()]))
                chain.advance(mark.sequence, mark.mac, place)
                self._proved(chain, Note.read(split(raw[match.start() :])[0]), place)
                self._take_in(chain)
                return True
        return False

    def _opening_behind_tear(self, raw: bytes, place: Place) -> tuple[WriterChain, Mark, Note] | None:
        """Return the chain that opens behind a torn line that nobody had closed off."""
        for match in islice(_BEGINNING.finditer(raw, 1), ANCHORS):
            record, mark = split(raw[match.start() :])
            note = Note.read(record)
            chain = self._new_chain(mark, note, place) if mark is not None else None
            if chain is not None and mark is not None and note is not None:
                self.glued.append((place, raw[: match.start()]))
                return chain, mark, note
        return None

    def is_torn(self, fragment: bytes) -> bool:
        """Whether it is what a chain would have gone on with, by so much of a digest as is there."""
        torn = torn_mark(fragment)
        chain = self.chains.get(torn.writer) if torn is not None else None
        if torn is None or chain is None or chain.key is None or torn.sequence != chain.sequence + 1:
            return False
        return chain.key.mac(chain.head + torn.signed).startswith(torn.mac)

    def _proved_late(self, chain: WriterChain, note: Note | None, place: Place) -> None:
        closed = chain.closed
        if note is not None and note.kind != "opened":
            self._proved(chain, note, place)
        chain.closed = closed

    def _edited(self, suspect: Suspect, writer: str) -> None:
        suspect.explained = True
        self.find(Kind.EDIT, suspect.place, writer, "the line is not as it was sealed")

    def _try_anchors(self, raw: bytes, mark: Mark, note: Note | None, place: Place) -> None:
        """Prove the line by a suspect's digest, else make it one, too."""
        chain = self.chains.get(mark.writer)
        is_old = chain is not None and mark.sequence <= chain.sequence  # and proves nothing that was not proved
        keys = [] if is_old else [chain.key] if chain and chain.key else list(self.keys.values())
        for suspect in reversed(list(self._open_suspects())):
            for key in keys:
                if self._anchors(suspect, mark, key):
                    self._jump(suspect, mark, key, place)
                    self._proved(self.chains[mark.writer], note, place)
                    self._take_in(self.chains[mark.writer])
                    return
        self._suspect(Suspect(place, raw, mark, note, chain.head if chain else None))

    def _anchors(self, suspect: Suspect, mark: Mark, key: AuditKey) -> bool:
        """Whether the suspect's digest, or the one that it should have, proves the line."""
        if suspect.mark is None:
            return False
        if key.mac(suspect.mark.mac + mark.signed) == mark.mac:
            return True
        return suspect.before is not None and (
            key.mac(key.mac(suspect.before + suspect.mark.signed) + mark.signed) == mark.mac
        )

    def _jump(self, suspect: Suspect, mark: Mark, key: AuditKey, place: Place) -> None:
        """Go on behind a suspect whose digest is genuine."""
        suspect.explained = True
        chain = self.chains.get(mark.writer)
        known = chain is not None
        if chain is None:
            chain = self.chains[mark.writer] = WriterChain(mark.writer, key, mark.sequence - 1)
        first = chain.sequence + 1
        genuine = suspect.mark is not None and suspect.mark[:2] == (mark.writer, mark.sequence - 1)
        if not known:
            self._beginning(chain, suspect, genuine=genuine)
        elif not genuine or first >= mark.sequence - 1:
            self._edited(suspect, chain.name)
        if known and first < mark.sequence - 1:
            unproved = suspect if genuine else None
            chain.miss(Gap(first, mark.sequence - 2, chain.head, chain.place, suspect.place, unproved))
        chain.advance(mark.sequence, mark.mac, place)

    def _beginning(self, chain: WriterChain, suspect: Suspect, *, genuine: bool) -> None:
        """A chain that does not open here: its opening was changed, or is not there."""
        is_first = suspect.mark is not None and suspect.mark.sequence == 0
        if not genuine or is_first or (suspect.note is not None and suspect.note.kind == "opened"):
            self._edited(suspect, chain.name)
        else:
            chain.miss(Gap(0, chain.first - 1, None, ("", 0), suspect.place, suspect))

    def _suspect(self, suspect: Suspect) -> None:
        self.suspects.append(suspect)
        self.settled = self.settled and suspect.mark is None


def _after(note: Note) -> bytes:
    after = note.fields.get("after", "-")
    return b"" if after == "-" else after.encode("utf-8", "surrogateescape")


def _wrong_key(named: str, given: list[str]) -> str:
    """Return what is the matter with the key, and what to do. No key has the id ``-``."""
    if named == "-":
        return (
            "the chain is sealed without a key, as anybody can: verify without a key what was written before there was "
            "one; where there was one, somebody has sealed these lines anew"
        )
    if given == ["-"]:
        return f"the chain is sealed with the key {named!r}, and no key was given: give it with --key-file"
    return (
        f"the chain is sealed with the key {named!r}, and the wrong one was given, {', '.join(map(repr, given))}: give "
        "the one that the app had then, too, with another --key-file; if it never had such a key, somebody has sealed "
        "these lines anew"
    )
