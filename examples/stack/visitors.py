"""Visitors of the shop, until ended: about a hundred requests, one of them into the shop's bug, and a pause.

python visitors.py PORT    # of a shop on this machine
"""

from __future__ import annotations

import random
import sys
import time

import traffic

__all__ = ["main"]

REQUESTS = 100
PAUSE_SECONDS = 5


def main(port: int) -> None:
    """Visit the shop again and again; a shop that is down is tried again after the pause."""
    chance = random.Random()
    while True:
        try:
            traffic.drive(port, [*traffic.plan(REQUESTS, chance), traffic.failing_visit()], lambda: None)
        except OSError as error:
            print(f"the shop does not answer: {error}", file=sys.stderr)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(int(sys.argv[1]))
