from __future__ import annotations

import gzip
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.audit.chain import Chain
from flask_signal_observability.audit.finding import Kind
from flask_signal_observability.audit.finding import Verdict
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.mark import split
from flask_signal_observability.audit.trail import AuditFileError
from flask_signal_observability.audit.verification import verify
from flask_signal_observability.audit.writer import AuditWriter

from .chained_file import ChainedFile
from .chained_file import KEY
from .chained_file import OTHER_KEY
from .chained_file import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask_signal_observability.audit.verification import Report


class Sample:
    """A file of two writers, of which the second ends without a word, and what can be done to it."""

    def __init__(self, directory: Path, *, as_json: bool = False, key: AuditKey = KEY) -> None:
        self.path = directory / "audit.log"
        self.key = key
        one, other = (ChainedFile(self.path, key, as_json=as_json) for _ in range(2))
        for _ in range(4):
            one.write(2)
            other.write(3)
        one.close()
        other.chain.due_seconds = 0  # as a second later
        other.write(1)
        other.abandon()
        self.lines = self.path.read_bytes().splitlines(keepends=True)
        stranger = ChainedFile(directory / "other.log", key, as_json=as_json)
        stranger.number = 100
        stranger.write(8)
        stranger.close()
        self.strange = (directory / "other.log").read_bytes().splitlines(keepends=True)

    def verified(self, lines: Sequence[bytes]) -> Report:
        self.path.write_bytes(b"".join(lines))
        return verify([self.path], [self.key])

    def writer(self, index: int) -> bytes:
        mark = split(self.lines[index].removesuffix(b"\n"))[1]
        assert mark is not None
        return mark.writer

    def successor(self, index: int) -> int | None:
        """The next line of the same writer."""
        after = range(index + 1, len(self.lines))
        return next((each for each in after if self.writer(each) == self.writer(index)), None)


@pytest.fixture(scope="module", params=[False, True], ids=["text", "json"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample"), as_json=request.param)


INDEX = st.integers(0, 22)


def found(report: Report) -> list[tuple[Kind, int]]:
    return [(finding.kind, finding.line) for finding in report.findings]


def test_an_untouched_file_is_intact(sample: Sample) -> None:
    report = sample.verified(sample.lines)
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())
    assert (report.lines, report.proved, report.writers) == (24, 24, 2)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 23), at=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_an_edit_is_named_and_found_at_its_line(sample: Sample, index: int, at: float, flip: int) -> None:
    line = bytearray(sample.lines[index])
    record_bytes = len(split(bytes(line[:-1]))[0])
    place = int(at * record_bytes)
    line[place] ^= flip
    if line[place] == 0x0A:
        return  # another line end: two edits
    report = sample.verified([*sample.lines[:index], bytes(line), *sample.lines[index + 1 :]])
    assert found(report) == [(Kind.EDIT, index + 1)]


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 23))
def test_a_deletion_is_named_and_found_where_the_writer_goes_on(sample: Sample, index: int) -> None:
    report = sample.verified([*sample.lines[:index], *sample.lines[index + 1 :]])
    after = sample.successor(index)
    expected = Kind.DELETION if after is not None else Kind.TRUNCATION
    assert [kind for kind, _ in found(report)] == [expected]
    if after is not None:
        assert found(report)[0][1] == after


@settings(max_examples=40, deadline=None)
@given(index=INDEX, text=st.binary(min_size=1, max_size=60).filter(lambda text: b"\n" not in text))
def test_a_line_without_a_seal_is_an_insertion(sample: Sample, index: int, text: bytes) -> None:
    report = sample.verified([*sample.lines[: index + 1], text + b"\n", *sample.lines[index + 1 :]])
    assert found(report) == [(Kind.INSERTION, index + 2)]


@settings(max_examples=40, deadline=None)
@given(index=INDEX, mac=st.binary(min_size=32, max_size=32))
def test_a_forged_record_is_an_insertion(sample: Sample, index: int, mac: bytes) -> None:
    forged = bytearray(sample.lines[index])
    at = forged.index(b"orders/" if b"orders" in forged else b"chain ") if b"chain_note" not in forged else 16
    forged[at] ^= 1
    report = sample.verified([*sample.lines[: index + 1], bytes(forged), *sample.lines[index + 1 :]])
    assert found(report) == [(Kind.INSERTION, index + 2)]


