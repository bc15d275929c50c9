"""Real programs: found or told missing, started on a loopback port, awaited, and ended again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import NoReturn
from typing import TYPE_CHECKING
from typing import TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

__all__ = ["Program", "eventually", "executable", "free_port", "output_of_running", "running", "unavailable"]

START_SECONDS = 30.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05

T = TypeVar("T")


class Program:
    """A process of the tests, and the file that its output goes to."""

    def __init__(self, command: Sequence[str | Path], log: Path, cwd: Path, env: Mapping[str, str] | None) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd, env=env)

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End the process in its own way, SIGTERM, and wait for it; a second call does nothing."""
        if self.ended:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.log.stem} did not end within {STOP_SECONDS} s of SIGTERM") from None


_running: list[Program] = []


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    name: str,
    directory: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run ``command`` in ``directory`` from the moment it is ``ready`` to the end of the block."""
    program = Program(command, directory / f"{name}.log", directory, env)
    _running.append(program)
    try:
        eventually(lambda: program.ended or ready(), timeout=START_SECONDS, what=f"{name} to be ready")
        assert not program.ended, f"{name} ended at its start:\n{program.output}"
        yield program
    finally:
        try:
            program.stop()
        finally:
            _running.remove(program)


def output_of_running() -> Iterator[tuple[str, str]]:
    """Yield name and output of each program that runs now, for the report of a failed test."""
    for program in _running:
        yield program.log.stem, program.output


def eventually(probe: Callable[[], T], *, timeout: float, what: str) -> T:
    """Return the first true answer of ``probe``; fail with the last one after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}; the last answer was {answer!r}")
        time.sleep(POLL_SECONDS)
    return answer


def executable(name: str, *, remedy: str) -> Path:
    """Return where the program ``name`` is, or skip the test with the ``remedy``."""
    found = shutil.which(name)
    return Path(found) if found else unavailable(f"no {name} on the PATH; {remedy}")


def unavailable(reason: str) -> NoReturn:
    """Skip for ``reason``; where CI=true promises every part, fail instead."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
