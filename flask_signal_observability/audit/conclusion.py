"""What it all comes to when the last line was read: which gaps stay, what suspects were, where chains were cut off."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from .finding import Kind
from .tail import torn_name
from .writer_chain import Gap

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Collection

    from .evidence import Evidence
    from .finding import Place
    from .heads import Head
    from .writer_chain import Suspect
    from .writer_chain import WriterChain

__all__ = ["REMEDY", "conclude"]

TORN = "the beginning of a record that a crash or a full disk cut off, as a later note says"

REMEDY = "audit_chain=True seals what is written from then on; begin a new file with it"

FOREIGN = "the line is of a chain that does not open in this file"

END = 1 << 62
"""The line behind all lines."""


def conclude(
    evidence: Evidence,
    heads: dict[bytes, Head],
    *,
    order: dict[str, int],
    all_here: bool,
    alive: Collection[bytes],
    copies_of: Callable[[Collection[bytes]], Collection[bytes]],
) -> None:
    """Turn what is still open into findings.

    Args:
        evidence: Of all lines.
        heads: What the heads file says, by writer.
        order: The files by name, and where each stands.
        all_here: The file that is written to, to which the heads belong, is among them.
        alive: The writers that were seen to go on: a head of theirs may be late.
        copies_of: Which of some lines are in the files more than once.
    """
    _Conclusion(evidence, heads, order, all_here=all_here, alive=alive).draw(copies_of)


class _Conclusion:
    def __init__(
        self,
        evidence: Evidence,
        heads: dict[bytes, Head],
        order: dict[str, int],
        *,
        all_here: bool,
        alive: Collection[bytes],
    ) -> None:
        self._evidence = evidence
        self._heads = heads
        self._order = order
        self._all_here = all_here
        self._alive = alive

    def draw(self, copies_of: Callable[[Collection[bytes]], Collection[bytes]]) -> None:
        evidence = self._evidence
        self._torn_lines()
        self._find_displaced()
        self._find_ends()
        for chain in evidence.chains.values():
            self._required(chain)
            for gap in chain.gaps.values():
                self._gap(chain, gap)
        self._absent_writers()
        open_suspects = [suspect for suspect in evidence.suspects if not suspect.explained]
        copies = copies_of({suspect.raw for suspect in open_suspects}) if open_suspects else ()
        for suspect in open_suspects:
            if not suspect.explained:
                self._suspect(suspect, is_copy=suspect.raw in copies)
        for chain in evidence.chains.values():
            self._open_end(chain)
        self._unsealed()

    def _torn_lines(self) -> None:
        """What a note tells of as torn is no forgery, and neither is a blank line: a writer closed off a torn one.

        It may have been closed off before, or only have looked torn while another process was writing it.
        """
        evidence = self._evidence
        for suspect in evidence.suspects:
            if suspect.mark is None and torn_name(suspect.raw) in evidence.testimony.attested:
                suspect.explained = True
                evidence.find(Kind.TORN, suspect.place, "", TORN)
            elif not suspect.raw and (
                evidence.testimony.attested or (suspect.place[0], suspect.place[1] + 1) in evidence.testimony.openings
            ):
                suspect.explained = True
        for place, fragment in evidence.glued:
            if torn_name(fragment) in evidence.testimony.attested:
                evidence.find(Kind.TORN, place, "", TORN)
            elif evidence.is_torn(fragment):
                evidence.find(
                    Kind.TORN, place, "", "the beginning of its writer's last record, which was killed amid it"
                )
            else:
                told = f"{len(fragment)} bytes before the record are not its own: a killed process left them, or they "
                evidence.find(Kind.INSERTION, place, "", told + "were put there")

    def _find_displaced(self) -> None:
        """Lines that were moved so far ahead that nobody remembered them when their place came."""
        evidence = self._evidence
        for suspect in evidence.suspects:
            mark = suspect.mark
            chain = evidence.chains.get(mark.writer) if mark and not suspect.explained else None
            if chain is not None and mark is not None:
                suspect.explained = evidence.fills(chain, mark, suspect.note, suspect.place)

    def _find_ends(self) -> None:
        """The last line of a writer, behind a gap: its head proves that it was written."""
        for suspect in self._evidence.suspects:
            mark = suspect.mark
            chain = self._evidence.chains.get(mark.writer) if mark and not suspect.explained else None
            if mark is None or chain is None or mark.sequence <= chain.sequence + 1:
                continue
            head = self._heads.get(mark.writer)
            if head is not None and (head.sequence, head.mac) == (mark.sequence, mark.mac):
                suspect.explained = True
                gap = Gap(chain.sequence + 1, mark.sequence - 1, chain.head, chain.place, suspect.place, suspect)
                chain.miss(gap)
                chain.advance(mark.sequence, mark.mac, suspect.place)
                chain.proved -= 1

    def _required(self, chain: WriterChain) -> None:
        """Compare the end of a chain with what its head, and the notes of others, say of it."""
        sequence, _ = self._evidence.testimony.required.get(chain.writer, (-1, ("", 0)))
        head = self._heads.get(chain.writer)
        if head is not None and (head.opened == chain.opened or (self._all_here and head.opened > chain.opened)):
            sequence = max(sequence, head.sequence)
            if head.sequence == chain.sequence and head.mac != chain.head and chain.key is not None:
                self._evidence.find(Kind.EDIT, chain.place, chain.name, "the heads file has another digest of it")
        if sequence > chain.sequence:
            end = max(self._order, key=lambda file: self._order[file]), END
            chain.miss(Gap(chain.sequence + 1, sequence, chain.head, chain.place, end, None))

    def _gap(self, chain: WriterChain, gap: Gap) -> None:
        is_end = gap.first > chain.sequence
        is_beginning = gap.head is None
        missing = gap.last - gap.first + 1
        if is_beginning and missing == 1 and self._evidence.unsealed[-1:] == [_before(gap.before)]:
            missing = 0
            self._evidence.find(
                Kind.EDIT, self._evidence.unsealed.pop(), chain.name, "the line is not as it was sealed"
            )
        for suspect in () if is_beginning else self._between(gap):
            if missing and not suspect.explained and self._may_be(suspect, chain, gap):
                suspect.explained = True
                missing -= 1
                message = f"the line is not as it was sealed; it was record {gap.last - missing} of its writer"
                self._evidence.find(Kind.EDIT, suspect.place, chain.name, message)
        if not missing:
            return
        which = f"{gap.first}" if gap.first == gap.last else f"{gap.first} to {gap.last}"
        records = f"record {which} of this writer" if missing == 1 else f"{missing} records of this writer, {which},"
        are = "is" if missing == 1 else "are"
        if is_end:
            kind, told = Kind.TRUNCATION, f"{records} {are} missing after its last line"
            place = chain.place
        elif is_beginning and not self._is_ours(chain.writer):
            kind, told = Kind.SPLICE, FOREIGN
            place = gap.before
        else:
            kind, told = Kind.DELETION, f"{records} {are} missing before this line"
            place = gap.before
        if gap.unproved is not None and kind is Kind.DELETION:
            told += ", which cannot be proved without them"
        self._evidence.find(kind, place, chain.name, told)

    def _between(self, gap: Gap) -> list[Suspect]:
        """The suspects that lie where something is missing."""
        suspects = self._evidence.suspects
        start = bisect.bisect_right(suspects, self._key(gap.after), key=lambda suspect: self._key(suspect.place))
        end = bisect.bisect_left(suspects, self._key(gap.before), key=lambda suspect: self._key(suspect.place))
        return suspects[start:end]

    def _may_be(self, suspect: Suspect, chain: WriterChain, gap: Gap) -> bool:
        """Whether a suspect may be what was made of a record that is missing."""
        if suspect.mark is None or suspect.mark.writer not in self._evidence.chains:
            return True
        return suspect.mark.writer == chain.writer and suspect.mark.sequence >= gap.first

    def _key(self, place: Place) -> tuple[int, int]:
        return self._order.get(place[0], len(self._order)), place[1]

    def _is_ours(self, writer: bytes) -> bool:
        return writer in self._heads or writer in self._evidence.testimony.required

    def _absent_writers(self) -> None:
        """Of a writer that is known to have written here there is no line that proves anything."""
        evidence = self._evidence
        began = min((chain.opened for chain in evidence.chains.values() if chain.opened), default="")
        absent = {
            writer: place for writer, (_, place) in evidence.testimony.required.items() if writer not in evidence.chains
        }
        if self._all_here:
            for head in self._heads.values():
                if head.writer not in evidence.chains and head.sequence >= 0 and began and head.opened >= began:
                    absent.setdefault(head.writer, (max(self._order, key=lambda file: self._order[file]), 0))
        for writer, place in absent.items():
            kind, told = Kind.DELETION, "no line of this writer is left, and another tells of it"
            if writer in self._heads:
                kind = Kind.TRUNCATION
            elif place in evidence.testimony.origins:
                kind, told = Kind.SPLICE, "the chain that opens here saw this writer in its file, which is not this one"
            evidence.find(kind, place, writer.decode("utf-8", "replace"), told)

    def _suspect(self, suspect: Suspect, *, is_copy: bool) -> None:
        kind, told = self._judged(suspect, is_copy=is_copy)
        writer = suspect.mark.writer.decode() if suspect.mark else ""
        self._evidence.find(kind, suspect.place, writer, told)

    def _judged(self, suspect: Suspect, *, is_copy: bool) -> tuple[Kind, str]:
        mark = suspect.mark
        chain = self._evidence.chains.get(mark.writer) if mark else None
        if is_copy:
            judged = Kind.REPLAY, "the line is there twice"
        elif mark is None:
            judged = Kind.INSERTION, "the line has no seal"
        elif chain is None:
            judged = self._strange(suspect, mark.writer)
        elif mark.sequence < chain.first:
            judged = Kind.SPLICE, "the line is of this writer's chain in another file"
        elif mark.sequence <= chain.sequence:
            judged = Kind.INSERTION, f"record {mark.sequence} of this writer is another line"
        elif mark.sequence == chain.sequence + 1:
            judged = Kind.EDIT, "the line is not as it was sealed"
        else:
            missing = f"{chain.sequence + 1} to {mark.sequence - 1}"
            judged = Kind.DELETION, f"records {missing} of this writer are missing before this line, nothing proves it"
        return judged

    def _strange(self, suspect: Suspect, writer: bytes) -> tuple[Kind, str]:
        """A line of a writer of whom nothing is proved."""
        if self._is_ours(writer):
            return Kind.DELETION, "what comes before this line of its writer is missing"
        if suspect.note is not None and suspect.note.kind == "opened":
            return Kind.EDIT, "the line is not as it was sealed"
        return Kind.SPLICE, FOREIGN

    def _open_end(self, chain: WriterChain) -> None:
        if chain.closed or chain.key is None or chain.writer in self._alive:
            return
        head = self._heads.get(chain.writer)
        if head is None or not (head.opened == chain.opened or (self._all_here and not chain.opened)):
            told = "nothing attests where this chain ends: it was not closed, and has no line in the heads file"
        elif head.sequence < chain.sequence:
            told = (
                f"the chain was not closed, and the heads file attests it up to record {head.sequence} and not to "
                f"{chain.sequence}, its last line: whether more followed cannot be told"
            )
        elif head.sequence == chain.sequence and not head.settled:
            told = (
                "the chain was not closed, and its writer ended within a second of what the heads file attests: "
                "whether more followed cannot be told"
            )
        else:
            return
        self._evidence.find(Kind.OPEN_END, chain.place, chain.name, told)

    def _unsealed(self) -> None:
        unsealed = self._evidence.unsealed
        if unsealed:
            told = f"{len(unsealed)} line{'s' * (len(unsealed) != 1)} without a seal"
            told += " before the first chain" if self._evidence.chains else f", and there is no chain: {REMEDY}"
            self._evidence.find(Kind.UNSEALED, unsealed[0], "", told)


def _before(place: Place) -> Place:
    return place[0], place[1] - 1
