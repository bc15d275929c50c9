"""Real gunicorns of several workers, with nothing set up: what a scrape says is what a client received."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import unavailable

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).parents[1] / "stress" / "workers.py"


@pytest.mark.parametrize(("worker_class", "preload"), [("gthread", "no"), ("sync", "yes"), ("gevent", "yes")])
def test_a_scrape_tells_of_all_workers_through_recycling_and_kills(worker_class: str, preload: str) -> None:
    for needed in ("gunicorn", *(["gevent"] if worker_class == "gevent" else [])):
        if importlib.util.find_spec(needed) is None:
            unavailable(f"{needed} is not installed")
    command = [sys.executable, str(SCRIPT), "--requests", "300", "--json"]
    done = subprocess.run(
        [*command, "--worker-class", worker_class, "--preload", preload],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    outcomes = json.loads(done.stdout)
    assert [outcome["phase"] for outcome in outcomes] == ["undisturbed", "recycled", "killed"]
    assert [outcome for outcome in outcomes if not outcome["right"]] == []
    assert outcomes[0]["differs"] == outcomes[1]["differs"] == 0
