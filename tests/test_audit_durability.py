"""What is promised of a record when ``write`` returns, as the kernel saw it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from flask_signal_observability.audit import durability
from flask_signal_observability.audit.durability import GroupSynced
from flask_signal_observability.audit.durability import IntervalSynced
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.writer import AuditWriter

PROGRAM = """
import sys, threading, time
from flask_signal_observability.audit.durability import make_durability
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.writer import AuditWriter
path, name, threads, wait = sys.argv[1:]
writer = AuditWriter(path, gap_line=format_line, shortened=None, durability=make_durability(name, 0.05, print))
gate = threading.Barrier(int(threads))
def run(number):
    gate.wait()
    for step in range(10):
        writer.write(b"record %d.%d" % (number, step))
        print(f"acknowledged {number}.{step}", flush=True)
running = [threading.Thread(target=run, args=(number,)) for number in range(int(threads))]
for thread in running: thread.start()
for thread in running: thread.join()
time.sleep(float(wait))
"""

CALL = re.compile(r'^\d+ +(?:(write)\(\d+, "(record|acknowledged) ([\d.]+)|(fdatasync|fsync)\()', re.MULTILINE)


def traced(tmp_path, name, *, threads=1, wait=0):
    """Run the program, and return what it asked of the kernel: ("record", "0.3"), ("fdatasync", "") …, in order."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")
    log = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", log, "-e", "trace=write,fdatasync,fsync", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "audit.log"), name, str(threads), str(wait)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"nothing can be traced here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return [(match[4] or match[2], match[3] or "") for match in CALL.finditer(log.read_text())]


def test_os_syncs_nothing(tmp_path):
    assert {call for call, _ in traced(tmp_path, "os")} == {"record", "acknowledged"}


@pytest.mark.parametrize("name", ["each", "group"])
def test_a_record_is_synced_before_it_is_acknowledged(tmp_path, name):
    calls = [call for call, _ in traced(tmp_path, name)]
    assert calls[0] == "fsync"  # the directory, in which the file is new
    assert calls[1:] == ["record", "fdatasync", "acknowledged"] * 10


def test_interval_syncs_in_a_thread_soon_after_the_first_record_and_nobody_waits(tmp_path):
    calls = [call for call, _ in traced(tmp_path, "interval", wait=0.3)]
    assert 1 <= calls.count("fdatasync") < 10
    assert calls[-1] == "fdatasync"
    assert "fdatasync" not in calls[: calls.index("acknowledged")]


def test_threads_of_a_group_share_their_syncs(tmp_path, monkeypatch):
    """Eight wait while one syncs: whoever wrote before it began needs none of its own."""
    began, go_on = threading.Event(), threading.Event()
    synced = []

    def sync(number):
        synced.append(number)
        began.set()
        go_on.wait(10)

    monkeypatch.setattr(durability, "sync_data", sync)
    group = GroupSynced()
    writer = AuditWriter(tmp_path / "a.log", gap_line=format_line, shortened=None, durability=group)
    first = threading.Thread(target=writer.write, args=(b"first",))
    first.start()
    assert began.wait(10)
    others = [threading.Thread(target=writer.write, args=(b"other",)) for _ in range(8)]
    for other in others:
        other.start()
    while (tmp_path / "a.log").read_bytes().count(b"other\n") < 8:
        pass
    go_on.set()
    for thread in (first, *others):
        thread.join()
    assert len(synced) == 2 or len(synced) == 3  # one thread may have written and not yet queued


def test_a_sync_that_failed_is_told_to_all_that_waited_and_the_file_is_opened_anew(tmp_path, monkeypatch):
    numbers = []

    def sync(number):
        numbers.append(number)
        if len(numbers) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durability, "sync_data", sync)
    writer = AuditWriter(tmp_path / "a.log", gap_line=format_line, shortened=None, durability=GroupSynced())
    file = writer._current()
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        writer.write(b"not known to be on the disk")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        writer._durability.written(file)  # another thread's, which still has the old descriptor
    writer.write(b"next")
    assert len(numbers) == 2
    assert b" lost 1 records " in (tmp_path / "a.log").read_bytes()
    writer.close()


def test_a_forked_child_syncs_by_itself(tmp_path):
    writer = AuditWriter(
        tmp_path / "a.log", gap_line=format_line, shortened=None, durability=IntervalSynced(3600, print)
    )
    writer.write(b"parent")
    child = os.fork()
    if child == 0:
        before = threading.active_count()
        writer.write(b"child")
        os._exit(0 if threading.active_count() == before + 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_sync_that_fails_in_the_thread_is_told(tmp_path, monkeypatch):
    told, done = [], threading.Event()

    def sync(number):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(durability, "sync_data", sync)
    interval = IntervalSynced(0.001, lambda error: (told.append(error.errno), done.set()))
    writer = AuditWriter(tmp_path / "a.log", gap_line=format_line, shortened=None, durability=interval)
    writer.write(b"one")
    assert done.wait(10)
    assert told == [errno.EIO]
