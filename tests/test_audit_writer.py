"""The writer on real files, disks that are full, and processes that die."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_signal_observability import AuditGap
from flask_signal_observability import parse_audit_line
from flask_signal_observability.audit.chain import Chain as RealChain
from flask_signal_observability.audit.finding import Kind
from flask_signal_observability.audit.finding import Verdict
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.line import format_access
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.line import parse_line
from flask_signal_observability.audit.reading import after_tear
from flask_signal_observability.audit.shortening import shortened
from flask_signal_observability.audit.tail import WINDOW_BYTES
from flask_signal_observability.audit.verification import verify
from flask_signal_observability.audit.writer import AuditWriter

from .chained_file import KEY

LINE = b"[2026-11-22T10:09:00.123456+00:00] alice@203.0.113.7 accessed /dashboard"


def lines_of(path):
    return [line for line in path.read_text().split("\n") if line]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def make(path):
    made = []

    def make(where=path, **options):
        def shorten(line, most_bytes):
            return shortened(line, most_bytes, parse_line, format_line)

        made.append(AuditWriter(where, gap_line=format_line, shortened=shorten, **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


@contextmanager
def no_file_beyond(size_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_more_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def small_disk(directory, size):
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def gap_in(path):
    (gap,) = [record for line in lines_of(path) if isinstance(record := parse_audit_line(line), AuditGap)]
    return gap


def test_a_record_is_a_line_and_one_write(make, path):
    writer = make()
    writer.write(LINE)
    writer.write(LINE)
    assert path.read_bytes() == (LINE + b"\n") * 2


def test_what_could_not_be_written_is_a_gap_before_the_next_record(make, path):
    writer = make()
    writer.write(LINE)
    size = path.stat().st_size
    before_ns = time.time_ns()
    with no_file_beyond(size):
        for _ in range(17):
            with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
                writer.write(LINE)
    after_ns = time.time_ns()
    writer.write(LINE)
    writer.write(LINE)
    told = [type(parse_audit_line(line)).__name__ for line in lines_of(path)]
    assert told == ["AuditRecord", "AuditGap", "AuditRecord", "AuditRecord"]
    gap = gap_in(path)
    assert gap.lost == 17
    assert before_ns // 1000 <= round(gap.since.timestamp() * 1e6) <= round(gap.until.timestamp() * 1e6)
    assert round(gap.until.timestamp() * 1e6) <= after_ns // 1000 <= round(gap.time.timestamp() * 1e6)


def test_a_gap_that_cannot_be_told_is_told_later_together_with_what_is_lost_meanwhile(make, path):
    writer = make()
    writer.write(LINE)
    size = path.stat().st_size
    for limit in (size, size + 3, size + 20):
        with no_file_beyond(limit), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            writer.write(LINE)
    writer.write(LINE)
    assert sum(line == LINE.decode() for line in lines_of(path)) == 2
    whole = [line for line in lines_of(path) if " lost 3 records " in line]
    assert isinstance(parse_audit_line(whole[0]), AuditGap)


def test_a_gap_is_told_when_the_file_is_closed(make, path):
    writer = make()
    with no_file_beyond(0), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        writer.write(LINE)
    writer.close()
    assert gap_in(path).lost == 1


def test_too_many_open_files_lose_records_until_there_are_fewer(make, path):
    writer = make()
    with no_more_descriptors(), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        writer.write(LINE)
    writer.write(LINE)
    assert gap_in(path).lost == 1


def test_a_directory_that_was_deleted_loses_records_until_it_is_back(make, tmp_path):
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    writer = make(path, check_interval_seconds=0)
    writer.write(LINE)
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        writer.write(LINE)
    path.parent.mkdir()
    writer.write(LINE)
    assert gap_in(path).lost == 1


def test_a_full_disk_loses_records_until_there_is_room_and_none_is_glued(make, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "ballast").write_bytes(b"x" * 40_000)
        writer = make(disk / "audit.log")
        written = lost = 0
        while lost < 5:
            try:
                writer.write(LINE)
                written += 1
            except OSError:
                lost += 1
        (disk / "ballast").unlink()
        writer.write(LINE)
        lines = lines_of(disk / "audit.log")
        assert lines.count(LINE.decode()) == written + 1
        assert [parse_audit_line(line).lost for line in lines if " lost " in line] == [5]
        writer.close()


def test_a_read_only_disk_loses_records_until_it_is_writable(make, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        writer = make(disk / "audit.log")
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            writer.write(LINE)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        writer.write(LINE)
        assert gap_in(disk / "audit.log").lost == 1
        writer.close()


def test_a_copied_and_cut_file_is_noticed(make, path):
    missing = []
    writer = make(check_interval_seconds=0, on_truncated=missing.append)
    for _ in range(10):
        writer.write(LINE)
    size = path.stat().st_size
    os.truncate(path, 0)
    writer.write(LINE)
    writer.write(LINE)
    assert missing == [size]
    assert lines_of(path) == [LINE.decode()] * 2


def test_records_that_went_to_a_deleted_file_are_told(make, path, monkeypatch):
    lost = []
    writer = make(check_interval_seconds=3600, on_lost=lost.append)
    writer.write(LINE)
    path.unlink()
    writer.write(LINE)
    later = time.monotonic() + 3600
    monkeypatch.setattr("flask_signal_observability.audit.writer.monotonic", lambda: later)
    writer.write(LINE)
    writer.write(LINE)
    assert lines_of(path) == [LINE.decode()] * 2
    assert lost == [2]


def test_records_in_a_renamed_file_are_not_lost(make, path):
    lost = []
    writer = make(check_interval_seconds=0, on_lost=lost.append)
    writer.write(LINE)
    path.rename(path.with_suffix(".1"))
    writer.write(LINE)
    assert lost == []


def test_a_record_that_another_thread_is_about_to_count_is_no_truncation_later(make, monkeypatch):
    missing = []
    writer = make(check_interval_seconds=0, on_truncated=missing.append)
    writer.write(b"one")
    is_written, may_go_on = threading.Event(), threading.Event()

    def write_and_dawdle(number, data, write=os.write):
        written = write(number, data)
        if threading.current_thread() is other:
            is_written.set()
            assert may_go_on.wait(60)
        return written

    monkeypatch.setattr(os, "write", write_and_dawdle)
    other = threading.Thread(target=writer.write, args=(b"two",))
    other.start()
    assert is_written.wait(60)
    writer.write(b"three")
    may_go_on.set()
    other.join()
    writer.write(b"four")
    writer.write(b"five")
    assert missing == []
    os.truncate(writer.path, 0)
    writer.write(b"six")
    assert missing == [len(b"one\ntwo\nthree\nfour\nfive\n")]


def test_a_tear_that_another_process_has_left_is_closed_off_at_the_next_look(make, path):
    writer = make(check_interval_seconds=0)
    writer.write(LINE)
    with path.open("ab") as dying:
        dying.write(LINE[:20])
    writer.write(LINE)
    assert lines_of(path) == [LINE.decode(), LINE[:20].decode(), LINE.decode()]


def test_a_record_right_behind_a_tear_is_found_by_its_reader(make, path):
    writer = make(check_interval_seconds=3600)
    writer.write(LINE)
    with path.open("ab") as dying:
        dying.write(LINE[:20])
    writer.write(LINE)
    assert after_tear(lines_of(path)[1]) == LINE.decode()


def test_a_long_record_to_a_pipe_is_cut_to_what_a_pipe_takes_in_one_piece(make, path):
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = make()
    long = format_line(parse_line(f"[2026-11-22T10:09:00.123456+00:00] {'u' * 2048}@- accessed /{'🐍' * 2047}"))
    assert len(long) > 4096
    writer.write(long)
    data = os.read(reader, 2**16)
    os.close(reader)
    assert len(data) <= 4096
    record = parse_audit_line(data.decode())
    assert record.user.startswith("uuu")
    assert record.path.endswith("…")


def test_a_pipe_in_the_place_of_a_file_gets_no_record_in_two_pieces(make, path):
    writer = make(check_interval_seconds=0)
    for _ in range(2):
        writer.write(LINE)
    path.unlink()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.write(format_access(0, "é" * 2048, "203.0.113.7", "/" + "中" * 2040))
    data = os.read(reader, 2**16)
    os.close(reader)
    assert len(data) <= 4096


def test_the_gap_that_a_deleted_file_leaves_is_told_before_the_next_record(make, path):
    def tell(records):
        writer.missed(records)

    writer = make(check_interval_seconds=0, on_lost=tell)
    for _ in range(3):
        writer.write(LINE)
    path.unlink()
    for _ in range(2):
        writer.write(LINE)
    assert [" lost 1 records " in line for line in lines_of(path)] == [True, False, False]


class Chain:
    """A seal that numbers the records and notes what it was told."""

    due_seconds = 0.0

    def __init__(self):
        self.state = 0
        self.told = []
        self.opening = b""

    def seal(self, line):
        sealed = self.opening + line + b"#%d" % self.state
        self.state += 1
        return sealed

    def written(self, now_seconds):
        self.opening = b""

    def torn(self, sealed, from_bytes):
        self.told.append(sealed)

    def opened(self, path, descriptor):
        assert os.path.samestat(os.fstat(descriptor), path.stat())
        self.state = 0
        self.opening = b"open %d\n" % os.getpid()

    def closing(self):
        return b"close"


def test_a_seal_opens_and_closes_every_file(make, path):
    writer = make(seal=Chain(), check_interval_seconds=0)
    writer.write(b"a")
    old = path.rename(path.with_suffix(".1"))
    writer.write(b"b")
    writer.write(b"c")
    writer.close()
    opening = f"open {os.getpid()}"
    assert lines_of(old) == [opening, "a#0", "close#1"]
    assert lines_of(path) == [opening, "b#0", "c#1", "close#2"]


def test_the_order_of_seals_is_the_order_in_the_file(make, path):
    writer = make(seal=Chain())
    threads = [threading.Thread(target=lambda: [writer.write(b"x") for _ in range(300)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines_of(path)[1:] == [f"x#{number}" for number in range(1200)]


def test_a_record_that_was_not_written_takes_no_number_and_a_torn_one_is_told(make, path):
    chain = Chain()
    writer = make(seal=chain)
    writer.write(b"a")
    size = path.stat().st_size
    with no_file_beyond(size), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        writer.write(b"lost")
    assert (chain.state, chain.told) == (1, [])
    with no_file_beyond(size + 2), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        writer.write(b"torn")
    assert chain.state == 1
    assert chain.told[0].endswith(b"#1")
    writer.write(b"b")
    assert lines_of(path)[-1] == "b#2"  # 1 is the gap
    assert " lost 2 records " in lines_of(path)[-2]


def test_a_forked_process_begins_with_an_opening_of_its_own(make, path):
    writer = make(seal=Chain())
    writer.write(b"a")
    child = os.fork()
    if child == 0:
        try:
            writer.write(b"b")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    writer.write(b"c")
    assert lines_of(path) == [f"open {os.getpid()}", "a#0", f"open {child}", "b#0", "c#1"]


FORKED = """
import ctypes, os, sys
from flask_signal_observability.audit.chain import Chain
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.line import format_access, format_line
from flask_signal_observability.audit.writer import AuditWriter

