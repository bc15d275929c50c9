"""The table of routes for a person: as text, and on a terminal."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import shutil
import sys
from contextlib import contextmanager
from datetime import datetime
from datetime import timezone
from typing import NamedTuple
from typing import TYPE_CHECKING

import click

from ..text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .table import Row
    from .table import Table

__all__ = ["Lines", "lines_of", "screen"]

HEADER = ("rate/s", "errors", "p50", "p95", "p99", "requests", "route")
NONE = "-"
BAD_RATIO = 0.05
"""From this share of errors on a route is red, below it yellow."""

ENTER, HOME, CLEAR_LINE, CLEAR_REST, LEAVE = (
    "\033[?1049h\033[?25l",
    "\033[H",
    "\033[K",
    "\033[J",
    "\033[?25h\033[?1049l",
)
"""The alternate screen of a terminal, and the cursor (xterm's control sequences)."""


class Lines(NamedTuple):
    """What is shown, top to bottom."""

    heading: str
    totals: str
    problems: list[str]
    cells: list[tuple[str, ...]]
    """A row each, like ``HEADER``."""
    colours: list[str | None]
    """Of each row."""
    others: int
    """Rows that there was no room for."""


def lines_of(table: Table, *, max_rows: int | None = None) -> Lines:
    """Return what is shown of a table, at most so many rows of it."""
    rows = table.rows if max_rows is None else table.rows[: max(max_rows, 1)]
    has_apps = len({row.app for row in table.rows}) > 1
    apps = " ".join(table.apps) or NONE
    over = "since the start" if table.seconds is None else f"over {table.seconds:.1f} s"
    now = datetime.now(timezone.utc)
    return Lines(
        printable(f"{apps}  {over}  {now:%H:%M:%S}Z"),
        _totals(table),
        [printable(problem) for problem in table.problems],
        [_cells(row, has_apps=has_apps) for row in rows],
        [_colour(row) for row in rows],
        len(table.rows) - len(rows),
    )


def _totals(table: Table) -> str:
    total = table.total
    return "   ".join(
        (
            f"{_rate(total.rate_per_second)} requests/s",
            f"{_ratio(total.error_ratio)} errors",
            *(f"p{round(q * 100)} {_duration(total.quantile_seconds(q))}" for q in (0.5, 0.95, 0.99)),
            f"{table.active_requests:.0f} in progress",
            f"{table.workers:.0f} worker{'s' * (table.workers != 1)}",
        )
    )


def _cells(row: Row, *, has_apps: bool) -> tuple[str, ...]:
    route = f"{row.method} {row.route or '(no route)'}"
    return (
        _rate(row.rate_per_second),
        _ratio(row.error_ratio),
        *(_duration(row.quantile_seconds(quantile)) for quantile in (0.5, 0.95, 0.99)),
        f"{row.requests_total:.0f}",
        printable(f"{row.app}: {route}" if has_apps else route),
    )


def _colour(row: Row) -> str | None:
    if not row.errors:
        return None
    return "red" if row.error_ratio >= BAD_RATIO else "yellow"


def _rate(per_second: float) -> str:
    return NONE if math.isnan(per_second) else f"{per_second:.1f}"


def _ratio(ratio: float) -> str:
    return NONE if math.isnan(ratio) else f"{ratio:.1%}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return NONE
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def text_of(lines: Lines, *, colors: bool = False) -> str:
    """Return it as text, each line with its newline."""
    widths = [max(map(len, column)) for column in zip(HEADER, *lines.cells, strict=True)]

    def joined(cells: tuple[str, ...]) -> str:
        *figures, route = cells
        return "  ".join([*(cell.rjust(width) for cell, width in zip(figures, widths, strict=False)), route])

    def styled(text: str, colour: str | None = None, **styles: bool) -> str:
        return click.style(text, fg=colour, **styles) if colors else text

    shown = [
        styled(lines.heading, bold=True),
        lines.totals,
        *(styled(problem, "red") for problem in lines.problems),
        "",
        styled(joined(HEADER), bold=True),
        *(styled(joined(cells), colour) for cells, colour in zip(lines.cells, lines.colours, strict=True)),
    ]
    if lines.others:
        shown.append(f"… and {lines.others} more")
    return "\n".join(shown) + "\n"


@contextmanager
def screen() -> Iterator[Callable[[Table], None]]:
    """Give what shows a table.

    On a terminal it takes the place of the one before, with rich where that is installed, and the last one stays when
    all is over. Elsewhere tables follow each other, and what could not be read is told on standard error.
    """
    if not sys.stdout.isatty():
        yield print_table
        return
    last: list[Table] = []

    def show(table: Table) -> None:
        last[:] = [table]
        show_there(table)

    try:
        with _terminal() as show_there:
            yield show
    finally:
        for table in last:
            click.echo(text_of(lines_of(table), colors=True))


def print_table(table: Table) -> None:
    """Print it as text, what could not be read on standard error."""
    for problem in lines_of(table).problems:
        click.echo(f"Error: {problem}", err=True)
    if not table.is_empty:
        click.echo(text_of(lines_of(dataclasses.replace(table, problems=[]))))


def _terminal() -> AbstractContextManager[Callable[[Table], None]]:
    return plain_screen() if importlib.util.find_spec("rich") is None else rich_screen()


@contextmanager
def plain_screen() -> Iterator[Callable[[Table], None]]:
    """The alternate screen of the terminal, with text."""

    def show(table: Table) -> None:
        width, height = shutil.get_terminal_size()
        lines = lines_of(table, max_rows=height - 6 - len(table.problems))
        rows = text_of(lines, colors=False).splitlines()
        click.echo(HOME + "".join(f"{row[:width]}{CLEAR_LINE}\r\n" for row in rows) + CLEAR_REST, nl=False)

    click.echo(ENTER, nl=False)
    try:
        yield show
    finally:
        click.echo(LEAVE, nl=False)


@contextmanager
def rich_screen() -> Iterator[Callable[[Table], None]]:
    """The same, coloured and fitted to the terminal by rich."""
    from rich.console import Console  # noqa: PLC0415 - of the extra cli
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()

    def show(table: Table) -> None:
        lines = lines_of(table, max_rows=console.height - 6 - len(table.problems))
        grid = RichTable(box=None, pad_edge=False, header_style="bold")
        for name in HEADER:
            is_route = name == HEADER[-1]
            grid.add_column(name, justify="left" if is_route else "right", no_wrap=True, overflow="ellipsis")
        for cells, colour in zip(lines.cells, lines.colours, strict=True):
            grid.add_row(*map(Text, cells), style=colour)
        problems = [Text(problem, "red", no_wrap=True, overflow="ellipsis") for problem in lines.problems]
        others = [Text(f"… and {lines.others} more", "dim")] if lines.others else []
        live.update(Group(Text(lines.heading, "bold"), Text(lines.totals), *problems, Text(), grid, *others))
        live.refresh()

    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield show
