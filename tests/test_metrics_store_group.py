"""Processes that share: real ones, forked, which join, count and end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.archive import Archive
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.group import Group
from flask_signal_observability.metrics_store.segment import DamagedError
from flask_signal_observability.metrics_store.segment import Memory
from flask_signal_observability.metrics_store.segment import Segment
from flask_signal_observability.metrics_store.segment import Table
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


class Child:
    """A forked process that does something and then waits to be ended."""

    def __init__(self, act: Callable[[], None]) -> None:
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.close(ready)
                act()
                os.write(told, b"x")
                signal.pause()
            os._exit(1)
        os.close(told)
        self.did = os.read(ready, 1) == b"x"
        os.close(ready)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def child(act: Callable[[], None]) -> Iterator[Child]:
    process = Child(act)
    try:
        assert process.did
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
        assert caplog.text.count("cannot be shared") == 1
        assert "metrics_shared=" in caplog.text

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
