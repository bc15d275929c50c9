"""``flask observability audit``: verify, tail, stats and export."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import click

from ..audit.entries import Filter
from ..audit.entries import Summary
from ..audit.key import AuditKey
from ..audit.trail import entry_of
from ..audit.trail import follow
from ..audit.trail import in_order
from ..audit.trail import lines_of
from ..audit.verification import verify as verified
from ..errors import ObservabilityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from ..audit.verification import Report

__all__ = ["audit"]

KEY_VARIABLE = "OBSERVABILITY_AUDIT_KEY"
KEY_FILE_VARIABLE = "OBSERVABILITY_AUDIT_KEY_FILE"
CANNOT = 2

FILES = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")

VERIFY_EXAMPLES = f"""\b
Examples:
  flask observability audit verify access_audit.log*
  flask observability audit verify access_audit.log --key-file /run/secrets/audit_key
  flask observability audit verify access_audit.log* --key-file new_key --key-file old_key --json
  {KEY_VARIABLE}=… flask observability audit verify access_audit.log --heads /mnt/elsewhere/access_audit.log.heads
"""
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


@contextmanager
def _reported(*, as_json: bool) -> Iterator[None]:
    """End with exit code 2 and one line on standard error, with ``--json`` an object on standard output."""
    try:
        yield
    except ObservabilityError as error:
        click.echo(json.dumps({"error": str(error)}) if as_json else f"Error: {error}.", err=not as_json)
        raise click.exceptions.Exit(CANNOT) from error


class _Since(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A time (ISO 8601, in UTC where it names no zone) or an age such as 90s, 15m, 2h, 7d."""

    name = "time"
    SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}  # noqa: RUF012

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if value[:-1].isdecimal() and value[-1:] in self.SECONDS and len(value) < 10:  # noqa: PLR2004
            at_seconds = time.time() - int(value[:-1]) * self.SECONDS[value[-1]]
            return datetime.fromtimestamp(max(at_seconds, 0), timezone.utc)
        try:
            read = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            self.fail(
                f"{value!r} is neither an age (90s, 15m, 2h, 7d) nor a time such as 2026-11-22T10:00.", param, ctx
            )
        return read if read.tzinfo else read.replace(tzinfo=timezone.utc)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--status", metavar="CODE", help="404, or a class: 5xx. Only JSON records have a status."),
        click.option("--since", type=_Since(), help="A time, 2026-11-22T10:00 (UTC), or an age: 90s, 15m, 2h, 7d."),
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


@audit.command(short_help="Tell whether they are as they were written.", epilog=VERIFY_EXAMPLES)
@FILES
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"A key that may have sealed them; several after a change of keys. Default: {KEY_FILE_VARIABLE}, {KEY_VARIABLE}.",
)
@click.option(
    "--heads",
    "heads_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A heads file kept elsewhere; default: those beside the files.",
)
@JSON
def verify(
    files: tuple[Path, ...], key_files: tuple[Path, ...], heads_files: tuple[Path, ...], *, as_json: bool
) -> None:
    """Tell whether FILES are as they were written, by their chains, and name what is not.

    Needs audit_chain. Exit codes: 0 intact, 1 tampered with, 2 cannot be checked, 3 nothing but a torn record.
    """
    with _reported(as_json=as_json):
        keys = _keys(key_files)
        with _progress(files, hidden=as_json) as on_progress:
            report = verified(files, keys, heads=heads_files, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(report), "verdict": report.verdict.name.lower()}))
    else:
        _print_report(report)
    raise click.exceptions.Exit(report.verdict)


@audit.command(short_help="Show the last records, and follow.", epilog=TAIL_EXAMPLES)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="So many at first.")
@click.option("--follow/--no-follow", "follows", default=True, help="Go on with what is written, through rotations.")
@_filters
@JSON
def tail(
    file: Path,
    lines: int,
    user: str | None,
    path: str | None,
    since: datetime | None,
    status: str | None,
    *,
    follows: bool,
    as_json: bool,
) -> None:
    """Show the last records of FILE that the filters let through, then those that are written, until interrupted."""
    chosen = Filter(user=user, path=path, since=since, status=status)
    with _reported(as_json=as_json):
        for line in follow(file, last_lines=lines, is_wanted=lambda line: chosen.lets(entry_of(line)), follows=follows):
            click.echo(_as_json(entry_of(line)) if as_json else line.decode("utf-8", "replace"))


@audit.command(short_help="Summarise: users, paths, hours, gaps.", epilog=STATS_EXAMPLES)
@FILES
@_filters
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="So many users and paths.")
@JSON
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
    with _reported(as_json=as_json):
        for line in lines_of(_audit_files(files)):
            summary.add(line, chosen)
    if as_json:
        click.echo(json.dumps(summary.told(top)))
        return
    click.echo(
        f"{summary.records} records by {len(summary.users)} users, {summary.first or '-'} to {summary.last or '-'}"
    )
    click.echo(f"{summary.lost} records lost in {summary.gaps} gaps; {summary.others} lines are no records")
    for title, counts in (("user", summary.users), ("path", summary.paths), ("status", summary.statuses)):
        _print_table(title, counts.most_common(top))
    _print_table("hour (UTC)", sorted(summary.hours.items()))


@audit.command(short_help="Write them as CSV or JSON lines.", epilog=EXPORT_EXAMPLES)
@FILES
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
    with _reported(as_json=False):
        entries = (entry for line in lines_of(_audit_files(files)) if (entry := entry_of(line)) and chosen.lets(entry))
        if form == "csv":
            _write_csv(entries, output)
        else:
            output.writelines(f"{_as_json(entry)}\n" for entry in entries)


def _keys(key_files: tuple[Path, ...]) -> list[AuditKey]:
    if key_files:
        return [AuditKey.from_file(path) for path in key_files]
    if path := os.environ.get(KEY_FILE_VARIABLE):
        return [AuditKey.from_file(path)]
    if secret := os.environ.get(KEY_VARIABLE):
        return [AuditKey(secret.encode())]
    return []


@contextmanager
def _progress(files: Iterable[Path], *, hidden: bool) -> Iterator[Callable[[int], None] | None]:
    if hidden or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(
        length=sum(path.stat().st_size for path in files), label="Verifying", file=sys.stderr
    ) as bar:
        yield bar.update


def _print_report(report: Report) -> None:
    for finding in report.findings:
        place = f"{finding.file}:{finding.line}" if finding.line else finding.file
        writer = f" (writer {finding.writer})" if finding.writer else ""
        click.echo(f"{place}: {finding.kind.value}: {finding.message}{writer}")
    verdict = {0: "intact", 1: "TAMPERED WITH", 2: "cannot be checked", 3: "a torn record, else intact"}[report.verdict]
    click.echo(
        f"{verdict}: {report.proved} of {report.lines} lines proved, "
        f"{report.writers} writers, {len(report.files)} files, {len(report.findings)} findings"
    )


def _audit_files(files: tuple[Path, ...]) -> list[Path]:
    return in_order(path for path in files if not path.name.endswith((".heads", ".heads.1", ".lock")))


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
            writer = csv.DictWriter(output, list(entry), lineterminator="\n", extrasaction="ignore")
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
