"""Who is a worker of whom: the names of the servers' that this relies on."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_signal_observability import ConfigurationError
from flask_signal_observability import Observability
from flask_signal_observability.metrics_store import places
from flask_signal_observability.metrics_store.group import Group
from flask_signal_observability.metrics_store.places import directory_for
from flask_signal_observability.metrics_store.workers import Leader
from flask_signal_observability.metrics_store.workers import leader_of_coming_workers
from flask_signal_observability.metrics_store.workers import leader_of_this_worker
from flask_signal_observability.sinks.families import Families


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Handles a signal with a method of an object until the test is over."""
    before: list[tuple[int, Any]] = []

    def handle(number: int, method: Any) -> None:
        before.append((number, signal.signal(number, method)))

    yield handle
    for number, handler in reversed(before):
        signal.signal(number, handler)


def test_a_process_that_serves_alone_has_no_leader_and_is_none() -> None:
    assert leader_of_this_worker() is None
    assert leader_of_coming_workers() is None


def test_a_gunicorn_worker_is_known_by_its_handler_of_abort(handle: Any) -> None:
    base = pytest.importorskip("gunicorn.workers.base")
    worker = object.__new__(base.Worker)
    handle(signal.SIGABRT, worker.handle_abort)
    assert leader_of_this_worker() == Leader(os.getppid())


def test_a_gunicorn_master_is_known_by_its_handler_of_children(handle: Any) -> None:
    arbiter_module = pytest.importorskip("gunicorn.arbiter")
    arbiter = object.__new__(arbiter_module.Arbiter)
    arbiter.cfg = type("Settings", (), {"uid": os.geteuid(), "gid": os.getegid()})()
    handle(signal.SIGCHLD, arbiter.signal)
    assert leader_of_coming_workers() == Leader(os.getpid(), None)
    arbiter.cfg.uid += 1
    assert leader_of_coming_workers() == Leader(os.getpid(), (os.geteuid() + 1, os.getegid()))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_a_leader_has_one_directory_of_its_own(runtime: Path) -> None:
    mine = directory_for(Leader(os.getpid()))
    assert mine == directory_for(Leader(os.getpid()))
    assert mine != directory_for(Leader(os.getppid()))
    assert Path(mine).parent == runtime / f"flask_signal_observability-{os.geteuid()}"
    assert Path(mine).parent.stat().st_mode & 0o777 == 0o700


def test_what_a_dead_leader_left_is_swept_away_and_what_has_a_living_member_stays(runtime: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        dead = directory_for(Leader(process.pid))
    Group(dead).close()
    gone = Path(dead).with_name(f"1-0-{places._namespace()}")  # the pid lives, and is another process by now
    group = Group(str(gone))
    member = group.join()
    directory_for(Leader(os.getpid()))
    assert [path.exists() for path in (Path(dead), gone)] == [False, True]
    member.close()
    group.close()
    directory_for(Leader(os.getpid()))
    assert not gone.exists()


def test_the_group_of_another_container_is_left_alone_for_a_day(runtime: Path) -> None:
    foreign = Path(directory_for(Leader(os.getpid()))).with_name("7-7-7")
    Group(str(foreign)).close()
    directory_for(Leader(os.getpid()))
    assert foreign.exists()
    os.utime(foreign, (0, 0))
    directory_for(Leader(os.getpid()))
    assert not foreign.exists()


def test_a_stranger_beside_the_groups_is_left_alone(runtime: Path) -> None:
    stranger = Path(directory_for(Leader(os.getpid()))).with_name("notes")
    stranger.mkdir()
    directory_for(Leader(os.getpid()))
    assert stranger.exists()


def test_a_pipe_in_what_a_dead_leader_left_does_not_hold_up_the_start(runtime: Path, handle: Any) -> None:
    with subprocess.Popen(["true"]) as process:
        dead = directory_for(Leader(process.pid))
    Group(dead).close()
    os.mkfifo(f"{dead}/0.0")
    handle(signal.SIGALRM, lambda *_: pytest.fail("it waits for a writer"))
    signal.alarm(5)
    try:
        directory_for(Leader(os.getpid()))
    finally:
        signal.alarm(0)
    assert not Path(dead).exists()


def test_what_another_user_may_have_put_there_is_swept_and_not_followed(runtime: Path) -> None:
    owner = os.geteuid(), os.getegid()
    with subprocess.Popen(["true"]) as process:
        dead = directory_for(Leader(process.pid))
    Path(dead).symlink_to(runtime)
    (runtime / "kept").touch()
    gone = Path(dead).with_name(f"1-0-{places._namespace()}")
    Group(str(gone)).close()
    mine = Path(directory_for(Leader(os.getpid(), owner)))
    assert (Path(dead).is_symlink(), (runtime / "kept").exists(), gone.exists()) == (True, True, False)
    mine.parent.rename(runtime / "elsewhere")
    mine.parent.symlink_to(runtime / "elsewhere")
    with pytest.raises(OSError, match=re.escape(str(mine.parent))):
        Group(str(mine), 0, owner)
    assert not (runtime / "elsewhere" / mine.name).exists()


def test_a_master_that_shares_in_a_directory_of_choice_is_no_worker_and_its_children_are(
    tmp_path: Path, handle: Any
) -> None:
    arbiter_module = pytest.importorskip("gunicorn.arbiter")
    families = Families.of(CollectorRegistry(), (), str(tmp_path / "group"))
    store = families.store
    families["observability_errors_total"].child("a", "b").inc(2)
    assert store.member is not None
    arbiter = object.__new__(arbiter_module.Arbiter)
    arbiter.cfg = type("Settings", (), {"uid": os.geteuid(), "gid": os.getegid()})()
    handle(signal.SIGCHLD, arbiter.signal)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        families["observability_errors_total"].child("a", "b").inc(3)
        os.write(told, b"x")
        signal.pause()
    handle(signal.SIGCHLD, signal.SIG_DFL)
    os.read(ready, 1)
    try:
        reading = store.read(exemplars=False)
        assert store.member is None
        assert reading.counted("observability_errors_total") == [(("a", "b"), 5)]
        assert reading.counted("observability_workers") == [((), 1)]
        assert reading.counted("observability_worker_starts_total") == [((), 1)]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for descriptor in (ready, told):
            os.close(descriptor)


def test_what_a_master_forks_beside_its_workers_is_no_member(tmp_path: Path, handle: Any) -> None:
    arbiter_module = pytest.importorskip("gunicorn.arbiter")
    families = Families.of(CollectorRegistry(), (), str(tmp_path / "group"))
    arbiter = object.__new__(arbiter_module.Arbiter)
    arbiter.cfg = type("Settings", (), {"uid": os.geteuid(), "gid": os.getegid()})()
    handle(signal.SIGCHLD, arbiter.signal)
    arbiter.SIG_QUEUE = queue.SimpleQueue()
    files = []
    for arbiter.worker_age in (1, 1, 2):
        pid = os.fork()
        if pid == 0:
            os._exit(len(list((tmp_path / "group").glob("*.[0-9]"))))
        files.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    handle(signal.SIGCHLD, signal.SIG_DFL)
    reading = families.store.read(exemplars=False)
    assert reading.counted("observability_worker_starts_total") == [((), 2)]
    assert files[0] == files[2] == 1


def test_a_directory_that_is_named_and_missing_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"metrics_shared='.*/too' cannot be used"):
        Observability(
            Flask("shop"), registry=CollectorRegistry(), metrics_shared=str(tmp_path / "missing" / "too"), tracing=False
        )
