from __future__ import annotations

import errno
import gc
import os
import resource
import stat
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_signal_observability import files
from flask_signal_observability.files import AppendFile

SOURCE = Path(files.__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def file(path):
    """A file that looks at its path before each record."""
    file = AppendFile(path, check_interval_seconds=0)
    yield file
    file.close()


@pytest.fixture
def an_hour_passes(monkeypatch):
    def an_hour_passes():
        later = time.monotonic() + 3600
        monkeypatch.setattr(time, "monotonic", lambda: later)

    return an_hour_passes


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def disk_full_beyond(size_bytes):
    """No file of this process grows past ``size_bytes``: a write that reaches it is short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def python(code, *arguments, shell_redirections=""):
    """Run ``code`` in an interpreter of its own, which must say nothing."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
    if shell_redirections:
        command = ["/bin/sh", "-c", f'exec "$@" {shell_redirections}', "sh", *command]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    with process:
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


def open_descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def test_nothing_is_on_disk_before_the_first_record(path):
    file = AppendFile(path)
    assert not path.exists()
    file.write(b"one\n")
    file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_an_existing_file_is_appended_to(path, file):
    path.write_bytes(b"before\n")
    file.write(b"one\n")
    assert path.read_bytes() == b"before\none\n"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_a_new_file_has_its_mode_whatever_the_umask(path, file, mask):
    with umask(mask):
        file.write(b"one\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_mode_of_an_existing_file_stays(path, file):
    path.touch()
    path.chmod(0o604)
    file.write(b"one\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_relative_path_stays_where_it_was_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = AppendFile("audit.log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.write(b"one\n")
    assert (tmp_path / "audit.log").read_bytes() == b"one\n"


def test_a_renamed_file_is_followed_by_a_new_one(path, file):
    file.write(b"one\n")
    rotated = path.rename(path.with_suffix(".1"))
    file.write(b"two\n")
    assert (rotated.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_a_file_that_logrotate_has_already_created_is_used_with_its_mode(path, file):
    file.write(b"one\n")
    path.rename(path.with_suffix(".1"))
    path.touch(0o600)
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_deleted_file_is_made_again(path, file):
    file.write(b"one\n")
    path.unlink()
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_truncated_file_goes_on_at_its_new_end(path, file):
    file.write(b"one\n")
    os.truncate(path, 0)
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_the_path_is_looked_at_only_once_in_the_interval(path, an_hour_passes):
    file = AppendFile(path, check_interval_seconds=3600)
    file.write(b"one\n")
    rotated = path.rename(path.with_suffix(".1"))
    file.write(b"two\n")
    assert not path.exists()
    an_hour_passes()
    file.write(b"three\n")
    assert (rotated.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_the_path_is_looked_at_at_once_after_an_error(path):
    file = AppendFile(path, check_interval_seconds=3600)
    file.write(b"one\n")
    with disk_full_beyond(4), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        file.write(b"lost\n")
    path.rename(path.with_suffix(".1"))
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_file_that_could_not_be_reopened_is_not_written_to_under_its_old_name(tmp_path, an_hour_passes):
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    file = AppendFile(path, check_interval_seconds=3600)
    file.write(b"one\n")
    path.parent.rename(tmp_path / "old")
    an_hour_passes()
    with pytest.raises(FileNotFoundError):
        file.write(b"lost\n")
    path.parent.mkdir()
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert (tmp_path / "old" / "audit.log").read_bytes() == b"one\n"


def test_a_closed_file_opens_again_for_a_late_record(path, file):
    file.write(b"one\n")
    file.close()
    file.close()
    file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_file_that_cannot_be_looked_at_leaves_no_descriptor_open(path, monkeypatch):
    def fail(number):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    gc.collect()
    before = open_descriptors()
    file = AppendFile(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.write(b"one\n")
    assert open_descriptors() == before
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_reopening_closing_and_forgetting_leave_no_descriptor_open(path):
    gc.collect()
    before = open_descriptors()
    file = AppendFile(path, check_interval_seconds=0)
    for _ in range(5):
        file.write(b"one\n")
        path.unlink()
    assert open_descriptors() == before + 1
    file.close()
    assert open_descriptors() == before
    file.write(b"two\n")
    del file
    gc.collect()
    assert open_descriptors() == before


def test_a_missing_directory_is_an_error_until_somebody_makes_it(tmp_path):
    path = tmp_path / "logs" / "audit.log"
    file = AppendFile(path)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            file.write(b"lost\n")
    assert not path.parent.exists()
    path.parent.mkdir()
    file.write(b"one\n")
    assert path.read_bytes() == b"one\n"


def test_a_directory_that_goes_away_and_comes_back_is_written_to_again(tmp_path):
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    file = AppendFile(path, check_interval_seconds=0)
    file.write(b"one\n")
    path.parent.rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError):
        file.write(b"lost\n")
    path.parent.mkdir()
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_symbolic_link_is_refused(path, tmp_path, file):
    target = tmp_path / "passwd"
    target.write_bytes(b"root\n")
    path.symlink_to(target)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        file.write(b"one\n")
    path.unlink()
    path.symlink_to(tmp_path / "dangling")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        file.write(b"one\n")
    assert target.read_bytes() == b"root\n"
    assert not (tmp_path / "dangling").exists()


def test_a_symbolic_link_that_takes_the_place_of_the_open_file_is_refused(path, file):
    file.write(b"one\n")
    target = path.rename(path.with_suffix(".1"))
    path.symlink_to(target)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        file.write(b"two\n")


def test_a_directory_in_the_files_place_is_an_error(path, file):
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.write(b"one\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_each_time_and_leaves_no_descriptor_behind():
    file = AppendFile("/dev/full")
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write(b"one\n")
    assert open_descriptors() == before + 1


def test_a_disk_that_was_full_is_written_to_again(path, file):
    file.write(b"one\n")
    with disk_full_beyond(4), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        file.write(b"lost\n")
    file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_record_after_a_torn_one_is_on_a_line_of_its_own(path, file):
    file.write(b"one\n")
    with disk_full_beyond(7):
        for _ in range(2):
            with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
                file.write(b"lost\n")
    file.write(b"two\n")
    file.write(b"three\n")
    assert path.read_bytes() == b"one\nlos\ntwo\nthree\n"


def test_a_record_whose_newline_alone_did_not_fit_is_closed_off(path, file):
    with disk_full_beyond(3), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        file.write(b"one\n")
    file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_record_that_is_taken_in_two_parts_is_whole_and_in_more_it_is_torn(path, file, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda number, data: write(number, data[:3]))
    file.write(b"12345\n")
    with pytest.raises(OSError, match="the last 1 of 7 bytes of a record could not be written"):
        file.write(b"123456\n")
    monkeypatch.undo()
    file.write(b"two\n")
    file.write(b"three\n")
    assert path.read_bytes() == b"12345\n123456\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"two\n"),
        (b"one\n", b"one\ntwo\n"),
        (b"one", b"one\ntwo\n"),
        (b"\n", b"\ntwo\n"),
        (b"a\no", b"a\no\ntwo\n"),
    ],
)
def test_a_file_that_a_crash_left_torn_is_closed_off_when_it_is_opened(path, file, before, after):
    path.write_bytes(before)
    file.write(b"two\n")
    assert path.read_bytes() == after


def test_a_tear_is_closed_off_again_where_the_first_try_failed(path, file):
    path.write_bytes(b"torn")
    with disk_full_beyond(4), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        file.write(b"lost\n")
    file.write(b"two\n")
    file.write(b"three\n")
    assert path.read_bytes() == b"torn\ntwo\nthree\n"


def test_a_tear_stays_behind_with_the_file_that_was_renamed(path, file):
    with disk_full_beyond(2), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        file.write(b"lost\n")
    path.rename(path.with_suffix(".1"))
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_fifo_without_a_reader_is_an_error_and_no_hang(path, file):
    os.mkfifo(path)
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
        file.write(b"one\n")


def test_a_fifo_is_written_to_while_it_has_a_reader(path, file):
    os.mkfifo(path)
    for record in (b"one\n", b"two\n"):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        file.write(record)
        assert os.read(reader, 100) == record
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            file.write(b"lost\n")


def test_a_full_fifo_is_an_error_and_no_hang_and_its_torn_record_is_closed_off(path, file):
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        file.write(b"x" * 2**22 + b"\n")
    while set(os.read(reader, 2**16)) == {ord("x")}:
        if not has_more(reader):
            break
    file.write(b"two\n")
    assert os.read(reader, 100) == b"\ntwo\n"
    os.close(reader)


def has_more(reader):
    import select

    return bool(select.select([reader], [], [], 0)[0])


def test_threads_and_processes_append_whole_lines_while_the_file_is_rotated(path):
    """Twelve writers, and somebody who renames the file under them: every line is there once, and whole."""
    code = """
    import sys
    import threading
    from flask_signal_observability.files import AppendFile
    path, name = sys.argv[1:]
    file = AppendFile(path, check_interval_seconds=0)
    def write(thread):
        for i in range(150):
            file.write(f"{name}.{thread}.{i} {'x' * (i * 7 % 300)}.\\n".encode())
    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    """
    processes = [python(code, path, name) for name in "abc"]
    rotations = 0
    while any(process.poll() is None for process in processes):
        try:
            path.rename(path.with_suffix(f".{rotations % 50}.{rotations}"))
            rotations += 1
        except FileNotFoundError:
            pass
    for process in processes:
        finish(process)
    lines = [line for part in path.parent.iterdir() for line in part.read_text().split("\n") if line]
    expected = [f"{p}.{t}.{i} {'x' * (i * 7 % 300)}." for p in "abc" for t in range(4) for i in range(150)]
    assert rotations > 1
    assert sorted(lines) == sorted(expected)


def test_threads_share_one_file_while_it_is_deleted_closed_and_reopened(path):
    """No thread may write to a number that another one has just closed: it could be a socket by then."""
    file = AppendFile(path, check_interval_seconds=0)
    bystander = path.with_suffix(".bystander")
    bystander.touch()
    failures = []
    done = threading.Event()

    def write():
        try:
            for _ in range(300):
                file.write(b"record\n")
        except OSError as error:
            failures.append(error)

    def take_free_numbers():
        while not done.is_set():
            os.close(os.open(bystander, os.O_WRONLY | os.O_APPEND))
            path.unlink(missing_ok=True)
            file.close()

    other = threading.Thread(target=take_free_numbers)
    writers = [threading.Thread(target=write) for _ in range(4)]
    other.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    other.join()
    assert failures == []
    assert bystander.read_bytes() == b""


def test_a_forked_child_and_its_parent_append_to_the_same_file(path):
    finish(
        python(
            """
            import os
            import sys
            from flask_signal_observability.files import AppendFile
            file = AppendFile(sys.argv[1])
            file.write(b"parent\\n")
            child = os.fork()
            for i in range(200):
                file.write(b"both\\n")
            if child:
                os.waitpid(child, 0)
            """,
            path,
        )
    )
    assert path.read_bytes() == b"parent\n" + b"both\n" * 400


def test_a_closed_standard_stream_is_never_replaced_by_the_file(path):
    finish(
        python(
            """
            import os
            import sys
            from flask_signal_observability.files import AppendFile
            file = AppendFile(sys.argv[1])
            file.write(b"one\\n")
            file.write(b"two\\n")
            for number in range(3):
                try:
                    os.fstat(number)
                except OSError:
                    continue
                file.write(b"%d is open\\n" % number)
            print("not into the file")
            file.write(b"inheritable\\n" if os.get_inheritable(file._file.number) else b"close-on-exec\\n")
            """,
            path,
            shell_redirections="0<&- 1>&- 2>&-",
        )
    )
    assert path.read_bytes() == b"one\ntwo\nclose-on-exec\n"


def test_the_descriptor_is_not_inherited(path, file):
    file.write(b"one\n")
    assert not os.get_inheritable(file._file.number)


def test_a_file_that_is_still_open_when_the_interpreter_ends_makes_no_noise(path):
    finish(
        python(
            """
            import sys
            from flask_signal_observability.files import AppendFile
            file = AppendFile(sys.argv[1])
            file.write(b"one\\n")
            """,
            path,
        )
    )


def test_a_descriptor_that_a_daemon_closed_is_opened_again(path, file):
    file.write(b"one\n")
    os.close(file._file.number)
    file.write(b"two\n")
    file.write(b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_descriptor_that_is_a_strangers_by_now_is_neither_written_to_nor_closed(path, tmp_path, file):
    file.write(b"one\n")
    number = file._file.number
    with (tmp_path / "stranger").open("wb") as stranger:
        os.dup2(stranger.fileno(), number)
        file.write(b"two\n")
        assert os.path.samestat(os.fstat(number), os.fstat(stranger.fileno()))
        os.close(number)
    assert path.read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "stranger").read_bytes() == b""


def test_a_file_that_may_not_be_read_is_closed_off_to_be_sure(tmp_path_factory):
    """Its last byte cannot be looked at: a blank line costs less than two records in one."""
    import tempfile

    with tempfile.TemporaryDirectory() as open_directory:
        Path(open_directory).chmod(0o755)
        path = Path(open_directory) / "audit.log"
        path.write_bytes(b"one\n")
        path.chmod(0o222)
        finish(
            python(
                """
                import os
                import sys
                from flask_signal_observability.files import AppendFile
                if os.geteuid() == 0:
                    os.setuid(65534)  # root may read everything
                AppendFile(sys.argv[1]).write(b"two\\n")
                """,
                path,
            )
        )
        assert path.read_bytes() == b"one\n\ntwo\n"
