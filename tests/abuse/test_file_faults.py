"""Whatever the system refuses to a file of ours, requests are answered as by the bare app, and the file goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import os
import re
import threading
from typing import Any
from typing import TYPE_CHECKING

import pytest

from flask_signal_observability import access_logged
from flask_signal_observability.audit.finding import Verdict
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.verification import verify

from ..conftest import DURATION
from ..conftest import Observed
from .faults import ERRNOS
from .faults import Timeout
from .site import Answer
from .site import answer
from .site import SHAPES
from .site import site

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

CALLS: dict[str, Any] = {
    **dict.fromkeys(("open", "write", "fstat", "lstat", "rename", "link", "unlink", "fsync", "fdatasync", "pread"), os),
    **dict.fromkeys(("pwrite", "posix_fallocate", "listdir", "scandir", "replace", "ftruncate", "utime"), os),
    "flock": fcntl,
}
"""What is asked of the system, and by which module; a file does not need every one of them."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file of ours: the settings that make it, and under which sink its faults are counted."""

    sink: str
    settings: dict[str, Any]

    def settled(self, directory: Path) -> dict[str, Any]:
        return {
            key: str(directory / value) if key in ("log_stream", "metrics_shared") else value
            for key, value in self.settings.items()
        }


AUDIT = {"audit_format": "json", "audit_rotate_bytes": 4096, "audit_interval_seconds": 0.01}
KEY = "a key of the tests' own, 32 bytes"
FILES = {
    "audit file and journal": File("audit", {}),
    "rotated audit file": File("audit", AUDIT),
    "chained audit file and heads": File(
        "audit", {**AUDIT, "audit_chain": True, "audit_key": KEY, "audit_durability": "each"}
    ),
    "log file": File("logs", {"log_stream": "app.json", "audit": False}),
    "shared metrics": File("metrics", {"metrics_shared": "group", "audit": False}),
}
AUDIT_FILE = re.compile(r"abused-audit\.log(\.[\dTZ.-]+)?(\.gz)?")
ALWAYS = ("open", "write")
"""Without these no record gets into a file."""
FEW = ("json", "broken")
"""Each of them writes to every file."""


@pytest.fixture(scope="module")
def bare() -> dict[str, Answer]:
    app = site().app
    return {shape: answer(app, shape) for shape in SHAPES}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> File:
    return FILES[request.param]


@pytest.fixture
def served(file: File, tmp_path: Path) -> Iterator[Observed]:
    made = site()
    made.audited = lambda sender, payload: access_logged.send(sender, **payload)
    observed = Observed(tmp_path, made.app, strict=False, **file.settled(tmp_path))
    yield observed
    observed.provider.shutdown()
    for sink in observed.pipeline.sinks:
        getattr(sink, "close", int)()


@contextlib.contextmanager
def failing(call: str, error: BaseException) -> Iterator[None]:
    real, here = getattr(CALLS[call], call), threading.current_thread()

    def fail(*arguments: Any, **keywords: Any) -> Any:
        if threading.current_thread() is here:
            raise error
        return real(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CALLS[call], call, fail)
        yield


def counted(observed: Observed) -> dict[str, float]:
    return {sample.labels["sink"]: sample.value for sample in observed.samples("observability_errors_total")}


def progress(served: Observed, file: File, directory: Path) -> float:
    """Return what goes up with each request that gets into the file."""
    if file.sink == "audit":
        return served.value("flask_audit_records_total", outcome="written")
    if file.sink == "logs":
        return (directory / "app.json").stat().st_size
    return served.value(f"{DURATION}_count")


def answers(observed: Observed, shapes: Iterable[str]) -> dict[str, Answer]:
    return {shape: answer(observed.app, shape) for shape in shapes}


@pytest.mark.parametrize("call", CALLS)
def test_what_the_system_refuses_changes_no_answer_and_is_counted(
    served: Observed, file: File, call: str, bare: dict[str, Answer], tmp_path: Path
) -> None:
    for name in ERRNOS if call in ALWAYS else ERRNOS[:2]:
        shapes = FEW if name != ERRNOS[0] else SHAPES
        number = getattr(errno, name)
        with failing(call, OSError(number, os.strerror(number))):
            given = answers(served, shapes)
        assert given == {shape: bare[shape] for shape in shapes}, name
        # It is there again: nothing more goes wrong, and the file goes on.
        assert answers(served, FEW) == {shape: bare[shape] for shape in FEW}
        before, told = counted(served), progress(served, file, tmp_path)
        assert answers(served, FEW) == {shape: bare[shape] for shape in FEW}
        assert counted(served) == before, name
        assert progress(served, file, tmp_path) > told, name
    assert set(counted(served)) <= {file.sink}
    if call in ALWAYS and file.sink != "metrics":
        assert counted(served)
    assert served.value("http_server_active_requests") == 0


def test_an_error_that_passes_leaves_a_file_that_goes_on(
    served: Observed, file: File, bare: dict[str, Answer], tmp_path: Path
) -> None:
    for call in ("open", "write", "fsync", "fdatasync", "flock"):
        with failing(call, Timeout()):
            for shape, given in answers(served, SHAPES).items():
                assert given == bare[shape] or given[-1] in (Timeout, bare[shape][-1]), (call, shape)
        assert answers(served, FEW) == {shape: bare[shape] for shape in FEW}
        told = progress(served, file, tmp_path)
        assert answers(served, FEW) == {shape: bare[shape] for shape in FEW}
        assert progress(served, file, tmp_path) > told, call
    assert counted(served) == {}
    assert served.value("http_server_active_requests") == 0


def test_a_chain_is_intact_after_all_that_the_system_refused(tmp_path: Path, bare: dict[str, Answer]) -> None:
    settings = FILES["chained audit file and heads"].settled(tmp_path)
    observed = Observed(tmp_path, site().app, strict=False, **settings)
    for call, name in itertools.product(CALLS, ERRNOS[:3]):
        with failing(call, OSError(getattr(errno, name), name)):
            answers(observed, FEW)
        answers(observed, FEW)
    observed.provider.shutdown()
    for sink in observed.pipeline.sinks:
        getattr(sink, "close", int)()
    files = [path for path in tmp_path.iterdir() if AUDIT_FILE.fullmatch(path.name)]
    assert len(files) > 1
    report = verify(files, [AuditKey(KEY.encode())])
    assert report.verdict is Verdict.INTACT, report.findings
