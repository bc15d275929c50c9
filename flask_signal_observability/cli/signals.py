"""``flask observability signals``."""

from __future__ import annotations

import dataclasses
import json

import click
from flask.cli import pass_script_info
from flask.cli import ScriptInfo

from ..inspection.signals import ObservedSignal
from ..inspection.signals import signals_of
from ..text import printable
from .audit_verify import json_option
from .audit_verify import reported
from .observed_app import pipeline_of

__all__ = ["signals"]

EXAMPLES = """\b
Examples:
  flask --app shop observability signals
  flask --app shop observability signals --json | jq '.signals[] | select(.listeners != [])'
"""


@click.command(short_help="Show each signal: who listens, what becomes of it.", epilog=EXAMPLES)
@json_option
@pass_script_info
def signals(info: ScriptInfo, *, as_json: bool) -> None:
    """Show Flask's ten signals, the watched ones, and those of event_bus: what becomes of each, and who else listens.

    Told is what is connected when the app has been loaded. Exit codes: 0 shown, 2 the app cannot be loaded or is not
    observed.
    """
    with reported(as_json=as_json):
        pipeline = pipeline_of(info)
    found = signals_of(pipeline)
    if as_json:
        told = {"flask_app": pipeline.app_name, "signals": [dataclasses.asdict(signal) for signal in found]}
        click.echo(json.dumps(told))
        return
    for signal in found:
        click.echo(_shown(signal))


def _shown(signal: ObservedSignal) -> str:
    state = signal.kind if signal.is_observed else f"{signal.kind}, not observed"
    lines = [f"{click.style(printable(signal.name), bold=True)}  ({state})"]
    lines += [f"    -> {printable(output)}" for output in signal.outputs]
    lines += [f"    heard by {listener}" for listener in signal.listeners]
    if signal.listeners_to_others:
        lines.append(f"    {signal.listeners_to_others} receivers for other senders")
    return "\n".join(lines)