@settings(max_examples=40, deadline=None)
@given(one=INDEX, distance=st.integers(1, 20))
def test_a_swap_within_a_writer_is_named(sample: Sample, one: int, distance: int) -> None:
    other: int | None = one
    for _ in range(distance):
        other = sample.successor(other) or other  # type: ignore[arg-type]
    assert other is not None
    if other == one:
        return
    lines = list(sample.lines)
    lines[one], lines[other] = lines[other], lines[one]
    kinds = {kind for kind, _ in found(sample.verified(lines))}
    assert Kind.SWAP in kinds
    assert kinds <= {Kind.SWAP, Kind.EDIT, Kind.OPEN_END}


@settings(max_examples=40, deadline=None)
@given(index=INDEX, later=st.integers(1, 24))
def test_a_replay_is_named(sample: Sample, index: int, later: int) -> None:
    at = min(index + later, 24)
    report = sample.verified([*sample.lines[:at], sample.lines[index], *sample.lines[at:]])
    assert found(report) == [(Kind.REPLAY, at + 1)]


@pytest.mark.parametrize("count", [2, 5, 24])
def test_a_replay_of_the_last_lines_is_named(sample: Sample, count: int) -> None:
    report = sample.verified([*sample.lines, *sample.lines[-count:]])
    assert found(report) == [(Kind.REPLAY, number) for number in range(25, 25 + count)]


@settings(max_examples=40, deadline=None)
@given(index=INDEX, first=st.integers(1, 9), count=st.integers(1, 5))
def test_lines_of_another_file_are_a_splice(sample: Sample, index: int, first: int, count: int) -> None:
    spliced = sample.strange[first : first + count]
    report = sample.verified([*sample.lines[: index + 1], *spliced, *sample.lines[index + 1 :]])
    assert (Kind.SPLICE, index + 2) in found(report)
    assert {kind for kind, _ in found(report)} <= {Kind.SPLICE, Kind.OPEN_END}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 23))
def test_a_truncation_is_named(sample: Sample, count: int) -> None:
    report = sample.verified(sample.lines[:-count])
    assert report.verdict is Verdict.TAMPERED
    assert Kind.TRUNCATION in {kind for kind, _ in found(report)}


KINDS = st.sampled_from(["edit", "delete", "swap", "replay", "insert", "splice"])
CHANGES = st.lists(st.tuples(KINDS, INDEX), max_size=6)


@settings(max_examples=100, deadline=None)
@given(changes=CHANGES.filter(bool))
def test_any_sequence_of_changes_is_tampering(sample: Sample, changes: list[tuple[str, int]]) -> None:
    lines = list(sample.lines)
    for kind, drawn in changes:
        index = drawn % len(lines)
        other = (index + 5) % len(lines)
        if kind == "edit":
            lines[index] = lines[index].replace(b"0", b"1", 1)
        elif kind == "delete":
            del lines[index]
        elif kind == "swap":
            lines[index], lines[other] = lines[other], lines[index]
        else:
            line = {"replay": lines[other], "insert": b"hello\n", "splice": sample.strange[index % 9]}[kind]
            lines.insert(index, line)
        if not lines:
            return
    report = sample.verified(lines)
    if orders(lines) == orders(sample.lines):
        assert report.verdict is Verdict.INTACT
    else:
        assert report.verdict in (Verdict.TAMPERED, Verdict.UNCHECKED)
        assert report.findings


