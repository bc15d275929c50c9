"""The seed's own programs on this package: each is executed in a directory of its own, and says what the seed's did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SEED = ROOT / "examples" / "seed"

TIME = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00\]"


def execute(*arguments: str, directory: Path) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OBSERVABILITY_", "OTEL_"))
    }
    environment["PYTHONPATH"] = os.pathsep.join((str(SEED), str(ROOT)))
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def visit(module: str, path: str, directory: Path) -> str:
    drive = f"""
from {module} import app
response = app.test_client().get({path!r})
print("answer", response.status_code, response.get_data(as_text=True))
"""
    return execute("-c", drive, directory=directory)


def test_dashboard_writes_the_seeds_audit_line(tmp_path: Path) -> None:
    said = visit("application", "/dashboard?user=alice", tmp_path)
    assert "answer 200" in said
    assert '"user":"alice"' in said
    line = (tmp_path / "access_audit.log").read_text()
    assert re.fullmatch(TIME + r" alice@127\.0\.0\.1 accessed /dashboard\n", line)


def test_dashboard_of_a_guest_is_audited_as_guest(tmp_path: Path) -> None:
    visit("application", "/dashboard", tmp_path)
    assert " guest@127.0.0.1 accessed /dashboard\n" in (tmp_path / "access_audit.log").read_text()


def test_compute_writes_the_seeds_error_journal_line_without_a_receiver(tmp_path: Path) -> None:
    assert "answer 500" in visit("exception_journal", "/compute", tmp_path)
    line = (tmp_path / "error_journal.log").read_text()
    assert re.fullmatch(
        TIME + r" Critical error in <Flask 'exception_journal'>: ZeroDivisionError: division by zero\n", line
    )


def test_user_action_is_told_from_a_program(tmp_path: Path) -> None:
    said = execute(str(SEED / "user_action.py"), directory=tmp_path)
    record = json.loads(said)
    assert (record["event"], record["user_id"], record["action"]) == ("user-action", "usr_123", "checkout")
    line = (tmp_path / "access_audit.log").read_text()
    assert re.fullmatch(TIME + r" usr_123 performed checkout from payment_gateway\n", line)


def test_user_action_is_told_in_a_request(tmp_path: Path) -> None:
    said = visit("user_action", "/checkout", tmp_path)
    assert "answer 200" in said
    (told,) = [json.loads(line) for line in said.splitlines() if '"event":"user-action"' in line]
    assert told["trace_id"]


def test_the_audit_signal_lives_on_the_packages_bus(tmp_path: Path) -> None:
    said = execute(
        "-c",
        "from audit_events import access_logged, event_bus; print(event_bus.signal('access-event') is access_logged)",
        directory=tmp_path,
    )
    assert said == "True\n"
