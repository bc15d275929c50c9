"""``flask observability metrics``."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap

import click
from flask.cli import pass_script_info
from flask.cli import ScriptInfo

from ..errors import ObservabilityError
from ..exposition import collectors_of
from ..inspection.metrics import exported
from ..inspection.metrics import Family
from ..inspection.metrics import scraped
from ..text import printable
from ..top.target import Target
from .audit_verify import json_option
from .audit_verify import reported
from .observed_app import pipeline_of
from .top import token_option

__all__ = ["metrics"]

EXAMPLES = """\b
Examples:
  flask --app shop observability metrics
  flask --app shop observability metrics --prometheus-names
  flask observability metrics http://localhost:8000/metrics
  flask observability metrics localhost:8000 --json | jq '.metrics | sort_by(-.samples) | .[0]'
"""


@click.command(short_help="Show what is exported: type, unit, labels, series.", epilog=EXAMPLES)
@click.argument("url", required=False)
@click.option(
    "--prometheus-names", "names_only", is_flag=True, help="Only the names of the time series, as queries have them."
)
@token_option
@json_option
@pass_script_info
def metrics(info: ScriptInfo, url: str | None, token: str | None, *, names_only: bool, as_json: bool) -> None:
    """Show every metric: what it is, its labels, and how many series it has; those of watched signals, too.

    Without URL it loads the app and tells what that exports before its first request. With URL it asks a running
    one, and needs no app: FLASK_APP may be unset. Exit codes: 0 shown, 2 the app or its metrics cannot be had.
    """
    with reported(as_json=as_json):
        families = _of_app(info) if url is None else scraped(Target(url, token=token).families())
    families.sort(key=lambda family: family.name)
    if names_only:
        names = sorted({name for family in families for name in family.names})
        click.echo(json.dumps({"names": names}) if as_json else "\n".join(names))
    elif as_json:
        click.echo(json.dumps({"metrics": [dataclasses.asdict(family) for family in families]}))
    else:
        width = min(shutil.get_terminal_size().columns, 100)
        for family in families:
            click.echo(_shown(family, width))
        total = sum(family.samples for family in families)
        click.echo(f"\n{len(families)} metrics, {total} time series")


def _of_app(info: ScriptInfo) -> list[Family]:
    pipeline = pipeline_of(info)
    if pipeline.exposition is None:
        raise ObservabilityError(f"the app {pipeline.app_name!r} exports no metrics: its setting metrics is False")
    registry = pipeline.exposition.registry
    return exported(registry, collectors_of(registry, None))


def _shown(family: Family, width: int) -> str:
    what = " ".join(filter(None, (family.kind, f"in {family.unit}" if family.unit else "")))
    has = f"{family.series} series" + (f", {family.samples} time series" if family.samples != family.series else "")
    lines = [f"{click.style(printable(family.name), bold=True)}  {what}, {has} ({family.origin})"]
    indent = " " * 4
    for text in (family.help, "labels: " + " ".join(family.labels) if family.labels else ""):
        if text:
            lines.append(textwrap.fill(printable(text), width, initial_indent=indent, subsequent_indent=indent * 2))
    return "\n".join(lines)
