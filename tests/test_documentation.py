"""Every block of code in the documents runs, or says here why not; links, anchors and pictures are there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

import flask_signal_observability

from .bounded import bounded
from .documentation import Block
from .documentation import blocks
from .documentation import commands
from .documentation import DOCUMENTS
from .documentation import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

KEY = "/run/secrets/audit_key"
PROGRAM_BEFORE = """
from flask import Flask
from flask_signal_observability import Observability
app = Flask("shop")
"""

VISITS = """
app.logger.disabled = True
for number in (7, 13):
    app.test_client().get(f"/orders/{number}")
"""

RUN_HERE = ("flask observability dashboards export", "flask observability audit", "jq ")
FOLLOWS = "flask observability audit tail"
RUN_ELSEWHERE = {
    'pip install -e ".[demo]" && python examples/shop/demo.py': "runs in tests/test_examples_shop.py",
    'pip install -e ".[test]" && python -m pytest': "is this run; .ci/run starts it in an empty environment",
    "python examples/shop/demo.py --stack": "fetches from npm; tests/test_examples_shop.py runs it without a network",
    "gunicorn -w 4 -c python:flask_signal_observability.gunicorn app:app": "runs in tests/test_gunicorn.py",
    "OBSERVABILITY_WATCH=": "runs below, in an app",
    "flask observability top": "runs in tests/test_readme.py, with a server",
    "flask observability tail": "runs in tests/test_readme.py, on a log",
    "flask --app shop observability": "runs in tests/test_readme.py, with an app",
    "docker compose ": "needs Docker; tests/test_stack.py checks what it reads",
    "kubectl ": "needs a cluster; tests/test_stack.py checks the manifests",
    "for rules in recording alerts": "needs a cluster",
    "GRAFANA_TOKEN=… flask observability dashboards push": "needs Grafana; tests/test_cli_dashboards.py has a stand-in",
}
"""Commands by how they begin, and why they are not run by this module."""
PROGRAMS_ELSEWHERE = {
    "from flask import Flask, flash": "runs in tests/test_readme.py, which compares what it leaves",
    "import logging": "runs in tests/test_readme.py, which compares what it leaves",
    "import pytest": "is a test; tests/test_testing.py runs it",
    "from blinker import Namespace": "runs in tests/test_readme.py, which compares what it leaves",
}
"""Python blocks by their first line, and why they are not run by this module."""
NEITHER_RUN_NOR_READ = {
    "text": "output",
    "": "output",
    "yaml": "of Prometheus",
    "promql": "with names to fill in",
    "console": "compared by tests/test_cli_check.py",
}


def environment(directory: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OBSERVABILITY_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
    return {**inherited, "PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}", **more}


def test_every_block_is_in_a_language_that_is_known_here() -> None:
    assert {block.language for block in blocks()} <= {"python", "sh", *NEITHER_RUN_NOR_READ}


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("python") if block.first_line not in PROGRAMS_ELSEWHERE],
    ids=lambda block: block.first_line,
)
def test_every_program_runs(block: Block, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM_BEFORE + block.text]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_run_or_says_why_not() -> None:
    known = (*RUN_HERE, *RUN_ELSEWHERE)
    assert [command for command in commands() if not command.startswith(known)] == []


def test_no_reason_is_left_over() -> None:
    assert {block.first_line for block in blocks("python")} >= set(PROGRAMS_ELSEWHERE)
    begins = {begin for begin in RUN_ELSEWHERE if any(command.startswith(begin) for command in commands())}
    assert begins == set(RUN_ELSEWHERE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the README's first program as app.py, and the sealed audit file that it left."""
    directory = tmp_path_factory.mktemp("documented")
    program = next(block.text for block in blocks("python") if block.first_line.startswith("from flask import Flask"))
    (directory / "app.py").write_text(program)
    key = directory / "key"
    key.write_text("for the documentation only")
    key.chmod(0o600)
    sealed = environment(directory, OBSERVABILITY_AUDIT_CHAIN="true", OBSERVABILITY_AUDIT_KEY_FILE=str(key))
    visited = [sys.executable, "-c", program + VISITS]
    records = subprocess.run(visited, check=True, cwd=directory, env=sealed, timeout=60, stdout=subprocess.PIPE)
    (directory / "app.jsonl").write_bytes(records.stdout)
    return directory


