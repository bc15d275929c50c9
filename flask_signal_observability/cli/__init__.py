"""``flask observability …``: one module for each command, imported when it is asked for.

Flask loads this group for every one of its commands: ``flask run`` shall not wait for those that it does not run.
"""

from __future__ import annotations

import importlib

import click

__all__ = ["cli"]

COMMANDS = ("audit", "check", "config", "dashboards", "metrics", "signals", "tail", "top")
"""Each is called as its module, and as what the module holds."""

EXAMPLES = """\b
Examples:
  flask --app shop observability check
  flask observability top http://localhost:8000/metrics
  flask observability tail app.log --follow --status 5xx
  flask observability tail app.log --trace 7e981054 --audit access_audit.log
  flask --app shop observability config --changed
  flask --app shop observability signals
  flask observability metrics http://localhost:8000/metrics
  flask observability audit verify access_audit.log
  flask observability dashboards export ./grafana
"""


class _Lazy(click.Group):
    """Imports a command when somebody asks for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __name__), cmd_name)
        return command


@click.group(
    "observability",
    cls=_Lazy,
    short_help="Watch a running app; read its records, audit files, settings, signals; dashboards.",
    epilog=EXAMPLES,
)
def cli() -> None:
    """What belongs to an observed app and does not run in it.

    check, config, metrics and signals need the app (flask --app, or FLASK_APP); the others need none.
    """
