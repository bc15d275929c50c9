"""Print what an audit line costs with and without a chain, beside a bare ``os.write`` of its bytes.

usage: python tests/benchmarks/audit_chain.py [--rounds N] [--lines N] [--directory DIR]

Every way takes a turn in each round; the medians of the rounds are printed, and the median of their ratios to the
``os.write`` of the sealed line in the same round. Then the digests alone, and how many lines a second are verified.
"""

from __future__ import annotations

import argparse
import binascii
import hashlib
import hmac
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flask_signal_observability.audit.chain import Chain
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.line import format_access
from flask_signal_observability.audit.line import format_line
from flask_signal_observability.audit.verification import verify
from flask_signal_observability.audit.writer import AuditWriter

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(32))
FIELDS = {"user": "alice", "address": "203.0.113.7", "path": "/dashboard"}


def line() -> bytes:
    return format_access(time.time_ns(), **FIELDS)


def sealing(path: Path, key: AuditKey) -> AuditWriter:
    """A writer with a chain, as the sink makes it."""
    return AuditWriter(path, gap_line=format_line, shortened=lambda line, _: line, seal=Chain(key))


def padded_hmac(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA-256 with the two blocks of the key hashed once."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    assert digest(b"x") == hmac.digest(key, b"x", "sha256")
    return digest


def timed(way: Callable[[], object], count: int) -> float:
    """CPU seconds of one call."""
    began = time.process_time_ns()
    for _ in range(count):
        way()
    return (time.process_time_ns() - began) / count / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--directory", type=Path, default=None, help="whose file system is written to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        report(Path(directory), options.rounds, options.lines)


def report(directory: Path, rounds: int, count: int) -> None:
    bare = os.open(directory / "bare.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    writers = [
        sealing(directory / f"{name}.log", key) for name, key in (("plain", AuditKey()), ("keyed", AuditKey(KEY)))
    ]
    plain, keyed = writers
    for writer in writers:
        writer.write(line())
    sealed = (directory / "keyed.log").read_bytes().splitlines(keepends=True)[-1]
    unsealed = line() + b"\n"
    message = sealed[:-41] + b"x" * 40
    in_hmac, state = padded_hmac(KEY), AuditKey(KEY).start

    def blake2b() -> bytes:
        copy = state.copy()
        copy.update(message)
        return copy.digest()

    ways: dict[str, Callable[[], object]] = {
        "os.write of the sealed line": lambda: os.write(bare, sealed),
        "os.write of the line without a seal": lambda: os.write(bare, unsealed),
        "audit line, no chain": lambda: os.write(bare, line() + b"\n"),
        "audit line, chain without a key": lambda: plain.write(line()),
        "audit line, chain with a key": lambda: keyed.write(line()),
        "digest: BLAKE2b, keyed, state copied": blake2b,
        "digest: BLAKE2b, one shot": lambda: hashlib.blake2b(message, key=KEY, digest_size=32).digest(),
        "digest: HMAC-SHA-256, states copied": lambda: in_hmac(message),
        "digest: hmac.digest": lambda: hmac.digest(KEY, message, "sha256"),
        "digest: SHA-256, no key": lambda: hashlib.sha256(message).digest(),
        "base64 of it": lambda: binascii.b2a_base64(KEY[:30], newline=False),
    }
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            samples[name].append(timed(way, count))
    floor = samples["os.write of the sealed line"]
    print(f"{len(sealed)} bytes, {rounds} rounds of {count} calls, CPU time\n")
    for name, values in samples.items():
        ratio = statistics.median(value / least for value, least in zip(values, floor, strict=True))
        print(f"{name:38} {statistics.median(values) * 1e6:7.2f} µs   {ratio:5.2f} of os.write")
    os.close(bare)
    for writer in writers:
        writer.close()
    began_ns, began_wall = time.process_time_ns(), time.perf_counter()
    result = verify([directory / "keyed.log"], [AuditKey(KEY)])
    cpu_seconds, wall_seconds = (time.process_time_ns() - began_ns) / 1e9, time.perf_counter() - began_wall
    assert result.verdict == 0, result
    print(
        f"\nverified {result.lines:,} lines: {result.lines / wall_seconds:,.0f} a second, "
        f"{result.lines / cpu_seconds:,.0f} a second of CPU time"
    )


if __name__ == "__main__":
    main()
