"""Processes that share: real ones, forked, which join, count and end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.archive import Archive
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.folding import dead_in
from flask_signal_observability.metrics_store.group import Group
from flask_signal_observability.metrics_store.segment import DamagedError
from flask_signal_observability.metrics_store.segment import Memory
from flask_signal_observability.metrics_store.segment import Segment
from flask_signal_observability.metrics_store.segment import SLOT
from flask_signal_observability.metrics_store.segment import Table
from flask_signal_observability.metrics_store.segment import write_slot
from flask_signal_observability.metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Shared:
    """A store with one family of each kind, and what a scrape of it says."""

    def __init__(self, path: Path) -> None:
        self.store = MetricsStore()
        self.things = Family(Metric("things_total", "counter", "T.", ("kind",)), self.store)
        self.open = Family(Metric("open", "gauge", "O."), self.store)
        self.info = Family(Metric("info", "gauge", "I."), self.store, merge="any")
        self.length = Family(Metric("length_seconds", "histogram", "L.", (), "seconds", (0.1, 1.0)), self.store)
        self.info.child().set(1)
        self.damaged = 0
        self.store.failed = self._failed
        self.store.share(Group(str(path)))

    def _failed(self, files: int) -> None:
        self.damaged += files

    def value(self, name: str) -> float:
        return sum(s.value for family in self.store.collect() for s in family.samples if s.name == name)

    def close(self) -> None:
        if self.store.member is not None:
            self.store.member.close()
        if self.store.group is not None:
            self.store.group.close()
        self.store.group = self.store.member = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group"


@pytest.fixture
def shared(path: Path) -> Iterator[Shared]:
    shared = Shared(path)
    yield shared
    shared.close()


DID = b"did"


class Child:
    """A forked process that does something and then waits to be ended."""

    def __init__(self, act: Callable[[], None]) -> None:
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(ready)
                act()
                os.write(told, DID)
                signal.pause()
            except BaseException:
                os.write(told, traceback.format_exc().encode())
            finally:
                os._exit(1)
        os.close(told)
        self.told = os.read(ready, 1 << 16)
        os.close(ready)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def child(act: Callable[[], None]) -> Iterator[Child]:
    process = Child(act)
    try:
        assert process.told == DID, process.told.decode()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            process.kill()


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_forked_process_counts_from_0_and_a_scrape_tells_of_both(shared: Shared, path: Path) -> None:
    shared.things.child("a").inc(2)
    shared.open.child().set(1)

    def act() -> None:
        shared.things.child("a").inc(3)
        shared.things.child("b").inc(4)
        shared.open.child().set(7)
        shared.length.child().observe(50_000_000, (5, TRACE, SPAN))

    with child(act) as process:
        assert names(path) == ["0.0", "0.1"]
        assert (shared.value("things_total"), shared.value("open"), shared.value("info")) == (9, 8, 1)
        process.kill()
        assert (shared.value("things_total"), shared.value("open"), shared.value("info")) == (9, 1, 1)
    assert names(path) == ["0.0", "0.archive"]
    assert (shared.value("things_total"), shared.value("open")) == (9, 1)
    exemplars = [s.exemplar for family in shared.store.collect() for s in family.samples if s.exemplar]
    assert [(exemplar.labels["trace_id"], exemplar.value) for exemplar in exemplars] == [(TRACE, 0.05)]


def test_the_child_tells_of_both_too(shared: Shared) -> None:
    shared.things.child("a").inc(2)

    def act() -> None:
        shared.things.child("a").inc(3)
        assert shared.value("things_total") == 5

    with child(act):
        pass


def test_the_newest_exemplar_of_a_bucket_wins(shared: Shared) -> None:
    shared.length.child().observe(50_000_000, (10, "a" * 32, SPAN))
    newer = lambda: shared.length.child().observe(60_000_000, (20, "b" * 32, SPAN))  # noqa: E731
    older = lambda: shared.length.child().observe(70_000_000, (5, "c" * 32, SPAN))  # noqa: E731
    with child(newer), child(older):
        exemplars = [s.exemplar for family in shared.store.collect() for s in family.samples if s.exemplar]
    assert [exemplar.labels["trace_id"] for exemplar in exemplars] == ["b" * 32]


def test_a_hundred_that_came_and_went_leave_one_archive_and_all_their_counts(shared: Shared, path: Path) -> None:
    for number in range(1, 101):
        pid = os.fork()
        if pid == 0:
            shared.things.child("a").inc()
            os._exit(0)
        os.waitpid(pid, 0)
        if number % 10 == 0:
            assert shared.value("things_total") == number
    assert names(path) == ["0.0", "0.archive"]


def test_processes_that_each_bring_other_labels_fill_a_family_and_no_more(shared: Shared, path: Path) -> None:
    overflow = Family(Metric("overflow_total", "counter", "O.", ("metric",)), shared.store)
    shared.things._overflow = overflow
    told: dict[str, float] = {}
    for number in range(12):
        pid = os.fork()
        if pid == 0:
            for label in ("always", f"{number}", f"{number} too"):
                shared.things.child(label, max_series=8).inc()
            os._exit(0)
        os.waitpid(pid, 0)
        samples = {
            s.labels["kind"]: s.value for f in shared.store.collect() for s in f.samples if s.name == "things_total"
        }
        assert all(samples.get(label, 0) >= value for label, value in told.items())
        told = samples
    assert (told["always"], told["_OTHER"], len(told)) == (12, 36 - 12 - 7, 8 + 1)
    assert shared.value("overflow_total") == told["_OTHER"]


def test_a_fold_that_was_cut_off_after_its_archive_counts_nobody_twice(shared: Shared, path: Path) -> None:
    with child(lambda: shared.things.child("a").inc(3)) as process:
        left = (path / "0.1").read_bytes()
        process.kill()
    assert shared.value("things_total") == 3
    assert names(path) == ["0.0", "0.archive"]
    (path / "0.1").write_bytes(left)
    assert shared.value("things_total") == 3
    assert names(path) == ["0.0", "0.archive"]


def test_threads_that_count_at_once_lose_nothing(shared: Shared) -> None:
    import sys

    def count() -> None:
        for _ in range(2_000):
            shared.things.child("a").inc()
            shared.length.child().observe(1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert (shared.value("things_total"), shared.value("length_seconds_count")) == (8_000, 8_000)
    assert shared.value("length_seconds_sum") == 8_000 / 1e9


def test_series_beyond_the_first_chunk_stay_where_they_are(shared: Shared) -> None:
    first = shared.things.child("first")
    for number in range(3_000):
        shared.things.child(f"{number}").inc()
    first.inc(5)
    with child(lambda: shared.things.child("2999").inc()):
        assert shared.value("things_total") == 3_006


@pytest.mark.parametrize("contents", [b"", b"x", b"hello, I am no segment at all" * 100, bytes(4096), b"\xff" * 65536])
def test_a_foreign_file_is_skipped(shared: Shared, path: Path, contents: bytes) -> None:
    shared.things.child("a").inc()
    (path / "0.7").write_bytes(contents)
    (path / "stranger").write_bytes(contents)
    assert shared.value("things_total") == 1
    (path / "0.archive").write_bytes(contents)
    assert shared.value("things_total") == 1


def test_a_damaged_file_is_counted_and_one_of_a_dead_process_removed(shared: Shared, path: Path) -> None:
    (path / "0.7").write_bytes(b"\xff" * 65536)
    assert shared.value("things_total") == 0
    assert shared.damaged == 1
    assert names(path) == ["0.0"]


def test_a_link_is_not_followed(shared: Shared, path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (path / "0.7").symlink_to(tmp_path / "elsewhere")
    (path / "0.archive").symlink_to(tmp_path / "elsewhere")
    shared.things.child("a").inc()
    assert shared.value("things_total") == 1
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def a_segment() -> bytes:
    segment = Segment(Memory())
    for key in (("things_total", "a"), ("things_total", "é\n"), ("length_seconds",)):
        series = segment.append(key, 4, 3, gauge=False)
        segment.words[series.first_cell] = 7
    return bytes(segment.octets[: segment.size])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(a_segment()) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 2000))
def test_whatever_bytes_are_damaged_a_table_is_read_or_refused(flips: list[tuple[int, int]], cut: int) -> None:
    octets = bytearray(a_segment())
    for place, value in flips:
        octets[place] = value
    del octets[len(octets) - cut // 8 * 8 if cut else len(octets) :]
    table = Table()
    try:
        table.extend(memoryview(octets))
    except DamagedError:
        assert table.series == []
    for series in table.series:
        assert (series.first_slot + series.slots * 6) * 8 <= len(octets)
    with contextlib.suppress(DamagedError):
        Archive(memoryview(octets))


def test_a_damaged_cell_takes_its_file_out(shared: Shared, path: Path) -> None:
    with child(lambda: shared.things.child("a").inc(3)) as process:
        os.kill(process.pid, signal.SIGSTOP)
        octets = bytearray((path / "0.1").read_bytes())
        table = Table()
        table.extend(memoryview(octets))
        place = next(s.first_cell for s in table.series if s.key == ("things_total", "a")) * 8
        with (path / "0.1").open("r+b") as file:
            file.seek(place)
            file.write(b"\xff" * 8)
        shared.things.child("a").inc()
        assert shared.value("things_total") == 1
        assert shared.damaged == 1


def test_a_full_disk_is_one_warning_and_the_numbers_go_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared = Shared(path)

    def act() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))
        for number in range(3_000):
            shared.things.child(f"{number}").inc()
        assert shared.store.group is None
        assert shared.value("things_total") == 3_000
        told = [line for line in caplog.text.splitlines() if "cannot be shared" in line and str(path) in line]
        assert len(told) == 1, caplog.text
        assert "metrics_shared=" in told[0]

    with caplog.at_level(logging.WARNING), child(act):
        pass
    shared.close()


def test_a_directory_that_is_removed_is_one_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import shutil

    shared = Shared(path)
    shared.things.child("a").inc(2)
    shutil.rmtree(path)
    shared.things.child("a").inc()
    assert [shared.value("things_total") for _ in range(2)] == [3, 3]
    assert caplog.text.count("cannot be shared") == 1
    shared.things.child("b").inc()
    assert shared.value("things_total") == 4


@pytest.mark.parametrize("kind", ["link", "writable by others", "a file", "no parent"])
def test_a_directory_that_is_not_only_ours_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "group"
    if kind == "link":
        (tmp_path / "real").mkdir(0o700)
        path.symlink_to(tmp_path / "real")
    elif kind == "writable by others":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "a file":
        path.write_text("x")
    else:
        path = tmp_path / "nowhere" / "group"
    with pytest.raises(OSError):  # noqa: PT011 - of each kind another
        Group(str(path))


def test_registries_do_not_mix(path: Path) -> None:
    groups = [Group(str(path), registry=number) for number in range(2)]
    members = [group.join() for group in groups]
    assert names(path) == ["0.0", "1.0"]
    assert [group.read(member).snapshots for group, member in zip(groups, members, strict=True)] == [[], []]
    for closing in (*members, *groups):
        closing.close()


def test_a_place_is_free_again_when_its_process_is_gone(shared: Shared) -> None:
    def place() -> None:
        assert shared.store.member is not None
        assert shared.store.member.place == 1

    with child(place):
        pass
    with child(place):
        pass


def test_a_listing_that_another_process_has_begun_hides_nobody(shared: Shared) -> None:
    group = shared.store.group
    assert group is not None
    with child(lambda: shared.things.child("a").inc(3)), os.scandir(group._directory.descriptor) as listing:
        next(listing)  # forked processes share the descriptor, and with it how far it was read
        assert shared.value("things_total") == 3


def test_a_scrape_without_a_free_descriptor_fails_whole_and_the_next_one_tells_all(shared: Shared) -> None:
    import resource

    shared.things.child("a").inc(2)

    def act() -> None:
        shared.things.child("a").inc(3)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            shared.store.read(exemplars=False)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert shared.store.group is not None
        assert shared.value("things_total") == 5

    with child(act):
        assert shared.value("things_total") == 5


@pytest.mark.parametrize("kind", ["link", "socket", "directory", "pipe"])
def test_what_is_no_file_counts_as_damaged(shared: Shared, path: Path, kind: str) -> None:
    place = path / "0.7"
    if kind == "link":
        place.symlink_to(path / "0.0")
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    shared.things.child("a").inc(2)
    assert shared.value("things_total") == 2
    assert shared.damaged == 1
    assert shared.store.group is not None


def test_an_archive_that_cannot_be_written_ends_no_sharing(
    shared: Shared, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path / "0.archive.new").mkdir()
    with child(lambda: shared.things.child("a").inc(3)) as process:
        process.kill()
    with child(lambda: shared.things.child("a").inc(4)):
        assert [shared.value("things_total") for _ in range(2)] == [7, 7]
    assert caplog.text == ""
    (path / "0.archive.new").rmdir()
    assert shared.value("things_total") == 7
    assert names(path) == ["0.0", "0.archive"]


def test_where_room_cannot_be_reserved_zeros_are_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    shared = Shared(path)
    for number in range(3_000):
        shared.things.child(f"{number}").inc()
    file = (path / "0.0").stat()
    assert file.st_blocks * 512 >= file.st_size >= 128 * 1024
    with child(lambda: shared.things.child("a").inc(3)):
        assert shared.value("things_total") == 3_003
    shared.close()


def test_the_warning_is_told_after_the_lock_is_released(path: Path) -> None:
    shared = Shared(path)
    free: list[bool] = []

    def ask() -> None:
        free.append(shared.store.lock.acquire(timeout=5))
        shared.store.lock.release()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()

    def act() -> None:
        import resource

        logging.getLogger("flask_signal_observability").addHandler(Handler())
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))
        for number in range(3_000):
            shared.things.child(f"{number}").inc()
        assert free  # a warning, and perhaps one of a store that an earlier test has left
        assert all(free)

    with child(act):
        pass
    shared.close()


def test_what_a_worker_forks_for_itself_counts_and_is_no_worker(shared: Shared) -> None:
    shared.store.presence = [shared.open.child()]
    shared.open.child().set(1)
    with child(lambda: shared.things.child("a").inc(3)):
        assert (shared.value("things_total"), shared.value("open")) == (3, 1)


def test_the_workers_of_a_master_are_workers_and_it_is_none(path: Path) -> None:
    shared = Shared(path)
    shared.store.presence = [shared.open.child()]
    shared.things.child("a").inc(2)
    assert shared.store.group is not None
    shared.store.prepare(shared.store.group)
    shared.store.hand_over()
    with child(lambda: shared.things.child("a").inc(3)):
        assert (shared.value("things_total"), shared.value("open")) == (5, 1)
    shared.close()


def test_a_member_that_lost_its_place_leaves_the_one_who_has_it_now_alone(path: Path) -> None:
    shared = Shared(path)
    (path / "0.0").unlink()
    with child(lambda: shared.things.child("a").inc(3)):
        assert names(path) == ["0.0"]
        shared.value("things_total")
        assert names(path) == ["0.0"]
    shared.close()


def test_a_group_that_is_left_can_be_read_by_whoever_is_about_it(path: Path) -> None:
    shared = Shared(path)
    group = shared.store.group
    assert group is not None
    (path / "0.0").unlink()
    shared.value("things_total")
    assert shared.store.group is None
    assert group.read(None).snapshots == []
    group.close()


def test_sums_that_do_not_fit_stay_at_the_most_there_is(shared: Shared) -> None:
    def act() -> None:
        length = shared.length.child()
        length.observe(1)
        shared.store.words[length.sum_index] = 2**63 - 2
        length.observe(2**60)

    for _ in range(2):
        with child(act) as process:
            process.kill()
        shared.value("things_total")
    assert shared.value("length_seconds_count") == 4
    assert shared.value("length_seconds_sum") == (2**63 - 1) / 1e9


def test_an_exemplar_is_written_against_the_way_it_is_read() -> None:
    octets = memoryview(bytearray(SLOT.size))
    order: list[tuple[int, bool]] = []

    class Words:
        def __setitem__(self, index: int, number: int) -> None:
            order.append((index, any(octets)))

    write_slot(octets, Words(), 0, 1, 2, b"i" * 24)  # type: ignore[arg-type]
    assert order == [(5, False), (0, True)]


def test_who_is_folded_at_the_moment_is_dead(shared: Shared) -> None:
    group = shared.store.group
    assert group is not None
    with child(lambda: shared.open.child().set(7)) as process:
        process.kill()
    with contextlib.ExitStack() as locks:
        assert list(dead_in(group._directory, locks)) == ["0.1"]
        assert [snapshot.alive for snapshot in group.read(shared.store.member).snapshots] == [False]


def test_a_file_whose_head_is_being_written_is_not_damaged(shared: Shared, path: Path) -> None:
    (path / "0.7").write_bytes(bytes(8) + b"\1" + bytes(65536 - 9))
    assert shared.value("things_total") == 0
    assert shared.damaged == 0


def test_what_is_handed_over_during_a_scrape_is_in_it(path: Path) -> None:
    shared = Shared(path)
    shared.things.child("a").inc(3)
    assert shared.store.group is not None
    shared.store.prepare(shared.store.group)
    (path / "0.7").write_bytes(b"\xff" * 64)
    # A damaged file is told of after the others' numbers were read and before this process's are.
    shared.store.failed = lambda damaged: shared.store.hand_over()
    assert [shared.value("things_total") for _ in range(2)] == [3, 3]
    assert "0.archive" in names(path)
    shared.close()
