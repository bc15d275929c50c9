"""``flask observability audit``: verify, tail, stats and export."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from typing import Any
from typing import TYPE_CHECKING

import click

from ..audit.entries import Filter
from ..audit.entries import Summary
from ..audit.record import AuditRecord
from ..audit.trail import audit_files
from ..audit.trail import entry_of
from ..audit.trail import follow
from ..audit.trail import lines_of
from ..audit.trail import opened
from ..text import counted
from .audit_verify import files_argument
from .audit_verify import json_option
from .audit_verify import reported
from .audit_verify import verify
from .since import Since
from .status import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["audit"]

COLUMNS = [*AuditRecord._fields, "text", "lost", "since", "until"]
"""Of a CSV file; ``text`` is the line of a watched signal, the last three tell of a gap."""

TAIL_EXAMPLES = """\b
Examples:
  flask observability audit tail access_audit.log
  flask observability audit tail access_audit.log -n 100 --user alice --path '/admin/*'
  flask observability audit tail access_audit.log --since 15m --no-follow --json
"""
STATS_EXAMPLES = """\b
Examples:
  flask observability audit stats access_audit.log*
  flask observability audit stats access_audit.log --since 2026-11-22 --top 5 --json
"""
EXPORT_EXAMPLES = """\b
Examples:
  flask observability audit export access_audit.log* --csv --output audit.csv
  flask observability audit export access_audit.log --jsonl --user alice | jq .path
"""


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--status", type=Status(), help="404, or a class: 5xx. Only JSON records have a status."),
        click.option("--since", type=Since(), help="A time, 2026-11-22T10:00 (UTC), or an age: 90s, 15m, 2h, 7d."),
        click.option("--path", metavar="PATTERN", help="The path, with * and ? as in a shell: '/admin/*'."),
        click.option("--user", metavar="PATTERN", help="The user, with * and ? as in a shell."),
    ):
        command = option(command)
    return command


@click.group(short_help="Verify, follow, summarise and export audit files.")
def audit() -> None:
    """Read audit files: rotated ones and ones that gzip compressed too, in the order of their times.

    They need no app: FLASK_APP may be unset.
    """


audit.add_command(verify)


@audit.command(short_help="Show the last records, and follow.", epilog=TAIL_EXAMPLES)
@files_argument
@click.option("-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="So many at first.")
@click.option("--follow/--no-follow", "follows", default=True, help="Go on with what is written, through rotations.")
@_filters
@json_option
def tail(
    files: tuple[Path, ...],
    lines: int,
    user: str | None,
    path: str | None,
    since: datetime | None,
    status: str | None,
    *,
    follows: bool,
    as_json: bool,
) -> None:
    """Show the last records of FILES that the filters let through, then those that are written, until interrupted.

    Of several the newest is followed.
    """
    chosen = Filter(user=user, path=path, since=since, status=status)

    def is_wanted(line: bytes) -> bool:
        return chosen.lets(entry_of(line))

    with reported(as_json=as_json):
        *older, newest = _chosen_files(files, chosen)
        for line in follow(newest, older=older, last_lines=lines, is_wanted=is_wanted, follows=follows):
            click.echo(_as_json(entry_of(line)) if as_json else line.decode("utf-8", "replace"))


@audit.command(short_help="Summarise: users, paths, hours, gaps.", epilog=STATS_EXAMPLES)
@files_argument
@_filters
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="So many users and paths.")
@json_option
def stats(
    files: tuple[Path, ...],
    user: str | None,
    path: str | None,
    since: datetime | None,
    status: str | None,
    top: int,
    *,
    as_json: bool,
) -> None:
    """Summarise the records of FILES: how many, whose, of what, in which hour, and how many are known to be lost."""
    summary = Summary()
    chosen = Filter(user=user, path=path, since=since, status=status)
    with reported(as_json=as_json):
        for line in lines_of(_chosen_files(files, chosen)):
            summary.add(line, chosen)
    if as_json:
        click.echo(json.dumps(summary.told(top)))
        return
    told = f"{counted(summary.records, 'record')} by {counted(len(summary.users), 'user')}"
    click.echo(f"{told}, {summary.first or '-'} to {summary.last or '-'}")
    lost = f"{counted(summary.lost, 'record')} lost in {counted(summary.gaps, 'gap')}"
    click.echo(f"{lost}; lines that are no records: {summary.others}")
    if summary.notes:
        click.echo(f"{counted(summary.notes, 'note')} of chains")
    if summary.events:
        click.echo(f"{counted(summary.events, 'line')} of watched signals")
    for title, counts in (("user", summary.users), ("path", summary.paths), ("status", summary.statuses)):
        _print_table(title, counts.most_common(top))
    _print_table("hour (UTC)", sorted(summary.hours.items()))


@audit.command(short_help="Write them as CSV or JSON lines.", epilog=EXPORT_EXAMPLES)
@files_argument
@click.option("--csv", "form", flag_value="csv", help="A table with a line of names.")
@click.option("--jsonl", "form", flag_value="jsonl", default="jsonl", help="An object a line; the default.")
@click.option(
    "-o", "--output", type=click.File("w", encoding="utf-8", lazy=False), default="-", help="A file; default: stdout."
)
@_filters
def export(
    files: tuple[Path, ...],
    form: str,
    output: Any,
    user: str | None,
    path: str | None,
    since: datetime | None,
    status: str | None,
) -> None:
    """Write the records of FILES as CSV or as JSON lines, what a client sent as it was before it was escaped.

    In CSV a field that a spreadsheet would take for a formula has an apostrophe in front of it.
    """
    chosen = Filter(user=user, path=path, since=since, status=status)
    with reported(as_json=False):
        lines = lines_of(_chosen_files(files, chosen))
        entries = (entry for line in lines if (entry := entry_of(line)) and chosen.lets(entry))
        if form == "csv":
            _write_csv(entries, output)
        else:
            output.writelines(f"{_as_json(entry)}\n" for entry in entries)


def _chosen_files(files: tuple[Path, ...], chosen: Filter) -> list[Path]:
    """Return them in order; a filter that none of a file's lines can pass is told."""
    ordered = audit_files(files)
    for path in ordered if chosen.status is not None else ():
        with opened(path) as (stream, _):
            is_text = stream.read(1) == b"["
        if is_text:
            click.echo(
                f'{path}: lines of text have no status: --status lets none through; audit_format="json" has it',
                err=True,
            )
    return ordered


def _as_json(entry: dict[str, Any] | None) -> str:
    told = {name: value for name, value in (entry or {}).items() if value is not None and value != ()}
    return json.dumps(told, ensure_ascii=True, default=str)


def _print_table(title: str, counts: Iterable[tuple[str, int]]) -> None:
    rows = [(name.encode("unicode_escape").decode("ascii"), count) for name, count in counts]
    if not rows:
        return
    width = max(len(title), *(len(name) for name, _ in rows))
    click.echo(f"\n{title:{width}}  records")
    for name, count in rows:
        click.echo(f"{name:{width}}  {count:7}")


def _write_csv(entries: Iterable[dict[str, Any]], output: Any) -> None:
    writer: Any = None
    for entry in entries:
        if writer is None:
            writer = csv.DictWriter(output, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
        writer.writerow({name: _cell(value) for name, value in entry.items()})


def _cell(value: Any) -> str:
    """A client chooses paths: https://owasp.org/www-community/attacks/CSV_Injection."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else value.isoformat() if isinstance(value, datetime) else _as_text(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text != "-" else text


def _as_text(value: Any) -> str:
    return str(value) if isinstance(value, int) else json.dumps(value)