def orders(lines: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    """What the chains say: the lines of each writer in their order."""
    told: dict[bytes, list[bytes]] = {}
    for line in lines:
        mark = split(line.removesuffix(b"\n"))[1]
        told.setdefault(mark.writer if mark else b"", []).append(line)
    return told


def test_a_flipped_bit_is_tampering_wherever_it_is(sample: Sample) -> None:
    data = b"".join(sample.lines)
    draw = random.Random(20261122)
    for at in draw.sample(range(len(data)), 250):
        flipped = bytearray(data)
        flipped[at] ^= 1 << draw.randrange(8)
        assert sample.verified([bytes(flipped)]).verdict is Verdict.TAMPERED, at


def test_a_flipped_bit_in_the_heads_file_is_told(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    heads = tmp_path / "audit.log.heads"
    data = heads.read_bytes()
    for at in range(256, len(data), 7):  # of the writer whose end nothing else attests
        flipped = bytearray(data)
        flipped[at] ^= 4
        heads.write_bytes(flipped)
        assert sample.verified(sample.lines).verdict is not Verdict.INTACT, at


# without a key


def test_without_a_key_an_edit_shows_as_well(tmp_path: Path) -> None:
    sample = Sample(tmp_path, key=AuditKey())
    assert verify([sample.path]).verdict is Verdict.INTACT
    lines = [*sample.lines[:5], sample.lines[5].replace(b"alice", b"bobby"), *sample.lines[6:]]
    assert found(sample.verified(lines)) == [(Kind.EDIT, 6)]


def test_a_chain_without_a_key_proves_nothing_to_who_has_one(tmp_path: Path) -> None:
    sample = Sample(tmp_path, key=AuditKey())
    report = verify([sample.path], [KEY])
    assert (report.verdict, report.proved) == (Verdict.UNCHECKED, 0)


def test_a_wrong_key_and_no_key_cannot_check(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    for keys in ([OTHER_KEY], []):
        report = verify([sample.path], keys)
        assert (report.verdict, report.proved) == (Verdict.UNCHECKED, 0)
        assert {kind for kind, _ in found(report)} == {Kind.WRONG_KEY}


def test_a_changed_key_id_is_an_edit_and_no_wrong_key(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    lines = [sample.lines[0].replace(KEY.id.encode(), b"00000000"), *sample.lines[1:]]
    assert (Kind.EDIT, 1) in found(sample.verified(lines))


def test_a_file_goes_on_with_another_key(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for key in (OTHER_KEY, KEY):
        writer = ChainedFile(path, key)
        writer.write(3)
        writer.close()
    assert verify([path], [KEY, OTHER_KEY]).verdict is Verdict.INTACT
    assert verify([path], [KEY]).verdict is Verdict.UNCHECKED


# crashes


@pytest.mark.parametrize("cut_at", [1, 20, 60, 120])
def test_a_torn_tail_is_no_tampering(tmp_path: Path, cut_at: int) -> None:
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(3)
    writer.write(cut_at=cut_at)
    writer.abandon()
    report = verify([path], [KEY])
    assert report.verdict is Verdict.TORN
    assert found(report) == [(Kind.TORN, 5)]


@pytest.mark.parametrize("cut_at", [1, 20, 60, 120])
def test_a_line_that_was_torn_and_closed_off_is_no_tampering(tmp_path: Path, cut_at: int) -> None:
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(3)
    writer.write(cut_at=cut_at)
    writer.write(3)
    writer.close()
    report = verify([path], [KEY])
    assert (report.verdict, found(report)) == (Verdict.TORN, [(Kind.TORN, 5)])


def test_a_line_that_lacked_its_newline_alone_is_proved(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(3)
    writer.write(cut_at=-1)
    writer.write(3)
    writer.close()
    assert verify([path], [KEY]).verdict is Verdict.INTACT


def test_a_torn_line_in_the_first_write_is_no_tampering(tmp_path: Path) -> None:
    """The opening note is whole, its record is not."""
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(cut_at=200)
    writer.write(3)
    writer.close()
    assert verify([path], [KEY]).verdict is Verdict.TORN


def test_the_next_process_tells_of_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(3)
    writer.write(cut_at=70)
    writer.abandon()
    writer = ChainedFile(path)
    writer.write(3)
    writer.close()
    report = verify([path], [KEY])
    assert (report.verdict, found(report)) == (Verdict.TORN, [(Kind.TORN, 5)])


def test_a_line_behind_a_torn_one_is_proved(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    one, other = ChainedFile(path), ChainedFile(path)
    one.write(3)
    other.write(3)
    one.write(cut_at=70)
    other.write(2)
    one.write(1)
    one.close()
    other.close()
    report = verify([path], [KEY])
    assert (report.verdict, found(report)) == (Verdict.TORN, [(Kind.TORN, 9)])


@pytest.mark.parametrize("as_json", [False, True])
def test_a_record_that_was_killed_amid_its_digest_is_torn_whoever_came_right_behind_it(
    tmp_path: Path, as_json: bool
) -> None:
    path = tmp_path / "audit.log"
    killed, other = (ChainedFile(path, as_json=as_json) for _ in range(2))
    for writer in (killed, other):
        writer.write(2)
    killed.write(cut_at=-20)
    killed.abandon()
    other.write(2)
    other.close()
    assert [kind for kind, _ in found(verify([path], [KEY]))] == [Kind.TORN]


def test_what_only_looks_like_a_killed_record_is_an_insertion(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    killed, other = (ChainedFile(path) for _ in range(2))
    for writer in (killed, other):
        writer.write(2)
    before = killed.chain.state
    forged = killed.chain.seal(record(9))[:-20].replace(b"alice", b"clara")
    killed.chain.state = before
    path.write_bytes(path.read_bytes() + forged)
    other.write(2)
    for writer in (killed, other):
        writer.close()
    assert Kind.INSERTION in {kind for kind, _ in found(verify([path], [KEY]))}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_chain_that_opens_right_behind_a_torn_record_is_proved(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "audit.log"
    killed, late = (ChainedFile(path, as_json=as_json) for _ in range(2))
    killed.write(2)
    opened = late.chain._origin()  # looked at before the other one was killed
    late.chain._origin = lambda: opened  # type: ignore[method-assign]
    killed.write(cut_at=-10)
    killed.abandon()
    late.write(3)
    late.close()
    report = verify([path], [KEY])
    assert [kind for kind, _ in found(report)] == [Kind.TORN]
    assert report.proved == report.lines


def test_a_blank_line_where_a_chain_opens_is_no_tampering(tmp_path: Path) -> None:
    """The writer before it was in the middle of its line, which so looked torn."""
    path = tmp_path / "audit.log"
    for _ in range(2):
        writer = ChainedFile(path)
        writer.torn = path.stat().st_size > 0
        writer.write(2)
        writer.close()
    assert path.read_bytes().count(b"\n\n") == 1
    assert verify([path], [KEY]).verdict is Verdict.INTACT


def test_a_torn_line_that_was_changed_is_an_insertion(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(3)
    writer.write(cut_at=60)
    writer.write(3)
    writer.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], lines[4].replace(b"alice", b"bobby"), *lines[5:]]))
    assert found(verify([path], [KEY])) == [(Kind.INSERTION, 5)]


def test_records_cut_off_together_with_the_tail_are_tampering(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    assert sample.verified([*sample.lines[:-2], sample.lines[-2][:50]]).verdict is Verdict.TAMPERED


# the end


def test_without_a_heads_file_an_open_end_cannot_be_checked(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    (tmp_path / "audit.log.heads").unlink()
    report = sample.verified(sample.lines)
    assert (report.verdict, found(report)) == (Verdict.UNCHECKED, [(Kind.OPEN_END, 24)])


def test_what_follows_the_last_head_of_a_killed_writer_has_an_open_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.verification.LATE_SECONDS", 0)
    writer = ChainedFile(tmp_path / "audit.log")
    writer.write(4)
    writer.kill()
    report = verify([tmp_path / "audit.log"], [KEY])
    assert (report.verdict, found(report)) == (Verdict.UNCHECKED, [(Kind.OPEN_END, 5)])
    assert "up to record 1 and not to 4" in report.findings[0].message


def test_a_killed_writer_that_is_cut_back_to_its_last_head_has_an_open_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.verification.LATE_SECONDS", 0)
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(4)
    writer.kill()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert found(verify([path], [KEY])) == [(Kind.OPEN_END, 2)]


def test_a_record_behind_a_settled_head_has_a_head_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writer = ChainedFile(path)
    writer.write(4)
    writer.chain.settle()
    writer.write()
    writer.kill()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    assert found(verify([path], [KEY])) == [(Kind.TRUNCATION, 5)]


def test_a_writer_that_lives_is_given_the_time_to_tell_how_far_it_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.ends.SETTLE_SECONDS", 0.1)
    path = tmp_path / "audit.log"
    writer = AuditWriter(path, gap_line=format_line, shortened=lambda line, _: line, seal=Chain(KEY))
    for number in range(4):
        writer.write(record(number))
    assert verify([path], [KEY]).findings == ()
    assert b"chain closed" not in path.read_bytes()


def test_without_a_heads_file_a_chain_that_was_closed_is_intact(tmp_path: Path) -> None:
    writer = ChainedFile(tmp_path / "audit.log")
    writer.write(3)
    writer.close()
    (tmp_path / "audit.log.heads").unlink()
    assert verify([tmp_path / "audit.log"], [KEY]).verdict is Verdict.INTACT


def test_a_heads_file_kept_elsewhere_tells_of_a_truncation(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    kept = tmp_path / "kept.heads"
    shutil.move(tmp_path / "audit.log.heads", kept)
    sample.path.write_bytes(b"".join(sample.lines[:-1]))
    assert found(verify([sample.path], [KEY], heads=[kept])) == [(Kind.TRUNCATION, 22)]


def test_all_lines_of_a_writer_cannot_go_unseen(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    gone = sample.writer(23)
    report = sample.verified([line for index, line in enumerate(sample.lines) if sample.writer(index) != gone])
    assert [finding.kind for finding in report.findings] == [Kind.TRUNCATION]


def test_a_whole_chain_of_another_file_is_a_splice(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    older = tmp_path / "older.log"
    for _ in range(2):
        writer = ChainedFile(older)
        writer.write(2)
        writer.close()
    spliced = older.read_bytes().splitlines(keepends=True)[4:]
    report = sample.verified([*sample.lines[:3], *spliced, *sample.lines[3:]])
    assert found(report) == [(Kind.SPLICE, 4)]


# files


def rotated(directory: Path) -> list[Path]:
    path = directory / "audit.log"
    writer = ChainedFile(path)
    for number in (3, 2, 1):
        writer.write(4)
        writer.rotate(f"audit.log.{number}")
    writer.write(2)
    writer.abandon()
    packed = directory / "audit.log.3.gz"
    packed.write_bytes(gzip.compress((directory / "audit.log.3").read_bytes()))
    (directory / "audit.log.3").unlink()
    return [path, directory / "audit.log.1", directory / "audit.log.2", packed]


def test_rotated_files_are_read_in_order_and_through_gzip(tmp_path: Path) -> None:
    paths = rotated(tmp_path)
    report = verify(list(tmp_path.iterdir()), [KEY])
    assert (report.verdict, report.findings, report.lines) == (Verdict.INTACT, (), 21)
    assert [Path(file).name for file in report.files] == [path.name for path in reversed(paths)]


def test_each_rotated_file_is_intact_by_itself(tmp_path: Path) -> None:
    for path in rotated(tmp_path):
        assert verify([path], [KEY]).findings == ()


def test_a_file_that_is_missing_in_the_middle_is_a_deletion(tmp_path: Path) -> None:
    paths = rotated(tmp_path)
    report = verify([paths[0], paths[1], paths[3]], [KEY])
    assert [(finding.kind, Path(finding.file).name, finding.line) for finding in report.findings] == [
        (Kind.DELETION, "audit.log.1", 1)
    ]
    assert "6 records" in report.findings[0].message


def test_the_newest_file_cannot_go_unseen(tmp_path: Path) -> None:
    paths = rotated(tmp_path)
    paths[0].write_bytes(b"")
    report = verify(paths, [KEY])
    assert [finding.kind for finding in report.findings] == [Kind.TRUNCATION]


def test_lines_before_the_chain_began_are_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(record(1) + b"\n" + record(2) + b"\n")
    writer = ChainedFile(path)
    writer.write(2)
    writer.close()
    report = verify([path], [KEY])
    assert (report.verdict, found(report)) == (Verdict.UNCHECKED, [(Kind.UNSEALED, 1)])


@pytest.mark.parametrize("content", [b"", b"\n", record(1) + b"\n", b"\xff\xfe\n\n"])
def test_a_file_without_a_chain_cannot_be_checked(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "audit.log").write_bytes(content)
    assert verify([tmp_path / "audit.log"], [KEY]).verdict is Verdict.UNCHECKED


def test_a_broken_gzip_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit.log.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(AuditFileError, match=r"audit\.log\.gz"):
        verify([tmp_path / "audit.log.gz"], [KEY])


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=400))
def test_whatever_is_in_a_file_verification_comes_to_an_end(sample: Sample, data: bytes) -> None:
    try:
        assert sample.verified([data]).verdict is not Verdict.INTACT
    except AuditFileError:
        assert data.startswith(b"\x1f\x8b")
