"""``python -m flask_signal_observability.metrics_port MASTER``: answers at the port that the workers of MASTER tell.

What they tell comes as datagrams on standard input. It ends with the master, or as soon as a worker has no port.
"""

from __future__ import annotations

import os
import select
import sys

POLL_SECONDS = 1.0
MAX_MESSAGE_BYTES = 1 << 20
NO_OFFERS = b"[]"


def main(master: int) -> None:
    """Serve until the master is gone."""
    ports = None
    while os.getppid() == master:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], POLL_SECONDS)
        message = os.read(sys.stdin.fileno(), MAX_MESSAGE_BYTES) if readable else None
        if message == NO_OFFERS:
            return
        if message is not None and ports is None:
            from .ports import Ports  # noqa: PLC0415 - most masters have no port, and need not wait for all of this

            ports = Ports()
        if ports is not None:
            ports.serve(message)


if __name__ == "__main__":
    main(int(sys.argv[1]))