@pytest.mark.parametrize(
    "command", [each for each in commands() if each.startswith(RUN_HERE) and not each.startswith(FOLLOWS)], ids=str
)
def test_every_command_that_ends_succeeds(command: str, place: Path) -> None:
    if shutil.which(command.split(maxsplit=1)[0], path=environment(place)["PATH"]) is None:
        pytest.skip(f"there is no {command.split(maxsplit=1)[0]} on the PATH")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(KEY, "key")],
        check=False,
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def failed(observe: Callable[..., Observed], tmp_path: Path) -> Path:
    """A directory with the audit file of a request that failed, in JSON, where a record has a status."""
    observed = observe(audit_path=tmp_path / "access_audit.log", audit_format="json", user=lambda: "alice")
    observed.app.add_url_rule("/admin/users", view_func=lambda: ("", 503))
    observed.client().get("/admin/users")
    return tmp_path


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("command", [each for each in commands() if each.startswith(FOLLOWS)], ids=str)
def test_a_command_that_follows_goes_on_until_ctrl_c(command: str, failed: Path) -> None:
    shell = ["bash", "-c", f"exec {command}"]
    process = subprocess.Popen(
        shell, cwd=failed, env=environment(failed), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with bounded(process):
        assert process.stdout
        shown = process.stdout.readline()
        is_there = process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert "/admin/users" in shown
    assert is_there
    assert "Usage" not in errors
    assert "Traceback" not in errors


def test_the_watch_in_the_environment_is_taken_up(tmp_path: Path) -> None:
    (assignment,) = [command for command in commands() if command.startswith("OBSERVABILITY_WATCH=")]
    room = tmp_path / "shop"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "signals.py").write_text("from blinker import Namespace\norder_paid = Namespace().signal('order-paid')\n")
    program = f"{PROGRAM_BEFORE}from shop.signals import order_paid\nObservability(app)\nassert order_paid.receivers\n"
    (tmp_path / "program.py").write_text(program)
    shell = ["bash", "-euc", f"{assignment} python program.py"]
    done = subprocess.run(
        shell, check=False, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def prose(document: Path) -> str:
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", document.read_text("utf-8"))


def anchors(document: Path) -> set[str]:
    headings = re.findall(
        r"^##* (.*)$", re.sub(r"(?ms)^ *```.*?^ *```$", "", document.read_text("utf-8")), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_or_a_heading_that_exists(name: str) -> None:
    document = ROOT / name
    targets = [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(document))
        if not target.startswith(("http", "mailto:"))
    ]
    for target in targets:
        path, _, anchor = unquote(target).partition("#")
        aim = document.parent / path if path else document
        assert aim.exists(), target
        assert not anchor or anchor in anchors(aim), target


def test_every_second_level_heading_is_in_the_contents() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    listed = set(re.findall(r"\(#([\w-]+)\)", readme.partition("**Contents.**")[2].partition("```")[0]))
    headings = re.findall(r"^## (.*)$", readme, re.MULTILINE)
    assert {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} <= listed


def test_pictures_are_small_and_stand_below_the_command_that_draws_them() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = re.findall(r"<!-- drawn by.*?(\S*pictures/[\w.]+).*?-->\n!\[[^]]+\]\((.*?)\)", readme, re.DOTALL)
    pictures = {str(path.relative_to(ROOT)) for path in (ROOT / "examples" / "pictures").iterdir()}
    assert {there for _, there in shown} == pictures
    for command, there in shown:
        assert there in command
        assert (ROOT / there).stat().st_size < 200_000


@pytest.mark.parametrize("name", sorted(flask_signal_observability.__all__))
def test_every_public_name_is_in_the_readme(name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / "README.md").read_text("utf-8"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are for bash")
def test_every_shell_block_can_be_parsed() -> None:
    for block in blocks("sh"):
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, timeout=60)
