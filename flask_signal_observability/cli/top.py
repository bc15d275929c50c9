"""``flask observability top``."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from typing import TYPE_CHECKING

import click

from ..top.screen import screen
from ..top.table import COLUMNS
from ..top.table import Tables
from ..top.target import Target
from .audit_verify import json_option
from .audit_verify import reported

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from ..top.table import Column
    from ..top.table import Table

__all__ = ["token_option", "top"]

TOKEN_VARIABLE = "METRICS_TOKEN"  # noqa: S105 - the name of a variable
UNREADABLE = 2

EXAMPLES = f"""\b
Examples:
  flask observability top http://localhost:8000/metrics
  flask observability top localhost:8000 localhost:8001 --sort p99 --interval 5
  {TOKEN_VARIABLE}=… flask observability top https://shop.example.org/metrics
  flask observability top localhost:8000 --once
  flask observability top localhost:8000 --count 60 --interval 1 --json | jq .total.rate_per_second
"""

token_option = click.option(
    "--token",
    default=lambda: os.environ.get(TOKEN_VARIABLE),
    help=f"That of metrics_access; default: the variable {TOKEN_VARIABLE}, which other users cannot see.",
)


@click.command(short_help="Show a running app's routes, live.", epilog=EXAMPLES)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option(
    "--sort", type=click.Choice(COLUMNS), default="rate", show_default=True, help="The column; figures from above."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two scrapes.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many refreshes; default: at Ctrl-C.")
@click.option("--once", is_flag=True, help="One refresh: what happens within one interval.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@token_option
@json_option
def top(
    urls: tuple[str, ...],
    sort: Column,
    interval: float,
    count: int | None,
    timeout: float,
    token: str | None,
    *,
    once: bool,
    as_json: bool,
) -> None:
    """Show the routes of the app behind URL: rate, errors, p50, p95 and p99 of the last interval, requests in all.

    Several URLs, of several instances, are added up. Needs no app: FLASK_APP may be unset. A target that does not
    answer is named, and asked again. Quantiles are what Prometheus' histogram_quantile makes of the same buckets; a
    request is an error if its error_type is set. With --json each refresh is one object a line, durations in seconds.

    Exit codes: 0 done, or ended by Ctrl-C; 2 a target could not be read (with --once or --count: at the last refresh).
    """
    with reported(as_json=as_json):
        targets = [Target(url, token=token, timeout_seconds=timeout) for url in dict.fromkeys(urls)]
        refreshes = 1 if once else count
        table = None
        with contextlib.suppress(KeyboardInterrupt), _output(as_json=as_json) as show:
            for table in _refreshed(Tables(targets, sort=sort), interval, refreshes, shows_first=not as_json):
                show(table)
    if table is not None and table.problems and refreshes is not None:
        raise click.exceptions.Exit(UNREADABLE)


def _refreshed(tables: Tables, interval_seconds: float, refreshes: int | None, *, shows_first: bool) -> Iterator[Table]:
    """Give a table for each interval; where it goes on for ever, one of all the time before, too."""
    next_at = time.monotonic()
    first = tables.refresh()
    if shows_first and refreshes is None:
        yield first
    elif first.is_empty and refreshes == 1:
        yield first  # nothing will come of waiting
        return
    for _ in itertools.count() if refreshes is None else range(refreshes):
        # From a clock that does not drift; late ones are left out.
        next_at = max(next_at + interval_seconds, time.monotonic())
        time.sleep(max(next_at - time.monotonic(), 0))
        yield tables.refresh()


@contextlib.contextmanager
def _output(*, as_json: bool) -> Iterator[Callable[[Table], None]]:
    if as_json:
        yield lambda table: click.echo(json.dumps(table.told()))
        return
    with screen() as show:
        yield show
