"""Records that are in no file, until a line of the file tells of them."""

from __future__ import annotations

import threading
import time

from .record import AuditGap
from .record import moment

__all__ = ["Losses"]


class Losses:
    """How many records were lost since the last one that was written, and when. Safe to use from several threads."""

    def __init__(self) -> None:
        self.records = 0
        self._since_ns = 0
        self._until_ns = 0
        self._lock = threading.RLock()

    def add(self, records: int) -> None:
        """Count records that are lost now."""
        now_ns = time.time_ns()
        with self._lock:
            self._since_ns = self._since_ns if self.records else now_ns
            self._until_ns = now_ns
            self.records += records

    def take(self) -> Losses | None:
        """Return what there is to tell, which is then nobody else's."""
        with self._lock:
            if not self.records:
                return None
            taken = Losses()
            taken.records, taken._since_ns, taken._until_ns = self.records, self._since_ns, self._until_ns
            self.records = 0
            return taken

    def put_back(self, losses: Losses) -> None:
        """Count what could not be told together with what was lost meanwhile."""
        with self._lock:
            self._until_ns = self._until_ns if self.records else losses._until_ns
            self._since_ns = losses._since_ns
            self.records += losses.records

    def told(self) -> AuditGap:
        """Return the record of it."""
        return AuditGap(moment(time.time_ns()), self.records, moment(self._since_ns), moment(self._until_ns))
