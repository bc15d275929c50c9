from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
import threading
import time

import pytest

from flask_signal_observability.audit import rotation
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.rotation import Rotation
from flask_signal_observability.audit.writer import AuditWriter


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(rotation, "WAIT_SECONDS", 0.01)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def told():
    return []


@pytest.fixture
def make(path, told):
    made = []

    def make(max_bytes=None, seconds=None, keep=None, check_interval_seconds=0.0):
        rotated = Rotation(path, max_bytes=max_bytes, seconds=seconds, keep=keep, tell=told.append)
        writer = AuditWriter(
            path,
            gap_line=format_line,
            shortened=lambda line, most_bytes: line,
            rotation=rotated,
            check_interval_seconds=check_interval_seconds,
        )
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()


def old_files(path):
    return sorted(each for each in path.parent.iterdir() if each.name.startswith(f"{path.name}.2"))


def read(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def packed(path, number):
    """Wait until so many old files are packed, and nothing else is there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        files = old_files(path)
        if len(files) == number and all(each.suffix == ".gz" for each in files) and packing_is_over():
            return files
        time.sleep(0.01)
    raise AssertionError(sorted(path.parent.iterdir()))


def packing_is_over():
    return not any(thread.name == "audit-pack" for thread in threading.enumerate())


def test_a_file_that_is_large_enough_is_renamed_and_packed(make, path):
    writer = make(max_bytes=100)
    for number in range(6):
        writer.write(b"%d" % number * 60)
    files = packed(path, 2)
    assert [read(each) for each in files] == [
        b"0" * 60 + b"\n" + b"1" * 60 + b"\n",
        b"2" * 60 + b"\n" + b"3" * 60 + b"\n",
    ]
    assert path.read_bytes() == b"4" * 60 + b"\n" + b"5" * 60 + b"\n"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (*files, path)} == {0o640}


def test_a_file_that_one_process_fills_is_renamed_without_waiting_for_the_interval(make, path):
    writer = make(max_bytes=1000, check_interval_seconds=3600)
    for _ in range(50):
        writer.write(b"x" * 99)
    assert len({each.name.partition("Z")[0] for each in old_files(path)}) == 4


def test_a_file_is_renamed_when_its_period_is_over(make, path, monkeypatch):
    writer = make(seconds=86_400)
    writer.write(b"today")
    writer.write(b"today")
    lock = path.with_name("audit.log.lock")
    yesterday = time.time() // 86_400 * 86_400 - 1
    os.utime(lock, (yesterday, yesterday))
    writer.write(b"tomorrow")
    writer.write(b"tomorrow")
    (old,) = packed(path, 1)
    assert read(old) == b"today\ntoday\n"
    assert path.read_bytes() == b"tomorrow\ntomorrow\n"


def test_a_file_that_is_older_than_the_option_counts_from_its_last_record(make, path):
    path.write_bytes(b"long ago\n")
    os.utime(path, (1_000_000, 1_000_000))
    make(seconds=86_400).write(b"now")
    make(seconds=86_400).write(b"now")
    writer = make(seconds=86_400)
    writer.write(b"now")
    writer.write(b"now")
    assert b"long ago" not in path.read_bytes()


def test_only_so_many_old_files_stay(make, path):
    writer = make(max_bytes=10, keep=2)
    for number in range(7):
        writer.write(b"%d" % number * 20)
        while not packing_is_over():
            time.sleep(0.005)
    files = packed(path, 2)
    assert [read(each)[:1] for each in files] == [b"4", b"5"]


def test_what_is_not_ours_is_left_alone(make, path):
    stranger = path.with_name("audit.log.2.gz")
    stranger.write_bytes(b"logrotate's")
    writer = make(max_bytes=10, keep=1)
    for _ in range(4):
        writer.write(b"x" * 20)
        while not packing_is_over():
            time.sleep(0.005)
    assert stranger.read_bytes() == b"logrotate's"


def test_an_old_file_is_not_packed_while_somebody_may_still_write_to_it(make, path):
    idle = make(max_bytes=100, check_interval_seconds=3600)
    idle.write(b"first")
    writer = make(max_bytes=100)
    writer.write(b"x" * 120)
    writer.write(b"y")
    while not packing_is_over():
        time.sleep(0.01)
    (old,) = old_files(path)
    assert old.suffix != ".gz"
    idle.write(b"late")
    assert old.read_bytes() == b"first\n" + b"x" * 120 + b"\nlate\n"
    idle.close()
    writer.write(b"x" * 120)
    writer.write(b"y")
    assert b"late" in read(packed(path, 2)[0])


def test_what_a_crash_left_half_packed_is_packed_again(make, path):
    writer = make(max_bytes=10)
    writer.write(b"x" * 20)
    name = "audit.log.20200101T000000.000000Z"
    path.with_name(name).write_bytes(b"old\n")
    path.with_name(f"{name}.gz.part").write_bytes(b"half")
    path.with_name(f"{name}.gz").write_bytes(b"stale")
    writer.write(b"next")
    assert [read(each) for each in packed(path, 2)] == [b"old\n", b"x" * 20 + b"\n"]
    assert not path.with_name(f"{name}.gz.part").exists()


def test_what_cannot_be_renamed_is_told_and_no_record_is_lost(make, path, told, monkeypatch):
    writer = make(max_bytes=10)
    writer.write(b"x" * 20)
    path.with_name("audit.log.lock").unlink()
    path.with_name("audit.log.lock").mkdir()
    for _ in range(3):
        writer.write(b"y")
    assert path.read_bytes() == b"x" * 20 + b"\n" + b"y\n" * 3
    assert [type(error) for error in told] == [IsADirectoryError] * len(told)
    assert told


PROGRAM = """
import sys, threading
from flask_signal_observability.audit import rotation
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.rotation import Rotation
rotation.WAIT_SECONDS = 0.02
from flask_signal_observability.audit.writer import AuditWriter
path, name = sys.argv[1:]
rotation = Rotation(path, max_bytes=4096, seconds=None, keep=None, tell=print)
writer = AuditWriter(path, gap_line=format_line, shortened=None, rotation=rotation, check_interval_seconds=0.01)
def run(thread):
    for number in range(500):
        writer.write(f"{name}.{thread}.{number} {'x' * (number % 90)}".encode())
threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for thread in threading.enumerate():
    if thread.name == "audit-pack": thread.join()
"""


def test_processes_that_rotate_the_same_file_lose_no_record_and_write_none_twice(path):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in "abc"
    ]
    for process in running:
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "")
    files = [*old_files(path), path]
    lines = [line for each in files for line in read(each).decode().splitlines() if line]
    expected = [f"{p}.{t}.{n} {'x' * (n % 90)}" for p in "abc" for t in range(4) for n in range(500)]
    assert sorted(lines) == sorted(expected)
    assert len(files) > 20


def test_a_record_outlives_a_thread_that_cannot_start_and_the_next_rotation_packs(make, path, told, monkeypatch):
    writer = make(max_bytes=100)
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        writer.write(b"x" * 60)
    assert len(told) == 1
    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        writer.write(b"x" * 60)
    packed(path, 2)
    assert sum(read(each).count(b"\n") for each in [*old_files(path), path]) == 5
