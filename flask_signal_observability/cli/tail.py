"""``flask observability tail``."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import deque
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import click
import orjson

from ..audit.trail import follow
from ..audit.trail import in_order
from ..audit.trail import lines_of
from ..log_records.record_line import record_of
from ..log_records.record_line import time_of
from ..log_records.record_line import Wanted
from ..log_records.story import audit_lines_of
from ..log_records.story import requests_of
from ..log_records.story import START
from ..rendering import to_console_line
from ..text import printable
from .audit_verify import reported
from .since import Since
from .status import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["tail"]

STDIN = Path("-")
LAST_LINES = 10
ALL = sys.maxsize
NOTHING = 1
SHORTEST_ID = 8
TRACE_ID = re.compile(rf"[0-9a-f]{{{SHORTEST_ID},32}}")
LEVELS = ("debug", "info", "warning", "error", "critical")

EXAMPLES = """\b
Examples:
  flask observability tail app.log --follow
  flask observability tail app.log --status 5xx --since 15m
  flask observability tail app.log --route '/orders/*' --level warning --json | jq .duration_seconds
  flask observability tail app.log* --trace 7e981054 --audit access_audit.log
  flask run | flask observability tail --level warning
"""


class _TraceId(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A trace id, or its first digits."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).lower()
        if TRACE_ID.fullmatch(text) is None:
            self.fail(f"{value!r} is no trace id: give its 32 hexadecimal digits, or the first 8 or more", param, ctx)
        return text


@click.command(short_help="Show JSON records as readable lines, chosen.", epilog=EXAMPLES)
@click.argument(
    "files", nargs=-1, type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)
)
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on with what is written, through rotations.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    help=f"So many at first; default: {LAST_LINES}, and all of what --since, --trace or --request choose.",
)
@click.option(
    "--route", metavar="PATTERN", help="The route, with * and ? as in a shell; where there is none, the path."
)
@click.option("--status", type=Status(), help="404, or a class: 5xx.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="The least one.")
@click.option("--event", metavar="PATTERN", help="What happened: request_finished, exception, 'order*'.")
@click.option(
    "--trace", type=_TraceId(), help="A trace id or its first 8 digits: all that was written of it, in order."
)
@click.option("--request", metavar="ID", help="A request id.")
@click.option("--since", type=Since(), help="A time, 2026-11-22T10:00 (UTC), or an age: 90s, 15m, 2h, 7d.")
@click.option(
    "--audit",
    "audit_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="With --trace or --request: an audit file, whose lines of this request are shown, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Pass the lines on as they are, and nothing else.")
def tail(
    files: tuple[Path, ...],
    lines: int | None,
    route: str | None,
    status: str | None,
    level: str | None,
    event: str | None,
    trace: str | None,
    request: str | None,
    since: datetime | None,
    audit_files: tuple[Path, ...],
    *,
    follows: bool,
    as_json: bool,
) -> None:
    """Show the last records of FILES, or of standard input, that the filters let through, one readable line each.

    FILES may be rotated and packed ones, in any order; of several the newest is followed. Times are UTC. Lines that are
    no JSON are shown dimmed where nothing is filtered, else left out and counted on standard error. --trace and
    --request show what was written of a request in the order of its times. A text line of an audit file names no
    request: it is recognised by time, path and address, and marked with ~. Needs no app: FLASK_APP may be unset.

    Exit codes: 0 something was shown, or ended by Ctrl-C; 1 nothing was; 2 a file cannot be read, or wrong usage.
    """
    wanted = Wanted(route=route, status=status, level=level, event=event, trace=trace, request=request, since=since)
    is_story = trace is not None or request is not None
    paths = [] if files in ((), (STDIN,)) else list(files)
    _check_usage(paths, files, is_story=is_story, follows=follows, audit_files=audit_files)
    shown = _Shown(wanted, as_json=as_json)
    last = ALL if not paths or is_story or since is not None else LAST_LINES
    chosen = _chosen(paths, last if lines is None else lines, shown.is_wanted, follows=follows)
    with reported(as_json=False), contextlib.suppress(KeyboardInterrupt):
        if is_story and not follows:
            shown.story(chosen, in_order(audit_files))
        else:
            for line in chosen:
                shown.show(line)
    shown.close()
    if not shown.count and not follows:
        raise click.exceptions.Exit(NOTHING)


def _check_usage(
    paths: list[Path], files: tuple[Path, ...], *, is_story: bool, follows: bool, audit_files: tuple[Path, ...]
) -> None:
    if STDIN in paths:
        raise click.UsageError("Standard input (-) goes alone: give files, or none.")
    if not files and sys.stdin.isatty():
        raise click.UsageError("There is nothing to read: give FILES, or pipe records in.")
    if audit_files and (not is_story or follows):
        raise click.UsageError("--audit goes with --trace or --request, and without --follow.")


def _chosen(
    paths: list[Path], last_lines: int, is_wanted: Callable[[bytes], bool], *, follows: bool
) -> Iterator[bytes]:
    """Give the last lines that are wanted; where all are, as they come, and with ``follows`` those that follow."""
    *older, newest = in_order(paths) or [STDIN]
    if newest == STDIN:
        lines = _standard_input()
    elif follows:
        yield from _last(filter(is_wanted, lines_of(older)), last_lines)
        yield from follow(newest, last_lines=last_lines, is_wanted=is_wanted)
        return
    else:
        lines = lines_of([*older, newest])
    yield from _last(filter(is_wanted, lines), last_lines)


def _last(lines: Iterable[bytes], count: int) -> Iterable[bytes]:
    return lines if count == ALL else deque(lines, maxlen=count)


def _standard_input() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n")


class _Shown:
    """Shows lines, and counts them."""

    def __init__(self, wanted: Wanted, *, as_json: bool) -> None:
        self._wanted = wanted
        self._as_json = as_json
        self._has_colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self.count = 0
        self._left_out = 0

    def is_wanted(self, line: bytes) -> bool:
        record = record_of(line)
        if record is None and (self._as_json or not self._wanted.is_everything):
            self._left_out += bool(line.strip())
            return False
        return self._wanted.lets(record)

    def show(self, line: bytes) -> None:
        self.count += 1
        record = record_of(line)
        if self._as_json:
            click.echo(line)
        elif record is None:
            click.echo(self._dimmed(line.decode("utf-8", "replace")))
        else:
            click.echo(to_console_line(record, colors=self._has_colors), nl=False)

    def story(self, lines: Iterable[bytes], audit_files: list[Path]) -> None:
        """Show the records and audit lines of requests by their times; those of one time as they were written."""
        records = [(line, record) for line in lines if (record := record_of(line)) is not None]
        requests = requests_of(record for _, record in records)
        audited = audit_lines_of(audit_files, requests) if audit_files else []
        told = [(time_of(record) or START, line, "") for line, record in records]
        told += [(each.time, each.line.encode(), "audit" if each.by_id else "audit ~") for each in audited]
        for time, line, mark in sorted(told, key=lambda each: each[0]):
            if not mark:
                self.show(line)
            elif self._as_json:
                self._pass_audit_line(line)
            else:
                self.count += 1
                click.echo(f"{time:%H:%M:%S}.{time.microsecond // 1000:03}Z [{mark:<9}] {printable(line.decode())}")
        traces = {request.trace_id for request in requests}
        if len(traces) > 1:
            click.echo(f"{len(traces)} traces begin like this: give more digits.", err=True)

    def _pass_audit_line(self, line: bytes) -> None:
        self.count += 1
        click.echo(line if line.startswith(b"{") else orjson.dumps({"audit": line.decode()}))

    def close(self) -> None:
        """Tell what was left out."""
        if self._left_out:
            plural = "lines that are" if self._left_out > 1 else "line that is"
            click.echo(f"{self._left_out} {plural} no JSON left out", err=True)

    def _dimmed(self, text: str) -> str:
        return click.style(printable(text), dim=True) if self._has_colors else printable(text)
