"""``flask observability audit``."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pty
import subprocess
import sys
from typing import Any
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from flask_signal_observability.audit.json_records import JsonRecords
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.line import format_access
from flask_signal_observability.audit.line import format_event
from flask_signal_observability.cli import cli
from flask_signal_observability.redaction import Redaction

from .bounded import bounded
from .chained_file import ChainedFile
from .chained_file import record

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SECRET = "a secret of 24 characters"
COMMAND = [sys.executable, "-c", "from flask_signal_observability.cli import cli; cli()", "audit"]
HOUR_NS = 3_600_000_000_000
NOON_NS = 1_795_348_800_000_000_000
"""2026-11-22T12:00 in UTC."""


def run(*arguments: object, **environ: str) -> Result:
    env = {"OBSERVABILITY_AUDIT_KEY": None, "OBSERVABILITY_AUDIT_KEY_FILE": None, **environ}
    return CliRunner(env=env).invoke(cli, ["audit", *map(str, arguments)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that a chain seals with ``SECRET``."""
    writer = ChainedFile(tmp_path / "audit.log", AuditKey(SECRET.encode()))
    writer.write(5)
    writer.close()
    return tmp_path / "audit.log"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file without a chain: three users, four records, four hours."""
    told = [("alice", "/"), ("bob", "/admin/users"), ("alice", "/admin"), ("=cmd()", "/a b\nc")]
    lines = [
        format_access(NOON_NS + number * HOUR_NS, user, "203.0.113.7", path).decode()
        for number, (user, path) in enumerate(told)
    ]
    (tmp_path / "plain.log").write_text("\n".join([*lines, "no record", ""]))
    return tmp_path / "plain.log"


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"/orders/2", b"/orders/7"))


# verify


def test_an_intact_file_ends_with_0(path: Path) -> None:
    result = run("verify", path, OBSERVABILITY_AUDIT_KEY=SECRET)
    assert (result.exit_code, result.stdout) == (0, "intact: 7 of 7 lines proved; files: 1, writers: 1, findings: 0\n")


def test_a_changed_file_ends_with_1_and_names_the_line(path: Path) -> None:
    change(path)
    result = run("verify", path, OBSERVABILITY_AUDIT_KEY=SECRET)
    assert result.exit_code == 1
    assert f"{path}:4: edit: the line is not as it was sealed (writer " in result.stdout
    assert "TAMPERED WITH: 6 of 7 lines proved" in result.stdout


def test_a_missing_key_ends_with_2(path: Path) -> None:
    result = run("verify", path)
    assert result.exit_code == 2
    assert (
        f"{path}:1: wrong key: the chain is sealed with the key '{AuditKey(SECRET.encode()).id}', and no"
        in result.stdout
    )
    assert "give it with --key-file" in result.stdout


def test_a_wrong_key_is_called_so_and_both_are_named(path: Path) -> None:
    other = "another secret, as long"
    result = run("verify", path, OBSERVABILITY_AUDIT_KEY=other)
    assert result.exit_code == 2
    wanted, given = (AuditKey(secret.encode()).id for secret in (SECRET, other))
    assert (
        f"wrong key: the chain is sealed with the key '{wanted}', and the wrong one was given, '{given}': give the one"
        in (result.stdout)
    )


def test_a_chain_without_a_key_is_told_to_whoever_has_one(tmp_path: Path) -> None:
    writer = ChainedFile(tmp_path / "audit.log", AuditKey())
    writer.write(1)
    writer.close()
    result = run("verify", tmp_path / "audit.log", OBSERVABILITY_AUDIT_KEY=SECRET)
    assert result.exit_code == 2
    assert "wrong key: the chain is sealed without a key, as anybody can: verify without a key" in result.stdout


def test_a_torn_tail_ends_with_3(path: Path) -> None:
    with path.open("ab") as file:
        file.write(record(99)[:50])
    result = run("verify", path, OBSERVABILITY_AUDIT_KEY=SECRET)
    assert result.exit_code == 3
    assert f"{path}:8: torn: " in result.stdout


def test_verify_takes_keys_from_files(path: Path, tmp_path: Path) -> None:
    for name, secret in (("old", SECRET), ("new", "another secret, as long")):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    assert run("verify", path, "--key-file", tmp_path / "new", "--key-file", tmp_path / "old").exit_code == 0
    assert run("verify", path, "--key-file", tmp_path / "new").exit_code == 2
    assert run("verify", path, OBSERVABILITY_AUDIT_KEY_FILE=str(tmp_path / "old")).exit_code == 0


def test_a_key_file_that_all_can_read_is_one_line_and_exit_code_2(path: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "key").chmod(0o644)
    result = run("verify", path, "--key-file", tmp_path / "key")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: the audit key file")
    assert SECRET not in result.stderr


def test_verify_tells_json(path: Path) -> None:
    change(path)
    told = json.loads(run("verify", path, "--json", OBSERVABILITY_AUDIT_KEY=SECRET).stdout)
    assert (told["verdict"], told["lines"], told["proved"]) == ("tampered", 7, 6)
    assert [(finding["kind"], finding["line"]) for finding in told["findings"]] == [("edit", 4)]


def test_a_glob_takes_the_heads_file_and_compressed_files_too(path: Path) -> None:
    packed = path.with_name("audit.log.1.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    result = run("verify", *path.parent.glob("audit.log*"), OBSERVABILITY_AUDIT_KEY=SECRET)
    assert (result.exit_code, "files: 1," in result.stdout) == (0, True)


def test_a_progress_bar_is_on_a_terminal_alone(path: Path) -> None:
    command = [*COMMAND, "verify", str(path)]
    environ = {**os.environ, "OBSERVABILITY_AUDIT_KEY": SECRET, "TERM": "xterm"}
    silent = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=True)
    assert silent.stderr == b""
    leader, follower = pty.openpty()
    try:
        shown = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=follower, timeout=60, check=True)
        assert b"Verifying" in os.read(leader, 10_000)
    finally:
        os.close(leader)
        os.close(follower)
    assert shown.stdout == silent.stdout


# tail


def test_tail_shows_the_last_lines_as_they_are(path: Path) -> None:
    result = run("tail", path, "-n", 2, "--no-follow")
    assert result.stdout == "".join(path.read_text().splitlines(keepends=True)[-2:])


@pytest.mark.parametrize(
    ("filters", "users"),
    [
        ((), ["alice", "bob", "alice", "=cmd()", None]),
        (("--user", "alice"), ["alice", "alice"]),
        (("--path", "/admin*"), ["bob", "alice"]),
        (("--since", "2026-11-22T14:00"), ["alice", "=cmd()"]),
        (("--since", "2026-11-22T15:00:00+01:00", "--user", "a*"), ["alice"]),
        (("--status", "5xx"), []),
        (("-n", 0), []),
    ],
)
def test_tail_filters(plain: Path, filters: tuple[object, ...], users: list[str | None]) -> None:
    result = run("tail", plain, "--no-follow", "--json", *filters)
    assert [json.loads(line).get("user") for line in result.stdout.splitlines()] == users


def test_a_status_asked_of_lines_of_text_is_told_on_standard_error(plain: Path) -> None:
    result = run("tail", plain, "--no-follow", "--status", "5xx")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"{plain}: lines of text have no status" in result.stderr


@pytest.mark.parametrize("status", ["5x", "700", "ok"])
def test_an_impossible_status_is_wrong_usage(plain: Path, status: str) -> None:
    result = run("tail", plain, "--status", status)
    assert result.exit_code == 2
    assert "give one such as 404, or a class: 5xx" in result.stderr


def test_tail_takes_a_pattern_that_brings_companions_and_rotated_files(path: Path) -> None:
    path.rename(path.with_name("audit.log.1"))
    writer = ChainedFile(path, AuditKey(SECRET.encode()))
    writer.write(1)
    writer.close()
    path.with_name("audit.log.lock").touch()
    shown = run("tail", *sorted(path.parent.glob("audit.log*")), "-n", 4, "--no-follow").stdout.splitlines()
    assert [line.split(" #")[0].split("] ")[1].split(" version")[0] for line in shown] == [
        "chain closed",
        "chain opened",
        "alice@203.0.113.7 accessed /orders/0",
        "chain closed",
    ]


def test_what_lies_beside_an_audit_file_is_none(path: Path) -> None:
    path.with_name("audit.log.lock").touch()
    result = run("verify", *path.parent.glob("audit.log*"), OBSERVABILITY_AUDIT_KEY=SECRET)
    assert "files: 1," in result.stdout
    assert "there is no audit file among these" in run("stats", path.with_name("audit.log.heads")).stderr


def test_a_file_without_a_chain_is_told_how_to_get_one(plain: Path) -> None:
    result = run("verify", plain)
    assert result.exit_code == 2
    assert "there is no chain: audit_chain=True seals" in result.stdout


def test_stats_count_the_notes_of_a_chain(path: Path) -> None:
    told = json.loads(run("stats", path, "--json").stdout)
    assert (told["records"], told["chain_notes"], told["other_lines"]) == (5, 2, 0)


def test_an_impossible_time_is_wrong_usage(plain: Path) -> None:
    result = run("tail", plain, "--since", "yesterday")
    assert result.exit_code == 2
    assert "neither an age (90s, 15m, 2h, 7d) nor a time" in result.stderr


def test_tail_follows_through_a_rotation(path: Path) -> None:
    command = [*COMMAND, "tail", str(path), "-n", "1", "--user", "al*"]
    with bounded(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as following:
        assert following.stdout is not None
        assert "/orders/4 " in following.stdout.readline()
        writer = ChainedFile(path, AuditKey(SECRET.encode()))
        writer.number = 5
        writer.write()
        assert "/orders/5 " in following.stdout.readline()
        path.rename(path.with_name("audit.log.1"))
        writer.write()
        writer.close()
        writer.open()
        writer.write()
        writer.close()
        assert "/orders/6 " in following.stdout.readline()
        assert "/orders/7 " in following.stdout.readline()


# stats


def test_stats_count_users_paths_and_hours(plain: Path) -> None:
    told = json.loads(run("stats", plain, "--json", "--top", 2).stdout)
    assert (told["records"], told["other_lines"], told["distinct_users"], told["lost"]) == (4, 1, 3, 0)
    assert told["users"] == {"alice": 2, "bob": 1}
    assert list(told["hours"]) == [f"2026-11-22T{hour}:00" for hour in (12, 13, 14, 15)]


def test_stats_of_one_record_speak_of_one(tmp_path: Path) -> None:
    file = tmp_path / "one.log"
    file.write_text("[2026-11-22T12:00:00.000000+00:00] alice@203.0.113.7 accessed /\n")
    assert run("stats", file).stdout.startswith("1 record by 1 user, 2026-11-22")


def test_stats_print_tables_that_nothing_hides_in(plain: Path) -> None:
    lines = run("stats", plain).stdout.splitlines()
    assert lines[0].startswith("4 records by 3 users, 2026-11-22T12:00:00+00:00 to 2026-11-22T15")
    assert [line.split() for line in lines if line.startswith("alice")] == [["alice", "2"]]
    assert any(line.startswith(r"/a b\nc") for line in lines)


# export


def test_export_gives_json_lines_back_as_they_were(plain: Path) -> None:
    entries: list[dict[str, Any]] = [json.loads(line) for line in run("export", plain).stdout.splitlines()]
    assert [entry["path"] for entry in entries] == ["/", "/admin/users", "/admin", "/a b\nc"]


def test_export_gives_csv_that_no_spreadsheet_runs(plain: Path, tmp_path: Path) -> None:
    assert run("export", plain, "--csv", "-o", tmp_path / "out.csv").exit_code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["user"] for row in rows] == ["alice", "bob", "alice", "'=cmd()"]
    assert rows[3]["path"] == "/a b\nc"


def test_export_tells_in_csv_what_a_gap_tells(tmp_path: Path) -> None:
    since, until = "2026-11-22T10:08:12.654321+00:00", "2026-11-22T10:08:59.123456+00:00"
    file = tmp_path / "audit.log"
    file.write_text(f"[2026-11-22T10:09:00.123456+00:00] lost 17 records from {since} to {until}\n")
    (row,) = csv.DictReader(io.StringIO(run("export", file, "--csv").output))
    assert (row["lost"], row["since"], row["until"]) == ("17", since, until)


def test_export_leaves_out_the_chains_own_lines(path: Path) -> None:
    assert len(run("export", path, "--jsonl").stdout.splitlines()) == 5


@pytest.mark.parametrize("command", ["verify", "tail", "stats", "export"])
def test_every_command_has_examples_in_its_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"flask observability audit {command} access_audit.log" in result.stdout


class TestLinesOfWatchedSignals:
    """What a template writes is no record of an access: it is counted and exported by its text."""

    @pytest.fixture(params=["text", "json"])
    def mixed(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        """A record, two lines of a watched signal, a gap and a torn line with a record behind it."""
        own = format_access(NOON_NS, "alice", "203.0.113.7", "/")
        records = JsonRecords(Redaction())
        texts = ["alice@203.0.113.7 paid 12.5", r"bob@- paid 3\x20000"]
        as_json = request.param == "json"
        lines = [
            own,
            *(records.event(NOON_NS, text, None) if as_json else format_event(NOON_NS, text) for text in texts),
            own[:40] + own,
            own[:20],
        ]
        (tmp_path / "mixed.log").write_bytes(b"\n".join(lines) + b"\n")
        return tmp_path / "mixed.log"

    def test_stats_counts_them_apart(self, mixed: Path) -> None:
        told = json.loads(run("stats", mixed, "--json").output)
        assert (told["records"], told["events"], told["other_lines"]) == (1, 2, 2)
        assert "2 lines of watched signals" in run("stats", mixed).output

    def test_tail_shows_them_where_nobody_asks_for_a_user(self, mixed: Path) -> None:
        assert "paid" in run("tail", mixed, "--no-follow").output
        assert "paid" in run("tail", mixed, "--no-follow", "--since", "2026-11-22").output
        for filters in (("--user", "alice"), ("--path", "*"), ("--status", "2xx"), ("--since", "2026-11-23")):
            result = run("tail", mixed, "--no-follow", *filters)
            assert result.exit_code == 0, result.output
            assert "paid" not in result.output

    def test_export_has_their_text(self, mixed: Path) -> None:
        entries = [json.loads(line) for line in run("export", mixed, "--jsonl").output.splitlines()]
        assert [entry.get("text") for entry in entries] == [
            None,
            "alice@203.0.113.7 paid 12.5",
            r"bob@- paid 3\x20000",
        ]
        rows = list(csv.DictReader(io.StringIO(run("export", mixed, "--csv").output)))
        assert [(row["user"], row["text"]) for row in rows] == [
            ("alice", ""),
            ("", "alice@203.0.113.7 paid 12.5"),
            ("", r"bob@- paid 3\x20000"),
        ]

    def test_a_chain_s_own_lines_are_none_of_them(self, path: Path) -> None:
        assert json.loads(run("stats", path, "--json").output)["events"] == 0
