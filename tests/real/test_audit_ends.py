"""How a sealed file ends without gunicorn's hooks, and what is seen of its end being cut off."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flask_signal_observability.audit.finding import Kind
from flask_signal_observability.audit.finding import Verdict
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.verification import verify

from .audit_app import REQUESTS
from .client import answers
from .client import send
from .programs import eventually
from .programs import free_port
from .programs import running
from .served import environment_of
from .served import HERE
from .served import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask_signal_observability.audit.verification import Report

    from .programs import Program

pytestmark = pytest.mark.real

KEY = AuditKey(b"a secret of 24 characters")


def checked(path: Path) -> Report:
    return verify([path], [KEY])


def cut(path: Path, lines: int) -> Report:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    return checked(path)


def burst(port: int) -> None:
    for _ in range(REQUESTS):
        send(port, "/orders")


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
def test_a_worker_without_hooks_that_ends_by_sigterm_closes_its_chain(tmp_path: Path, worker_class: str) -> None:
    path = tmp_path / "access_audit.log"
    with serving("audit_app:app", directory=tmp_path, options=("--worker-class", worker_class)) as served:
        burst(served.port)
        served.stop()
    assert b"chain closed" in path.read_bytes().splitlines()[-1]
    assert checked(path).findings == ()
    assert [finding.kind for finding in cut(path, 4).findings] == [Kind.TRUNCATION]


def test_a_script_closes_its_chain(tmp_path: Path) -> None:
    path = tmp_path / "access_audit.log"
    script = [sys.executable, str(HERE / "audit_app.py")]
    subprocess.run(script, cwd=tmp_path, env=environment_of(tmp_path), check=True, timeout=60)
    assert checked(path).findings == ()
    assert [finding.kind for finding in cut(path, 4).findings] == [Kind.TRUNCATION]


@contextlib.contextmanager
def flask_run(directory: Path, port: int) -> Iterator[Program]:
    command = [sys.executable, "-m", "flask", "--app", str(HERE / "audit_app.py"), "run", "--port", str(port)]
    environment = environment_of(directory)
    with running(
        command, name="flask", directory=directory, ready=lambda: answers(port, "/orders"), env=environment
    ) as program:
        yield program


def test_flask_run_that_is_ended_by_sigterm_amid_a_burst_has_an_open_end_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.verification.LATE_SECONDS", 0)
    path, port = tmp_path / "access_audit.log", free_port()
    with flask_run(tmp_path, port) as program:
        burst(port)
        program.stop()
    assert b"chain closed" not in path.read_bytes()
    assert [finding.kind for finding in checked(path).findings] == [Kind.OPEN_END]
    assert cut(path, 2).verdict in (Verdict.TAMPERED, Verdict.UNCHECKED)


def test_flask_run_that_is_ended_by_sigterm_when_it_was_idle_is_intact_until_it_is_cut(tmp_path: Path) -> None:
    path, port = tmp_path / "access_audit.log", free_port()
    with flask_run(tmp_path, port) as program:
        burst(port)
        heads = path.with_name(f"{path.name}.heads")
        eventually(lambda: b" settled #" in heads.read_bytes(), timeout=10, what="the head to be settled")
        program.stop()
    assert checked(path).findings == ()
    assert [finding.kind for finding in cut(path, 4).findings] == [Kind.TRUNCATION]
