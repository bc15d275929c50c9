"""Print whether an audit file holds every record that was acknowledged, once, whatever happens to it meanwhile.

usage: python tests/stress/audit.py [--rounds N] [--format text|json] [--durability os|interval|group|each]
                                    [--rotate] [--chain] [--disk ROUNDS]

In each round four processes of eight threads append to one file, while it is renamed every few milliseconds (or, with
--rotate, rotated by themselves every 16 KiB), the processes get SIGHUP and reopen it, and each is killed with SIGKILL.
Then, in other rounds, they append to a disk that is full half of the time: what they were told is lost has to be what
the gaps in the file add up to. With --chain the records are sealed, and no round may look like tampering. A round
takes about 0.2 s.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gzip
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from flask_signal_observability import AuditGap  # noqa: E402
from flask_signal_observability import AuditLineError  # noqa: E402
from flask_signal_observability import parse_audit_line  # noqa: E402
from flask_signal_observability.audit import line as text_line  # noqa: E402
from flask_signal_observability.audit.chain import Chain  # noqa: E402
from flask_signal_observability.audit.durability import make_durability  # noqa: E402
from flask_signal_observability.audit.finding import Kind  # noqa: E402
from flask_signal_observability.audit.json_records import JsonRecords  # noqa: E402
from flask_signal_observability.audit.key import AuditKey  # noqa: E402
from flask_signal_observability.audit.mark import Note  # noqa: E402
from flask_signal_observability.audit.mark import split  # noqa: E402
from flask_signal_observability.audit.reading import after_tear  # noqa: E402
from flask_signal_observability.audit.rotation import Rotation  # noqa: E402
from flask_signal_observability.audit.verification import verify  # noqa: E402
from flask_signal_observability.audit.writer import AuditWriter  # noqa: E402
from flask_signal_observability.redaction import Redaction  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = AuditKey(b"a key of the tests' own, 32 bytes")
PROCESSES = 4
THREADS = 8
ROUND_SECONDS = 0.1
DISK_SECONDS = 0.6


@dataclasses.dataclass
class Outcome:
    """What came of all rounds."""

    rounds: int = 0
    acknowledged: int = 0
    missing: int = 0
    """Acknowledged, and in no file."""
    twice: int = 0
    lost: int = 0
    """Records that a process was told are not in the file."""
    told_lost: int = 0
    """What the gaps in the files add up to."""
    renamed: int = 0
    hung_up: int = 0
    killed: int = 0
    tears: int = 0
    """Lines that are no record: the end of one that was killed, or that a disk had no room for."""
    glued: int = 0
    """Records found behind such a tear."""
    unrecovered: int = 0
    """Rounds on a full disk that did not go on when there was room."""
    verified: int = 0
    """Lines that their chains prove."""
    tampered: int = 0
    """Findings in chains that are no torn record."""

    @property
    def right(self) -> bool:
        exact = self.lost == self.told_lost
        wrong = self.missing or self.twice or self.unrecovered or self.tampered
        return self.acknowledged > 0 and not wrong and exact


def make_writer(path: Path, options: argparse.Namespace) -> tuple[AuditWriter, Any]:
    """Return a writer as the sink makes it, and the function that makes a line of a number."""
    is_json = options.format == "json"
    records = JsonRecords(Redaction(()))
    rotation = None
    if options.rotate:
        rotation = Rotation(path, max_bytes=16 * 1024, seconds=None, keep=None, tell=fail)
    writer = AuditWriter(
        path,
        gap_line=records.gap if is_json else text_line.format_line,
        shortened=lambda line, _: line,
        seal=Chain(KEY) if options.chain else None,
        durability=make_durability(options.durability, 0.01, fail),
        rotation=rotation,
        check_interval_seconds=0.001,
    )

    def line(name: str) -> bytes:
        path = f"/{'x' * (hash(name) % 200)}"
        if is_json:
            return records.access(time.time_ns(), name, "203.0.113.7", path, None, None)
        return text_line.format_access(time.time_ns(), name, "203.0.113.7", path)

    return writer, line


def fail(error: OSError) -> None:
    """Say on standard error what went wrong in a thread."""
    os.write(2, f"{error!r}\n".encode())


def write_for_ever(path: Path, number: int, said: int, options: argparse.Namespace) -> None:
    """Append from eight threads; say ``+name`` for each record that was acknowledged, ``-`` for one that was not."""
    writer, line = make_writer(path, options)
    signal.signal(signal.SIGHUP, lambda *_: writer.close())

    def run(thread: int) -> None:
        step = 0
        while True:
            name = f"{number}.{thread}.{step}"
            try:
                writer.write(line(name))
                os.write(said, f"+{name}\n".encode())
            except OSError:
                os.write(said, b"-\n")
                time.sleep(0.001)
            step += 1

    for thread in range(THREADS):
        threading.Thread(target=run, args=(thread,), daemon=True).start()
    while True:
        signal.pause()


class Children:
    """The processes of a round, and what they have said."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self._selector = selectors.DefaultSelector()
        self._said: dict[int, bytearray] = {}
        self.pids = []
        for number in range(PROCESSES):
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    write_for_ever(path, number, writing, options)
                finally:
                    os._exit(1)
            os.close(writing)
            self.pids.append(pid)
            self._said[reading] = bytearray()
            self._selector.register(reading, selectors.EVENT_READ)

    def listen(self, seconds: float) -> None:
        """Read what they say for so long, or until nobody is left who does."""
        deadline = time.monotonic() + seconds
        while self._selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                data = os.read(key.fd, 2**16)
                self._said[key.fd] += data
                if not data:
                    self._selector.unregister(key.fd)
                    os.close(key.fd)

    @property
    def acknowledged(self) -> int:
        return sum(said.count(b"+") for said in self._said.values())

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def end(self) -> tuple[list[str], int]:
        """Return the names of the acknowledged records, and how many were lost."""
        self.listen(30)
        lines = [line for said in self._said.values() for line in said.decode().split("\n")[:-1]]
        return [line[1:] for line in lines if line.startswith("+")], lines.count("-")