seal = Chain(AuditKey(sys.argv[2].encode())) if len(sys.argv) > 2 else None
writer = AuditWriter(sys.argv[1], gap_line=format_line, shortened=None, seal=seal)

def write(who):
    writer.write(format_access(0, who, "-", "/x"))

write("parent")
writer.missed(5)
children = []
for number in range(2):
    child = ctypes.PyDLL(None).fork()  # Python is told of nothing, and the child goes on with the GIL
    if child == 0:
        for record in range(3 * number):
            write("child")
        writer.close()
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
write("parent")
writer.close()
"""


@pytest.mark.parametrize("secret", ["a secret of 24 characters", None])
def test_a_child_of_a_fork_that_python_is_not_told_of_tells_nothing_in_its_parents_place(path, secret):
    subprocess.run([sys.executable, "-c", FORKED, path, *filter(None, [secret])], check=True, timeout=60)
    lines = lines_of(path)
    assert sum(" lost 5 records " in line for line in lines) == 1
    assert [sum(f" {who}@" in line for line in lines) for who in ("parent", "child")] == [2, 3]
    if secret is not None:
        report = verify([path], [AuditKey(secret.encode())])
        assert (report.verdict, report.findings, report.writers) == (Verdict.INTACT, (), 2)
        assert sum(" chain closed " in line for line in lines) == 2


def test_a_signal_handler_that_audits_amid_a_sealed_record_loses_its_own_and_nothing_hangs(make, path):
    class Interrupted(Chain):
        def seal(self, line):
            if line == b"a":
                with pytest.raises(OSError, match="while another one is being written"):
                    writer.write(b"from the handler")
            return super().seal(line)

    writer = make(seal=Interrupted())
    writer.write(b"a")
    writer.write(b"b")
    assert lines_of(path)[1] == "a#0"
    assert " lost 1 records " in lines_of(path)[2]
    assert lines_of(path)[3] == "b#2"


class Struck(BaseException):
    """As a timeout, or Ctrl-C."""


class Shaken(RealChain):
    """A chain amid whose work something strikes, once."""

    strikes_at = ""

    def strike(self, at):
        if self.strikes_at == at:
            self.strikes_at = ""
            raise Struck

    def seal(self, line):
        self.strike("before")
        sealed = super().seal(line)
        self.strike("sealed")
        return sealed

    def written(self, now_seconds):
        self.strike("written")
        super().written(now_seconds)


@pytest.mark.parametrize("at", ["before", "sealed", "written"])
def test_what_strikes_amid_a_sealed_record_is_told_as_a_gap_and_breaks_no_chain(make, path, at):
    chain = Shaken(KEY)
    writer = make(seal=chain)
    for number in range(6):
        if number in (0, 3):
            chain.strikes_at, chain.due_seconds = at, 0.0
            with pytest.raises(Struck):
                writer.write(LINE)
        writer.write(LINE)
    writer.close()
    report = verify([path], [KEY])
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())
    gaps = [record.lost for line in lines_of(path) if " lost " in line and (record := parse_audit_line(line))]
    assert gaps == [1, 1]


def test_what_strikes_behind_the_write_of_a_sealed_record_breaks_no_chain(make, path, monkeypatch):
    """The record is in the file, and whoever wrote it does not know."""
    writer = make(seal=RealChain(KEY))
    writer.write(LINE)

    def write(number, data, write=os.write):
        write(number, data)
        monkeypatch.setattr(os, "write", real)
        raise Struck

    real = os.write
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Struck):
        writer.write(LINE)
    writer.write(LINE)
    writer.close()
    report = verify([path], [KEY])
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())
    assert sum(LINE.decode() in line for line in lines_of(path)) == 3


@pytest.mark.parametrize(("length", "verdict"), [(None, Verdict.INTACT), (60, Verdict.TORN)])
def test_what_is_left_of_a_struck_record_is_found_behind_all_that_others_wrote(
    make, path, monkeypatch, length, verdict
):
    """The whole record is there, or its beginning, which another process' record then runs into."""
    struck, busy = make(seal=RealChain(KEY)), make(seal=RealChain(KEY))
    for writer in (struck, busy) * 2:
        writer.write(LINE)
    real = os.write

    def write(number, data):
        monkeypatch.setattr(os, "write", real)
        real(number, data[:length])
        raise Struck

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Struck):
        struck.write(LINE)
    for _ in range(2 * WINDOW_BYTES // len(LINE)):
        busy.write(LINE)
    struck.write(LINE)
    for writer in (struck, busy):
        writer.close()
    report = verify([path], [KEY])
    assert (report.verdict, {finding.kind.verdict for finding in report.findings} - {verdict}) == (verdict, set())


def test_a_struck_record_that_is_whole_in_a_file_that_is_renamed_behind_it_breaks_no_chain(make, path, monkeypatch):
    writer = make(seal=RealChain(KEY))
    writer.write(LINE)
    real = os.write

    def write(number, data):
        monkeypatch.setattr(os, "write", real)
        real(number, data)
        raise Struck

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Struck):
        writer.write(LINE)
    old = path.rename(path.with_suffix(".1"))
    writer.write(LINE)
    writer.close()
    report = verify([old, path], [KEY])
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())


