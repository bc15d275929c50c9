"""Each mode of the benchmark still runs and its tables are sane. How long anything takes is nobody's promise here."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
PROGRAM = BENCHMARKS / "overhead.py"
PEERS = ("opentelemetry.instrumentation.flask", "prometheus_flask_exporter")
TIMEOUT_SECONDS = 300


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


needs_peers = pytest.mark.skipif(not all(map(installed, PEERS)), reason='the peers come with pip install -e ".[bench]"')


def needs_program(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} on the PATH; apt-get install {name}")


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        **options,
    )


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


def served(stack: str, lines: str, directory: Path) -> list[str]:
    """What the process of a stack answers, run in this directory."""
    command = [sys.executable, str(BENCHMARKS / "process.py"), stack]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd=directory, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


def line_counts(directory: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().splitlines()) for path in sorted(directory.iterdir())}


def test_cpu_time_is_told_for_every_view_with_quartiles_and_what_it_adds_to_bare_flask() -> None:
    rows = rows_of("--stacks", "ours,receivers", "--rounds", "3", "--requests", "3")
    views = ("json", "template", "404", "500", "streamed")
    stacks = ("bare", "receivers", "ours")
    assert [(row["view"], row["stack"]) for row in rows] == [(view, stack) for view in views for stack in stacks]
    bare = {row["view"]: row["median"] for row in rows if row["stack"] == "bare"}
    for row in rows:
        assert 0 < row["lower"] <= row["median"] <= row["upper"]
        assert row["over_bare"] == pytest.approx(row["median"] - bare[row["view"]])
        assert row["of_bare"] == pytest.approx(row["median"] / bare[row["view"]])
        assert row["of_peers"] is None


@needs_peers
def test_every_stack_runs_and_is_compared_with_the_peers_and_with_its_own_peer() -> None:
    rows = {row["stack"]: row for row in rows_of("--views", "json", "--rounds", "1", "--requests", "5")}
    assert len(rows) == 16
    assert rows["peers"]["of_peers"] == 1
    assert {stack for stack, row in rows.items() if row["of_peers"] is None} == {"bare"}
    own = rows["ours-audit"]
    assert own["peer"] == "seed-audit"
    assert own["of_its_peer"] == pytest.approx(own["over_bare"] / rows["seed-audit"]["over_bare"])


@pytest.mark.parametrize("stack", ["ours", pytest.param("peers", marks=needs_peers)])
def test_a_compared_stack_really_writes_a_record_and_an_audit_line_for_each_request(stack: str, tmp_path: Path) -> None:
    assert len(served(stack, "json 2\nstreamed 3\n404 4\n", tmp_path)) == 3
    assert line_counts(tmp_path) == {"access_audit.log": 9, "records.jsonl": 9}


def test_bare_flask_writes_nothing_but_the_error_that_flask_itself_logs(tmp_path: Path) -> None:
    served("bare", "json 2\n", tmp_path)
    assert line_counts(tmp_path) == {}
    served("bare", "500 1\n", tmp_path)
    assert list(line_counts(tmp_path)) == ["app.log"]


@needs_program("valgrind")
def test_instructions_are_counted() -> None:
    (row,) = rows_of("--instructions", "--stacks", "bare", "--requests", "5", "--jobs", "2")
    assert row["stack"] == "bare"
    assert row["view"] == "json"
    assert row["median"] > 10_000
    assert row["lower"] == row["median"] == row["upper"]


@needs_program("wrk")
@pytest.mark.skipif(not installed("gunicorn"), reason='gunicorn comes with pip install -e ".[bench]"')
def test_throughput_and_latency_are_told_of_a_served_app() -> None:
    rows = rows_of("--http", "--stacks", "ours", "--rounds", "1")
    assert [row["stack"] for row in rows] == ["bare", "ours"]
    for row in rows:
        assert row["median"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["cpu_us"] > 0


@needs_program("wrk")
@needs_peers
@pytest.mark.skipif(not installed("gunicorn"), reason='gunicorn comes with pip install -e ".[bench]"')
def test_several_workers_are_compared_with_peers_that_share_their_metrics_too() -> None:
    rows = {row["stack"]: row for row in rows_of("--http", "--stacks", "ours,peers", "--workers", "2", "--rounds", "1")}
    assert rows["bare"]["cpu_over_bare_us"] == 0
    assert rows["peers"]["cpu_of_peers"] == rows["peers"]["times_peers"] == 1
    assert rows["ours"]["cpu_times_peers"] == pytest.approx(rows["peers"]["cpu_us"] / rows["ours"]["cpu_us"])


@pytest.mark.skipif(not installed("gunicorn"), reason='gunicorn comes with pip install -e ".[bench]"')
def test_latency_is_told_with_a_scraper_and_without() -> None:
    rows = rows_of("--latency", "--rounds", "1")
    assert [(row["stack"], row["scraped"]) for row in rows] == [
        (by, scraped) for by in ("ours", "prometheus_client") for scraped in ("no", "yes")
    ]
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert (row["added_ms"] is None) == (row["scraped"] == "no")


def test_requests_keep_no_memory() -> None:
    rows = rows_of("--memory", "--requests", "2000", "--views", "json")
    assert [(row["stack"], row["requests"]) for row in rows] == [("bare", 2000), ("ours", 2000)]
    for row in rows:
        assert row["kept_bytes_a_request"] == row["second_bytes"] / (row["requests"] / 2)
        # What is allocated once is told too; any object that stays for each request is 16 bytes and more.
        assert row["kept_bytes_a_request"] < 4


def test_a_watched_signal_is_told_beside_the_least_that_it_could_cost() -> None:
    command = [sys.executable, str(BENCHMARKS / "watched.py"), "--sends", "5", "--rounds", "1"]
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert 0 < told["nothing/watch"] < told["all four/watch"]
    assert {"all four/floor", "all four/receivers", "stopped/watch", "count/watch"} <= told.keys()
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len({len(line) for line in lines}) == 1


def test_the_steps_of_a_start_are_told() -> None:
    rows = rows_of("--start", "--rounds", "2")
    assert [row["step"].split()[0] for row in rows] == ["import"] * 4 + ["init_app"] * 2
    assert all(0 < row["lower"] <= row["median"] <= row["upper"] for row in rows)
    assert rows[0]["of_flask"] == 1
    assert rows[4]["median"] < rows[3]["median"]  # else the package is imported in a step that says something else


@pytest.fixture(scope="module")
def short_table(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The table of a short run, and where it may have drawn its picture."""
    picture = tmp_path_factory.mktemp("plot") / "cost.svg"
    drawn = ["--plot", str(picture)] if installed("matplotlib") else []
    done = run("--stacks", "receivers", "--views", "json", "--rounds", "1", "--requests", "2", *drawn)
    assert done.returncode == 0, done.stderr
    return done.stdout, picture


