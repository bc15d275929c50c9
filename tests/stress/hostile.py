"""Send hostile requests, payloads and senders to one observed app for a while, and look at every output after each.

    python -m tests.stress.hostile --seconds 600

Where atheris is installed (``pip install atheris``: CPython 3.11 has a wheel) ``--atheris`` lets it choose the bytes
that Hypothesis draws from. Prints how many requests were sent; ends with 1
and the smallest example where something was raised or an output was not valid.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings

from ..abuse.hostile import ENVIRONS
from ..abuse.hostile import PAYLOADS
from ..abuse.hostile import target
from ..abuse.hostile import VALUES

EXAMPLES = 200
"""Between two looks at the clock."""


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        tried = target(Path(directory))
        sent = 0

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(ENVIRONS, PAYLOADS, VALUES)
        def send(environ: dict[str, str], payload: dict[str, Any], sender: Any) -> None:
            nonlocal sent
            sent += 1
            tried.try_request(environ, payload, sender if sender.__hash__ is not None else "till")

        if arguments.atheris:
            run_atheris(send, arguments.seconds)
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            send()
        tried.check_exposition()
    print(f"{sent} requests; every answer as by the bare app, every output valid")


def run_atheris(send: Any, seconds: float) -> None:
    """Let atheris draw; it ends the process itself when the time is over."""
    import atheris

    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}"], send.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