def test_a_file_that_is_renamed_before_its_first_record_is_in_the_order_of_its_series(make, path):
    """Its writer goes on in another one, which has a record by then."""
    early, late = RealChain(KEY), make(seal=RealChain(KEY))
    opened = early.opened

    def renamed_meanwhile(*arguments):
        early.opened = opened
        path.rename(path.with_suffix(".1"))
        late.write(LINE)
        opened(*arguments)

    early.opened = renamed_meanwhile
    writer = make(seal=early, check_interval_seconds=0)
    for _ in range(3):
        writer.write(LINE)
    for each in (writer, late):
        each.close()
    report = verify([path, path.with_suffix(".1")], [KEY])
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())


@pytest.mark.parametrize("error", [MemoryError, RecursionError, Struck])
def test_what_strikes_amid_a_record_is_a_gap_whatever_it_is(make, path, monkeypatch, error):
    writer = make()
    writer.write(LINE)
    real = os.write

    def write(number, data):
        monkeypatch.setattr(os, "write", real)
        raise error

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(error):
        writer.write(LINE)
    writer.write(LINE)
    assert gap_in(path).lost == 1


def test_a_gap_whose_line_is_struck_is_told_by_the_next_record(make, path, monkeypatch):
    writer = make()
    writer.write(LINE)
    real, calls = os.write, []

    def write(number, data):
        calls.append(data)
        raise OSError(errno.ENOSPC, "full") if len(calls) == 1 else Struck

    monkeypatch.setattr(os, "write", write)
    for error in (OSError, Struck):
        with pytest.raises(error):
            writer.write(LINE)
    monkeypatch.setattr(os, "write", real)
    writer.write(LINE)
    assert gap_in(path).lost == 2


