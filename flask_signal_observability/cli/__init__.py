"""``flask observability …``: one module for each command, added to this group."""

from __future__ import annotations

import click

from .audit import audit
from .check import check
from .dashboards import dashboards

__all__ = ["cli"]

EXAMPLES = """\b
Examples:
  flask --app shop observability check
  flask observability audit verify access_audit.log
  flask observability dashboards export ./grafana
  flask observability dashboards push --url https://grafana.example.org
"""


@click.group("observability", short_help="Audit files, dashboards, rules and alerts.", epilog=EXAMPLES)
def cli() -> None:
    """What belongs to an observed app and does not run in it."""


cli.add_command(audit)
cli.add_command(check)
cli.add_command(dashboards)
