"""``flask observability config``."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap

import click
from flask.cli import pass_script_info
from flask.cli import ScriptInfo

from ..inspection.settings import as_markdown
from ..inspection.settings import Setting
from ..inspection.settings import settings_of
from ..text import printable
from .audit_verify import json_option
from .audit_verify import reported
from .observed_app import pipeline_of

__all__ = ["config"]

EXAMPLES = """\b
Examples:
  flask --app shop observability config
  flask --app shop observability config --changed
  flask --app shop observability config --json | jq '.settings[] | select(.name == "metrics_access")'
  flask observability config --markdown > configuration.md
"""


@click.command(short_help="Show every setting: value, source, meaning.", epilog=EXAMPLES)
@click.option("--changed", is_flag=True, help="Only what somebody has set.")
@click.option("--markdown", is_flag=True, help="The reference of all settings as a table; needs no app.")
@json_option
@pass_script_info
def config(info: ScriptInfo, *, changed: bool, markdown: bool, as_json: bool) -> None:
    """Show every setting of the app: its value, where that comes from, and what it means. Secrets are masked.

    A keyword of Observability beats app.config, which beats the environment. Exit codes: 0 shown, 2 the app cannot be
    loaded or is not observed, or a setting is wrong.
    """
    if markdown:
        click.echo(as_markdown(), nl=False)
        return
    with reported(as_json=as_json):
        pipeline = pipeline_of(info)
        settings = [setting for setting in settings_of(pipeline.config) if setting.is_given or not changed]
    if as_json:
        told = {"flask_app": pipeline.app_name, "settings": [dataclasses.asdict(setting) for setting in settings]}
        click.echo(json.dumps(told))
        return
    width = min(shutil.get_terminal_size().columns, 100)
    for setting in settings:
        click.echo(_shown(setting, width))


def _shown(setting: Setting, width: int) -> str:
    indent = " " * 4
    meaning = textwrap.fill(setting.meaning, width, initial_indent=indent, subsequent_indent=indent)
    line = f"{click.style(setting.name, bold=True)} = {printable(repr(setting.value))}  ({setting.source})"
    return f"{line}\n{meaning}" if meaning else line
