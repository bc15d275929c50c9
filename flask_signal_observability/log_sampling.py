"""Which requests are logged where not all are: decided as their traces are, so that a log and a trace go together."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .record import RequestRecord

__all__ = ["LogSampling"]

TRACE_BITS = 64
"""TraceIdRatioBased compares so many of a trace id's low bits, whatever the service; others that do agree with it.
https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased"""

CHECKSUM_BITS = 32


class LogSampling:
    """Keeps every request whose trace is sampled, and of the others a share by their trace id.

    Of two services on one trace the one with the lower rate keeps a subset of what the other one keeps. Without traces
    the request id decides, which services hand on, too. Safe to use from several threads.

    Args:
        rate: The share, 0 to 1.
        slow_request_seconds: From here on a finished request is kept in any case.
        follows_traces: Whether the traces of this process are exported: else their flag says nothing.
    """

    def __init__(self, rate: float, slow_request_seconds: float, *, follows_traces: bool) -> None:
        self._slow_ns = slow_request_seconds * 1e9
        self._follows_traces = follows_traces
        self._trace_bound = round(rate * (1 << TRACE_BITS))
        self._checksum_bound = round(rate * (1 << CHECKSUM_BITS))

    def keeps(self, record: RequestRecord) -> bool:
        """Tell whether the records of this request are written, of those that are no errors; finished or not."""
        if record.sampled and self._follows_traces:
            return True
        if record.duration_ns is not None and record.duration_ns >= self._slow_ns:
            return True
        if record.trace_id is not None:
            return int(record.trace_id[-16:], 16) < self._trace_bound
        return zlib.crc32((record.request_id or "").encode()) < self._checksum_bound
