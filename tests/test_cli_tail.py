"""``flask observability tail``, on records that an app has written."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from typing import Any
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from flask import Flask

from flask_signal_observability.cli import cli

from .bounded import bounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from .conftest import Observed

COMMAND = [sys.executable, "-c", "from flask_signal_observability.cli import cli; cli()", "tail"]
ENVIRON = {key: value for key, value in os.environ.items() if key not in ("FLASK_APP", "COLUMNS")}


def run(*arguments: object, stdin: str | bytes = b"") -> Result:
    return CliRunner().invoke(cli, ["tail", *map(str, arguments)], input=stdin)


def shop() -> Flask:
    app = Flask("shop")

    @app.get("/orders/<int:number>")
    def order(number: int) -> dict[str, float]:
        return {"order": number, "share": 1 / (number - 13)}

    return app


class Written:
    """What three requests have left: a success, a failure, and a 404."""

    def __init__(self, observed: Observed, log: Path) -> None:
        client = observed.client()
        for path in ("/orders/7", "/orders/13", "/nowhere"):
            client.get(path)
        self.log = log
        self.audit = observed.audit_path
        self.lines = log.read_bytes().splitlines()
        self.records: list[dict[str, Any]] = [json.loads(line) for line in self.lines]

    def of(self, path: str, key: str = "trace_id") -> Any:
        return next(record[key] for record in self.records if record.get("url.path") == path)


@pytest.fixture
def write(observe: Callable[..., Observed], tmp_path: Path) -> Callable[..., Written]:
    def write(**settings: Any) -> Written:
        log = tmp_path / "app.log"
        return Written(observe(shop(), log_stream=str(log), log_level="INFO", **settings), log)

    return write


@pytest.fixture
def written(write: Callable[..., Written]) -> Written:
    return write()


def test_a_record_is_a_readable_line(written: Written) -> None:
    result = run(written.log)
    assert (result.exit_code, result.stderr) == (0, "")
    first = result.stdout.splitlines()[0]
    assert "GET     /orders/<int:number>             200" in first
    assert first.endswith(written.of("/orders/7")[:8])


def test_a_record_in_the_elastic_schema_is_the_same_line(write: Callable[..., Written], tmp_path: Path) -> None:
    (tmp_path / "ecs").mkdir()
    line = run(write(log_schema="ecs").log).stdout.splitlines()[0]
    assert "GET     /orders/<int:number>             200" in line
    assert " ms " in line


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        (("--route", "/orders/<int:number>", "--event", "request_finished"), ["/orders/7", "/orders/13"]),
        (("--route", "/now*"), ["/nowhere"]),
        (("--status", "5xx"), ["/orders/13"]),
        (("--status", "404"), ["/nowhere"]),
        (("--level", "warning", "--event", "request*"), ["/orders/13", "/nowhere"]),
        (("--since", "1h", "--status", "2xx"), ["/orders/7"]),
        (("--status", "2xx", "--level", "error"), []),
        (("--since", "2100-01-01"), []),
    ],
)
def test_filters_choose_records(written: Written, filters: tuple[str, ...], paths: list[str]) -> None:
    result = run(written.log, "--json", *filters)
    assert [json.loads(line)["url.path"] for line in result.stdout.splitlines()] == paths
    assert result.exit_code == (0 if paths else 1)


def test_json_passes_the_lines_on_as_they_are(written: Written) -> None:
    assert run(written.log, "--json").stdout_bytes.splitlines() == written.lines


def test_so_many_lines_are_the_last_ones(written: Written) -> None:
    assert run(written.log, "--json", "-n", 1).stdout_bytes.splitlines() == written.lines[-1:]


def test_without_a_number_the_last_ten_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(f'{{"event":"e{number}"}}\n' for number in range(25)))
    assert len(run(log).stdout.splitlines()) == 10
    assert len(run(stdin=log.read_bytes()).stdout.splitlines()) == 25


def test_rotated_and_packed_files_are_read_in_the_order_of_their_times(written: Written, tmp_path: Path) -> None:
    older = tmp_path / "app.log.1.gz"
    older.write_bytes(gzip.compress(b"\n".join(written.lines[:2]) + b"\n"))
    written.log.write_bytes(b"\n".join(written.lines[2:]) + b"\n")
    assert run(written.log, older, "--json").stdout_bytes.splitlines() == written.lines


# One request.


def test_a_short_trace_id_tells_the_whole_story_of_a_request(write: Callable[..., Written]) -> None:
    written = write(audit_format="json")
    result = run(written.log, "--trace", written.of("/orders/13")[:8], "--audit", written.audit)
    assert "ZeroDivisionError: division by zero" in result.stdout
    assert "GET     /orders/<int:number>             500" in result.stdout
    assert "[audit    ]" in result.stdout
    assert '"url.path":"/orders/13"' in result.stdout
    assert "/orders/7" not in result.stdout
    assert result.stdout.index("ZeroDivisionError") < result.stdout.index(" 500")


def test_the_text_line_of_an_audit_file_is_found_by_time_path_and_address(written: Written) -> None:
    written.audit.write_text(
        "[2020-01-01T00:00:00.000000+00:00] anonymous@127.0.0.1 accessed /orders/13\n" + written.audit.read_text()
    )
    result = run(written.log, "--trace", written.of("/orders/13"), "--audit", written.audit)
    (line,) = [line for line in result.stdout.splitlines() if "[audit ~  ]" in line]
    assert line.endswith("anonymous@127.0.0.1 accessed /orders/13")
    assert "2020" not in line


def test_a_request_id_chooses_as_a_trace_id_does(written: Written) -> None:
    result = run(written.log, "--json", "--request", written.of("/nowhere", "request_id"), "--audit", written.audit)
    record, audited = map(json.loads, result.stdout.splitlines())
    assert record["url.path"] == "/nowhere"
    assert audited["audit"].endswith("accessed /nowhere")


def test_a_story_is_told_in_the_order_of_its_times(written: Written) -> None:
    written.log.write_bytes(b"\n".join(reversed(written.lines)) + b"\n")
    lines = run(written.log, "--json", "--trace", written.of("/orders/13")).stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["exception", "request_finished"]


def test_digits_that_several_traces_begin_with_are_told(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    record = {"http.request.method": "GET", "duration_seconds": 0.1, "timestamp": "2026-11-22T10:00:00.000000Z"}
    log.write_text("".join(json.dumps({**record, "trace_id": "abcdef01" + c * 24}) + "\n" for c in "12"))
    result = run(log, "--trace", "abcdef01")
    assert (result.exit_code, result.stderr) == (0, "2 traces begin like this: give more digits.\n")


@pytest.mark.parametrize("trace", ["7e98", "not-hexadecimal", "7" * 33])
def test_what_is_no_trace_id_is_wrong_usage(written: Written, trace: str) -> None:
    result = run(written.log, "--trace", trace)
    assert result.exit_code == 2
    assert "is no trace id: give its 32 hexadecimal digits" in result.stderr


# What is no record.


def test_other_lines_are_shown_and_cannot_touch_the_terminal(written: Written) -> None:
    with written.log.open("a") as log:
        log.write("Traceback \033]0;owned\a\n[1, 2]\n")
    assert run(written.log).stdout.splitlines()[-2:] == [r"Traceback \x1b]0;owned\x07", "[1, 2]"]


@pytest.mark.parametrize("options", [("--json",), ("--status", "200")])
def test_with_a_filter_other_lines_are_left_out_and_counted(written: Written, options: tuple[str, ...]) -> None:
    with written.log.open("a") as log:
        log.write("Traceback\n\nraise\n")
    result = run(written.log, *options)
    assert result.stderr == "2 lines that are no JSON left out\n"
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    "line",
    [
        '{"timestamp": 5}',
        '{"duration_seconds": "x", "http.request.method": 1}',
        '{"exception": "x"}',
        "{}",
        '{"level": []}',
    ],
)
@pytest.mark.parametrize(
    "options", [(), ("--since", "1h"), ("--level", "info"), ("--status", "200"), ("--request", "a")]
)
def test_a_strange_record_ends_nothing(tmp_path: Path, line: str, options: tuple[str, ...]) -> None:
    log = tmp_path / "app.log"
    log.write_text(f"{line}\n")
    result = run(log, *options)
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)


# Following.


def test_it_follows_through_a_rotation(written: Written, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, str(written.log), "-f", "--json", "-n", "1"], stdout=subprocess.PIPE, env=ENVIRON
    )
    with bounded(process) as followed:
        assert followed.stdout is not None
        assert followed.stdout.readline().rstrip() == written.lines[-1]
        with written.log.open("ab") as log:
            log.write(b'{"event":"before"}\n')
        assert followed.stdout.readline() == b'{"event":"before"}\n'
        written.log.rename(tmp_path / "app.log.1")
        written.log.write_bytes(b'{"event":"after"}\n')
        assert followed.stdout.readline() == b'{"event":"after"}\n'


def test_standard_input_is_shown_while_it_comes() -> None:
    with bounded(subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRON)) as piped:
        assert piped.stdin is not None
        assert piped.stdout is not None
        piped.stdin.write(b'{"event":"hello","level":"info"}\n')
        piped.stdin.flush()
        assert b"hello" in piped.stdout.readline()
        piped.stdin.close()
        assert piped.wait(timeout=20) == 0


# Usage.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-", "{log}"), "Standard input (-) goes alone"),
        (("{log}", "--audit", "{log}"), "--audit goes with --trace or --request"),
        (("{log}.missing",), "does not exist"),
    ],
)
def test_wrong_usage_says_what_is_wrong(written: Written, arguments: tuple[str, ...], said: str) -> None:
    result = run(*(argument.format(log=written.log) for argument in arguments))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_json_audit_file_is_read_as_audit_records(observe: Callable[..., Observed]) -> None:
    observed = observe(shop(), audit_format="json", audit_requests=True, audit_chain=True)
    for path in ("/orders/7", "/nowhere"):
        observed.client().get(path)
    opened, found, missing = run(observed.audit_path).stdout.splitlines()
    assert "chain opened" in opened
    assert found.startswith(json.loads(observed.audit_lines[1])["time"][11:19])
    assert "access_logged" in found
    assert "/orders/7" in found
    assert run(observed.audit_path, "--status", "4xx").stdout.splitlines() == [missing]