def test_the_table_is_markdown_with_a_note_for_every_stack(short_table: tuple[str, Path]) -> None:
    lines = [line for line in short_table[0].splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert len({line.count("|") for line in lines}) == 1
    for stack in ("bare", "receivers"):
        assert f"* `{stack}`: " in short_table[0]


@pytest.mark.skipif(not installed("matplotlib"), reason='matplotlib comes with pip install -e ".[bench]"')
def test_a_picture_is_drawn(short_table: tuple[str, Path]) -> None:
    assert "<svg" in short_table[1].read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--stacks", "theirs"), "'theirs' is none of bare, receivers, ours"),
        (("--rounds", "0"), "'0' is no whole number from 1"),
        (("--plot", "cost.gif"), "'cost.gif' ends neither in .svg nor in .png"),
        (("--http", "--memory"), "not allowed with argument"),
        (("--http", "--instructions"), "--instructions are counted of requests, and with --start of a start"),
    ],
)
def test_what_cannot_be_run_is_an_error_that_says_so(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize(("mode", "program"), [("--instructions", "valgrind"), ("--http", "wrk")])
def test_a_missing_program_is_told_with_its_package(mode: str, program: str, tmp_path: Path) -> None:
    done = run(mode, "--stacks", "bare", env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr == f"{program} is missing: apt-get install {program}\n"


def test_missing_peers_are_told_with_their_extra() -> None:
    hidden = f"""
import runpy, sys
sys.modules["prometheus_flask_exporter"] = None
sys.path.insert(0, {str(BENCHMARKS)!r})
sys.argv = ["overhead.py", "--stacks", "peers"]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "prometheus_flask_exporter" in done.stderr
    assert 'pip install -e ".[bench]"' in done.stderr
