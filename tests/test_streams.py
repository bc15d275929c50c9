from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading

import pytest

from flask_signal_observability.streams import LogStream

LINE = b'{"event":"\xe2\x82\xac"}\n'


def test_a_standard_stream_is_looked_up_at_every_write(monkeypatch):
    stream = LogStream("stdout")
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", first)
    stream.write(LINE)
    monkeypatch.setattr(sys, "stdout", second)
    stream.write(LINE)
    assert first.getvalue() == second.getvalue() == LINE.decode()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_process_without_the_stream_drops_lines_in_silence(monkeypatch, name):
    monkeypatch.setattr(sys, name, None)
    stream = LogStream(name)
    assert stream.is_terminal is False
    stream.write(LINE)


def test_bytes_reach_a_captured_stream(capfdbinary):
    LogStream("stdout").write(LINE)
    LogStream("stderr").write(LINE)
    assert capfdbinary.readouterr() == (LINE, LINE)


def test_a_stream_in_memory_that_wraps_bytes_gets_bytes(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="latin-1"))
    LogStream("stdout").write(LINE)
    assert buffer.getvalue() == LINE


def test_what_was_printed_before_comes_before(tmp_path):
    with (tmp_path / "out").open("w") as stream:
        print("before", file=stream)
        LogStream(stream).write(LINE)
        print("after", file=stream)
    assert (tmp_path / "out").read_bytes() == b"before\n" + LINE + b"after\n"


@pytest.mark.parametrize("opened", [io.BytesIO, tempfile.TemporaryFile], ids=["memory", "file"])
def test_what_takes_bytes_gets_bytes(opened):
    with opened() as stream:
        LogStream(stream).write(LINE)
        stream.seek(0)
        assert stream.read() == LINE


def test_anything_with_a_write_gets_text():
    class Collector:
        def __init__(self):
            self.lines = []
            self.buffer = []  # no stream's buffer

        def write(self, text):
            self.lines.append(text)

    collector = Collector()
    LogStream(collector).write(LINE)
    assert collector.lines == [LINE.decode()]


def test_a_path_is_appended_to(tmp_path):
    path = tmp_path / "app.log"
    for target in (path, str(path)):
        stream = LogStream(target)
        stream.write(LINE)
        stream.close()
    assert path.read_bytes() == LINE * 2
    assert stream.is_terminal is False


def test_no_file_appears_before_the_first_line(tmp_path):
    LogStream(tmp_path / "app.log")
    assert not (tmp_path / "app.log").exists()


def test_a_file_that_cannot_be_opened_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="missing"):
        LogStream(tmp_path / "missing" / "app.log").write(LINE)


def test_a_closed_stream_is_no_terminal_and_an_error():
    stream = io.StringIO()
    stream.close()
    assert LogStream(stream).is_terminal is False
    with pytest.raises(ValueError, match="closed"):
        LogStream(stream).write(LINE)


def test_closing_leaves_a_stream_open():
    stream = io.StringIO()
    LogStream(stream).close()
    assert not stream.closed


def test_a_terminal_is_one():
    main, terminal = os.openpty()
    with os.fdopen(main, "rb", buffering=0), os.fdopen(terminal, "w") as stream:
        assert LogStream(stream).is_terminal


def test_a_raw_stream_that_takes_a_line_in_parts_gets_it_whole():
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self):
            return True

        def write(self, data):
            self.taken += bytes(data[:3])
            return min(3, len(data))

    raw = Slow()
    with io.TextIOWrapper(raw, write_through=True) as text:
        LogStream(text).write(LINE)
        assert raw.taken == LINE


def test_a_pipe_that_is_full_is_an_oserror():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as text:
        stream = LogStream(text)
        with pytest.raises(BlockingIOError):
            stream.write(b"x" * 10_000_000 + b"\n")


def test_a_broken_pipe_is_an_oserror_each_time():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as text:
        stream = LogStream(text)
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                stream.write(LINE)
    # Closing flushed nothing that was refused: it would have raised.


def test_a_writer_that_writes_to_the_same_stream_does_not_wait_for_itself():
    class Talkative(io.StringIO):
        def write(self, text):
            if text != "inner\n":
                stream.write(b"inner\n")
            return super().write(text)

    stream = LogStream(Talkative())
    writer = threading.Thread(target=stream.write, args=(b"outer\n",), daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive()


def run(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False, **options)


def test_a_process_writes_utf_8_whatever_its_locale_says():
    code = f"from flask_signal_observability.streams import LogStream; LogStream('stdout').write({LINE!r})"
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert run(code, env=environ).stdout == LINE


def test_a_pipe_that_broke_leaves_the_exit_status_alone():
    code = """
import os, sys
from flask_signal_observability.streams import LogStream
reading, writing = os.pipe()
os.dup2(writing, 1)
os.close(reading)
try:
    LogStream("stdout").write(b"x\\n")
except BrokenPipeError:
    sys.stderr.write("broken")
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, b"broken")


def test_long_lines_of_several_threads_do_not_mix():
    code = """
import threading
from flask_signal_observability.streams import LogStream
def write(letter):
    for _ in range(20):
        LogStream("stdout").write(letter * 100_000 + b"\\n")
threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    lines = run(code).stdout.splitlines()
    assert len(lines) == 60
    assert all(len(line) == 100_000 and len(set(line)) == 1 for line in lines)


def test_a_fork_while_another_thread_writes_can_write_itself():
    code = """
import os, sys, threading
from flask_signal_observability.streams import LogStream
inside, leave = threading.Event(), threading.Event()
class Stuck:
    def write(self, text):
        inside.set()
        leave.wait(30)
thread = threading.Thread(target=LogStream(Stuck()).write, args=(b"x\\n",))
thread.start()
inside.wait(30)
child = os.fork()
if child == 0:
    LogStream("stdout").write(b"child\\n")
    os._exit(0)
leave.set()
thread.join()
os.waitpid(child, 0)
"""
    assert run(code).stdout == b"child\n"
