"""What the demo starts beside itself, and ends again whatever happens."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping

__all__ = ["NotReadyError", "await_until", "free_port", "get", "listens", "running", "shop"]

HERE = Path(__file__).parent
WORKERS = 2
START_SECONDS = 15
STOP_SECONDS = 5
CONNECT_SECONDS = 3
POLL_SECONDS = 0.05


class NotReadyError(RuntimeError):
    """A program ended, or did not answer in time; the message holds what it wrote."""


def free_port(preferred: int = 0) -> int:
    """Return a loopback port that nobody listened on a moment ago: ``preferred`` where it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            if not preferred:
                raise
            return free_port()
        port: int = probe.getsockname()[1]
    return port


def listens(url: str) -> bool:
    """Tell whether anybody takes connections at ``url``, which for gRPC may be a bare ``host:port``."""
    address = urlsplit(url if "//" in url else f"//{url}")
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def get(url: str, *, accept: str = "*/*") -> str:
    """Return the body of ``url``; OSError where nobody answers or the answer is an error."""
    with urlopen(Request(url, headers={"Accept": accept}), timeout=5) as response:
        body: bytes = response.read()
    return body.decode()


def await_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Ask again and again until ``condition`` holds; False where the time is over first."""
    deadline = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return held


@contextmanager
def shop(port: int, directory: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve the shop in ``directory``, where its database, logs and audit file appear; yields its address."""
    command = [sys.executable, "-m", "gunicorn", "--config=python:flask_signal_observability.gunicorn"]
    command += [f"--workers={WORKERS}", "--worker-class=gthread", "--threads=4", f"--bind=127.0.0.1:{port}"]
    command += [f"--pythonpath={HERE}", "--log-level=warning", "shop:create_app()"]
    url = f"http://127.0.0.1:{port}"
    with running(command, directory, f"{url}/healthz", environment):
        yield url


@contextmanager
def running(command: list[str], directory: Path, ready: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run ``command`` until the block is left; NotReadyError with its output where it never gets ready."""
    output = directory / f"{Path(command[0]).name}-{len(list(directory.glob('*.out')))}.out"
    with output.open("wb") as out:
        # A session of its own: Ctrl-C reaches the demo alone, which then ends its children in order.
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        await_until(lambda: process.poll() is not None or answers(ready), seconds=START_SECONDS)
        if process.poll() is not None or not answers(ready):
            raise NotReadyError(f"{' '.join(command)} did not get ready:\n{output.read_text()}")
        yield
    finally:
        end(process)


def answers(url: str) -> bool:
    try:
        get(url)
    except (URLError, OSError):
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
