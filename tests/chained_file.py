"""A small writer that follows the audit writer's way with a seal: lock, seal, one write."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING

from flask_signal_observability.audit.chain import Chain
from flask_signal_observability.audit.key import AuditKey

if TYPE_CHECKING:
    from pathlib import Path

KEY = AuditKey(b"a key of the tests' own, 32 bytes")
OTHER_KEY = AuditKey(b"another key, of somebody else ...")


def record(number: int, *, as_json: bool = False) -> bytes:
    time = f"2026-11-22T10:{number // 60 % 60:02d}:{number % 60:02d}.000000+00:00"
    if as_json:
        return json.dumps({"time": time, "user.id": "alice", "url.path": f"/orders/{number}"}).encode()
    return f"[{time}] alice@203.0.113.7 accessed /orders/{number}".encode()


class ChainedFile:
    """One process's writer."""

    def __init__(self, path: Path, key: AuditKey = KEY, *, as_json: bool = False) -> None:
        self.path = path
        self.chain = Chain(key)
        self.as_json = as_json
        self.number = 0
        self.torn = False
        self._lock = threading.Lock()
        self.open()

    def open(self) -> None:
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self.torn = self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")
        self.chain.opened(self.path, self.descriptor)

    def write(self, count: int = 1, *, cut_at: int | None = None) -> None:
        for _ in range(count):
            with self._lock:
                self._put(record(self.number, as_json=self.as_json), cut_at)
                self.number += 1

    def close(self) -> None:
        last = self.chain.closing()
        if last is not None:
            self._put(last)
        os.close(self.descriptor)

    def abandon(self) -> None:
        """End as a process does that is killed when it was idle for a second."""
        self.chain.settle()
        self.kill()

    def kill(self) -> None:
        """End as a process does that is killed right behind its last record."""
        os.close(self.descriptor)

    def rotate(self, name: str) -> None:
        self.path.rename(self.path.with_name(name))
        self.close()
        self.open()

    def _put(self, line: bytes, cut_at: int | None = None) -> None:
        before = self.chain.state
        sealed = self.chain.seal(line)
        self._append((sealed + b"\n")[:cut_at])
        if cut_at is not None:
            self.chain.state = before
            self.chain.torn(sealed, self.path.stat().st_size - len(sealed))
            self.torn = True
        elif time.monotonic() >= self.chain.due_seconds:
            self.chain.written(time.monotonic())

    def _append(self, data: bytes) -> None:
        os.write(self.descriptor, b"\n" + data if self.torn else data)
        self.torn = False
