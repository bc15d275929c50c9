"""Print whether a chained audit file shows every flipped bit, and no killed writer passes for a forger.

usage: python tests/stress/audit_chain.py [--seconds N] [--seed N]

First every bit of a file of two writers is flipped, one at a time, text and JSON, in an order drawn anew until the time
is over; each flip has to come out as tampering. Then processes append to one file, are killed with SIGKILL at random
and take each other's place, while the file is renamed under them; what is left may be torn and have open ends, no more.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from flask_signal_observability.audit.finding import Kind  # noqa: E402
from flask_signal_observability.audit.finding import Verdict  # noqa: E402
from flask_signal_observability.audit.verification import verify  # noqa: E402
from tests.chained_file import ChainedFile  # noqa: E402
from tests.chained_file import KEY  # noqa: E402

WRITERS = 4


def sealed_file(path: Path, *, as_json: bool) -> bytes:
    one, other = (ChainedFile(path, as_json=as_json) for _ in range(2))
    for _ in range(3):
        one.write(2)
        other.write(2)
    one.close()
    other.close()
    return path.read_bytes()


def flips(directory: Path, seconds: float, draw: random.Random, *, as_json: bool) -> bool:
    path = directory / "audit.log"
    data = sealed_file(path, as_json=as_json)
    bits = list(range(len(data) * 8))
    draw.shuffle(bits)
    kinds: Counter[str] = Counter()
    missed = []
    ends = time.monotonic() + seconds
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        report = verify([path], [KEY])
        kinds[report.findings[0].kind.value if report.findings else "nothing"] += 1
        if report.verdict is not Verdict.TAMPERED:
            missed.append(bit)
        if time.monotonic() > ends:
            break
    tried = sum(kinds.values())
    form = "json" if as_json else "text"
    print(f"{form}: {tried} of {len(bits)} bits flipped, {tried - len(missed)} detected", end=" ")
    print(f"({', '.join(f'{kind} {count}' for kind, count in kinds.most_common())})")
    if missed:
        print(f"  missed: {missed[:20]}")
    return not missed


def append(path: Path, draw: random.Random) -> None:
    writer = ChainedFile(path)
    while True:
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(writer.descriptor)):
            writer.close()
            writer.open()
        writer.write(draw.randrange(1, 40))


def started(path: Path, seed: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            append(path, random.Random(seed))
        finally:
            os._exit(1)
    return child


def kills(directory: Path, seconds: float, draw: random.Random) -> bool:
    path = directory / "audit.log"
    children = [started(path, number) for number in range(WRITERS)]
    killed = rotations = 0
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            time.sleep(draw.uniform(0.005, 0.05))
            child = children.pop(0)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            children.append(started(path, killed))
            if killed % 20 == 0 and path.exists():
                rotations += 1
                path.rename(directory / f"audit.log.{rotations}")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    began = time.process_time()
    report = verify(list(directory.iterdir()), [KEY])
    per_second = report.lines / (time.process_time() - began)
    print(
        f"kills: {killed} writers killed, {rotations} renames, {report.lines} lines of {report.writers} writers: "
        f"{report.verdict.name.lower()}, {per_second:,.0f} lines verified a second of CPU time"
    )
    expected = (Kind.TORN, Kind.OPEN_END)
    unexpected = [finding for finding in report.findings if finding.kind not in expected]
    for finding in unexpected[:20]:
        print(f"  {finding}")
        lines = Path(finding.file).read_bytes().split(b"\n")
        print(*(f"    {line!r}" for line in lines[max(finding.line - 2, 0) : finding.line + 1]), sep="\n")
    return not unexpected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    draw = random.Random(options.seed)
    print(f"seed {options.seed}")
    good = []
    for part in (
        lambda directory, seconds: flips(directory, seconds, draw, as_json=False),
        lambda directory, seconds: flips(directory, seconds, draw, as_json=True),
        lambda directory, seconds: kills(directory, seconds, draw),
    ):
        with tempfile.TemporaryDirectory() as directory:
            good.append(part(Path(directory), options.seconds / 3))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
