"""Send hostile requests, payloads and senders to one observed app for a while, and look at every output after each.

    python -m tests.stress.hostile --seconds 600

Where atheris is installed (``pip install atheris``: CPython 3.11 has a wheel) ``--atheris`` lets it choose the bytes
that Hypothesis draws from, by the branches of the package that they reach. Prints how many requests were sent; ends
with 1 and the smallest example, with ``--atheris`` the last one, where something was raised or an output was not valid.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abuse.hostile import Target

EXAMPLES = 200
"""Between two looks at the clock."""
INPUT_BYTES = 8192
"""Enough for most examples: Hypothesis throws away what ends too early."""


class Run:
    """One observed app, and how many requests it was sent."""

    def __init__(self, directory: Path) -> None:
        from ..abuse import hostile

        self.target: Target = hostile.target(directory)
        self.sent = 0

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(hostile.ENVIRONS, hostile.PAYLOADS, hostile.VALUES)
        def send(environ: dict[str, str], payload: dict[str, Any], sender: Any) -> None:
            self.sent += 1
            self.target.try_request(environ, payload, sender if sender.__hash__ is not None else "till")

        self.send: Any = send

    def tell(self) -> None:
        self.target.check_exposition()
        print(f"{self.sent} requests; every answer as by the bare app, every output valid", flush=True)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    (run_atheris if arguments.atheris else run_hypothesis)(arguments.seconds)


def run_hypothesis(seconds: float) -> None:
    """Let Hypothesis choose."""
    with tempfile.TemporaryDirectory() as directory:
        run = Run(Path(directory))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run.send()
        run.tell()


def run_atheris(seconds: float) -> None:
    """Let atheris choose; it ends the process itself, when the time is over or something was found."""
    import atheris

    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    with atheris.instrument_imports(include=["flask_signal_observability"]):
        run = Run(directory)
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={int(seconds)}", f"-max_len={INPUT_BYTES}", "-len_control=0"],
        held(run, time.monotonic() + seconds),
    )
    atheris.Fuzz()


def held(run: Run, end_seconds: float) -> Callable[[bytes], None]:
    """Return what atheris calls with each input; before it ends the process the outputs are looked at."""
    is_told = False

    def test_one_input(data: bytes) -> None:
        nonlocal is_told
        run.send.hypothesis.fuzz_one_input(data)
        if not is_told and time.monotonic() > end_seconds:
            is_told = True
            run.tell()

    return test_one_input


if __name__ == "__main__":
    main()
