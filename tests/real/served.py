"""The app of these tests under a real gunicorn, and what it leaves behind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

from .client import answers
from .client import send
from .programs import free_port
from .programs import running
from .programs import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from .client import Answer
    from .programs import Program

__all__ = ["HERE", "Served", "environment_of", "serving"]

HERE = Path(__file__).parent


class Served:
    """A served app: its port, and the files of its sinks."""

    def __init__(self, port: int, directory: Path, program: Program) -> None:
        self.port = port
        self.directory = directory
        self._program = program

    def send(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        return send(self.port, path, method=method, headers=headers)

    def stop(self) -> None:
        """End the server as a deployment does, with SIGTERM; what was not exported yet must be now."""
        self._program.stop()

    @property
    def output(self) -> str:
        return self._program.output

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON records, in order."""
        return [json.loads(line) for line in self._lines("app.json")]

    @property
    def audit_lines(self) -> list[str]:
        return self._lines("access_audit.log")

    @property
    def journal_lines(self) -> list[str]:
        return self._lines("error_journal.log")

    def _lines(self, name: str) -> list[str]:
        file = self.directory / name
        return file.read_text("utf-8").split("\n")[:-1] if file.exists() else []


@contextlib.contextmanager
def serving(
    app: str = "app:create_app()",
    *,
    directory: Path,
    env: Mapping[str, str] | None = None,
    workers: int = 1,
    threads: int = 4,
    options: Sequence[str] = (),
) -> Iterator[Served]:
    """Serve ``app``, a gunicorn app specification in this folder, on a free loopback port.

    ``options`` are more of gunicorn's; they win over those that are set here.
    """
    if importlib.util.find_spec("gunicorn") is None:
        unavailable("gunicorn is not installed")
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--pythonpath", str(HERE)),
        *("--worker-class", "gthread", "--workers", str(workers), "--threads", str(threads)),
        *("--graceful-timeout", "10", *options, app),
    ]
    environment = environment_of(directory) | dict(env or {})
    with running(
        command, name="gunicorn", directory=directory, ready=lambda: answers(port, "/metrics"), env=environment
    ) as program:
        yield Served(port, directory, program)


def environment_of(directory: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OBSERVABILITY_", "OTEL_"))}
    return inherited | {
        "OBSERVABILITY_AUDIT_PATH": str(directory / "access_audit.log"),
        "OBSERVABILITY_ERROR_JOURNAL_PATH": str(directory / "error_journal.log"),
        "OBSERVABILITY_LOG_STREAM": str(directory / "app.json"),
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(HERE.parents[1]),
        "XDG_RUNTIME_DIR": str(directory),  # gunicorn 25.1 and later keep a control socket there, else in the home
    }