def test_records_that_are_torn_one_after_the_other_are_no_tampering(make, path):
    writer = make(seal=RealChain(KEY))
    writer.write(LINE)
    for more in (5, 12, 60, 200):
        with no_file_beyond(path.stat().st_size + more), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            writer.write(LINE)
    writer.write(LINE)
    writer.close()
    report = verify([path], [KEY])
    assert report.verdict is Verdict.TORN, report.findings
    assert {finding.kind for finding in report.findings} == {Kind.TORN}


KILLED = """
import os, sys, threading
from flask_signal_observability.audit.line import format_access, format_line
from flask_signal_observability.audit.writer import AuditWriter
writer = AuditWriter(sys.argv[1], gap_line=format_line, shortened=None, check_interval_seconds=0.01)
def run(thread):
    for number in range(10**6):
        writer.write(format_access(number * 1000, f"{thread}.{number}", "-", "/x"))
        os.write(1, b"%d.%d\\n" % (thread, number))
for thread in range(4):
    threading.Thread(target=run, args=(thread,)).start()
"""


def test_what_a_killed_process_was_told_is_written_is_in_the_file_once(path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE)
    acknowledged = b"".join(process.stdout.readline() for _ in range(2000))
    process.kill()
    acknowledged += process.stdout.read()
    process.stdout.close()
    process.wait()
    users = [parse_audit_line(line).user for line in lines_of(path)]
    assert len(set(users)) == len(users)
    assert set(acknowledged.decode().split("\n")[:-1]) <= set(users)


def test_dev_full_is_an_error_each_time():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    writer = AuditWriter("/dev/full", gap_line=format_line, shortened=lambda line, most_bytes: line)
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            writer.write(LINE)


ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("options", [("--chain",), ("--rotate", "--format", "json", "--durability", "group")])
def test_nothing_acknowledged_is_lost_or_written_twice_under_renames_hang_ups_and_kills(options):
    """The short form of ``tests/stress/audit.py``."""
    command = [sys.executable, str(ROOT / "tests" / "stress" / "audit.py"), "--rounds", "2", "--disk", "0", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed: rounds=2" in done.stdout


def test_the_benchmark_prints_what_a_line_costs_beside_a_bare_write():
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "audit.py"), "--rounds", "3", "--lines", "50"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert "| os.write |" in done.stdout
    assert "| sink |" in done.stdout