def killing_round(directory: Path, options: argparse.Namespace, outcome: Outcome) -> None:
    path = directory / "audit.log"
    children = Children(path, options)
    alive = list(children.pids)
    end = time.monotonic() + ROUND_SECONDS * random.uniform(0.5, 1.5)
    while time.monotonic() < end:
        children.listen(random.uniform(0.001, 0.006))
        if not options.rotate:
            with contextlib.suppress(FileNotFoundError):
                path.rename(directory / f"audit.log.{outcome.renamed}")
                outcome.renamed += 1
        if random.random() < 0.5 and time.monotonic() > end - ROUND_SECONDS * 0.4:
            os.kill(random.choice(alive), signal.SIGHUP)
            outcome.hung_up += 1
    for pid in alive:
        children.listen(random.uniform(0, 0.005))
        children.kill(pid)
        outcome.killed += 1
    acknowledged, _ = children.end()
    compare(directory, acknowledged, outcome, chained=options.chain)


def disk_round(directory: Path, options: argparse.Namespace, outcome: Outcome) -> None:
    """Fill the disk and empty it, some times; then let everybody tell their gaps, and end them."""
    with small_disk(directory / "disk"):
        path = directory / "disk" / "audit.log"
        children = Children(path, options)
        ballast = directory / "disk" / "ballast"
        for _ in range(3):
            children.listen(DISK_SECONDS / 6)
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            children.listen(DISK_SECONDS / 6)
            ballast.unlink()
        before = children.acknowledged
        children.listen(0.1)
        outcome.unrecovered += children.acknowledged <= before
        for pid in children.pids:
            os.kill(pid, signal.SIGHUP)  # writes the gap, if there is one
        children.listen(0.1)
        for pid in children.pids:
            children.kill(pid)
        acknowledged, lost = children.end()
        outcome.lost += lost
        compare(directory / "disk", acknowledged, outcome, chained=options.chain)


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def compare(directory: Path, acknowledged: list[str], outcome: Outcome, *, chained: bool) -> None:
    """Count what is in the files against what was acknowledged."""
    found: Counter[str] = Counter()
    files = [
        path
        for path in directory.iterdir()
        if not path.name.endswith((".lock", ".part", "ballast"))
        and not path.with_name(f"{path.name}.gz").exists()  # a packed file whose original was about to be deleted
    ]
    if chained:
        report = verify(files, [KEY])
        outcome.verified += report.proved
        for finding in report.findings:
            if finding.kind not in (Kind.TORN, Kind.OPEN_END):  # of who was killed
                outcome.tampered += 1
                print(finding)
    for path in files:
        if path.suffix == ".heads":
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in filter(None, data.decode(errors="replace").split("\n")):
            record = read(line, outcome)
            if isinstance(record, AuditGap):
                outcome.told_lost += record.lost
            elif record is not None:
                found[record.user] += 1
    outcome.rounds += 1
    outcome.acknowledged += len(acknowledged)
    outcome.missing += len(set(acknowledged) - found.keys())
    outcome.twice += sum(1 for count in found.values() if count > 1)


def read(line: str, outcome: Outcome) -> Any:
    if Note.read(split(line.encode())[0]) is not None:
        return None
    try:
        return parse_audit_line(line)
    except AuditLineError:
        outcome.tears += 1
    whole = after_tear(line)
    if whole is None:
        return None
    outcome.glued += 1
    return parse_audit_line(whole)


def run(options: argparse.Namespace) -> tuple[Outcome, Outcome]:
    killed, full = Outcome(), Outcome()
    for count, outcome, one_round in ((options.rounds, killed, killing_round), (options.disk, full, disk_round)):
        for number in range(count):
            with tempfile.TemporaryDirectory() as directory:
                one_round(Path(directory), options, outcome)
            if sys.stderr.isatty():
                print(f"\r{one_round.__name__} {number + 1} of {count}", end="", file=sys.stderr, flush=True)
    return killed, full


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="rounds with SIGKILL (default: 200)")
    parser.add_argument("--disk", type=int, default=10, help="rounds on a full tmpfs, which needs root (default: 10)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--durability", choices=("os", "interval", "group", "each"), default="os")
    parser.add_argument("--rotate", action="store_true", help="built-in rotation instead of renames")
    parser.add_argument("--chain", action="store_true", help="a chain with a key for each process")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    killed, full = run(options)
    for title, outcome, wanted in (("killed", killed, options.rounds), ("disk full", full, options.disk)):
        if wanted:
            counts = dataclasses.asdict(outcome)
            told = json.dumps(counts) if options.json else " ".join(f"{key}={value}" for key, value in counts.items())
            print(f"{title}: {told} -> {'right' if outcome.right else 'WRONG'}")
    return 0 if all(o.right for o, n in ((killed, options.rounds), (full, options.disk)) if n) else 1


if __name__ == "__main__":
    sys.exit(main())
