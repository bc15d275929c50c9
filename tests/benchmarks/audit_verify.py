"""Print how many lines a second ``flask observability audit verify`` looks at, with its progress bar on a terminal.

usage: python tests/benchmarks/audit_verify.py [--lines N] [--rounds N] [--directory DIR]

Four writers seal the lines with a key, text and JSON; then the command runs as an operator runs it, and its start is in
the seconds.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.chained_file import ChainedFile  # noqa: E402

WRITERS = 4
SECRET = "a key of the tests' own, 32 bytes"
COMMAND = [sys.executable, "-c", "from flask_signal_observability.cli import cli; cli()", "audit", "verify"]


def sealed_file(path: Path, lines: int, *, as_json: bool) -> None:
    writers = [ChainedFile(path, as_json=as_json) for _ in range(WRITERS)]
    for number in range(lines - 2 * WRITERS):
        writers[number % WRITERS].write()
    for writer in writers:
        writer.close()


def verified(path: Path) -> tuple[str, float, float, int]:
    """Run the command on a terminal; return what it says, seconds of wall and of CPU, and the bytes of the bar."""
    shown = bytearray()
    leader, follower = pty.openpty()

    def watch() -> None:
        while data := os.read(leader, 65_536):
            shown.extend(data)
            if b"\0" in data:
                return

    watching = threading.Thread(target=watch)
    watching.start()
    before, began = cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        [*COMMAND, str(path)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "OBSERVABILITY_AUDIT_KEY": SECRET},
    )
    wall_seconds, taken_seconds = time.perf_counter() - began, cpu_seconds() - before
    os.write(follower, b"\0")
    watching.join()
    os.close(leader)
    os.close(follower)
    if done.returncode or b"Verifying" not in shown:
        sys.exit(f"{done.stdout}{shown.decode()}: exit code {done.returncode}")
    return done.stdout, wall_seconds, taken_seconds, len(shown)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None, help="whose file system is read from")
    options = parser.parse_args()
    print("| format | lines | MB | seconds | lines a second | of CPU time | bar, bytes |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for form in ("text", "json"):
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            path = Path(directory) / "audit.log"
            sealed_file(path, options.lines, as_json=form == "json")
            mb = path.stat().st_size / 1e6
            for _ in range(options.rounds):
                said, wall, cpu, bar = verified(path)
                lines = int(said.split(" of ")[1].split()[0])
                told = f"{lines:,} | {mb:.0f} | {wall:.2f} | {lines / wall:,.0f} | {lines / cpu:,.0f} | {bar:,}"
                print(f"| {form} | {told} |", flush=True)


if __name__ == "__main__":
    main()
