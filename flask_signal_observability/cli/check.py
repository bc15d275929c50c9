"""``flask observability check``."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections import Counter
from contextlib import contextmanager
from typing import Any
from typing import TYPE_CHECKING

import click
from flask.cli import ScriptInfo

from ..text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    from ..checks.finding import Finding
    from ..checks.target import Target
    from ..pipeline import Pipeline

__all__ = ["check"]

MARKS = {"ok": "✓", "warning": "!", "error": "✗"}
WORDS = {"ok": "ok", "warning": "warning", "error": "ERROR"}
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}

WARNINGS, ERRORS = 1, 2

TOLD_BY_ROOMS = frozenset({"boundary", "exporters", "otlp_logs", "audit", "log_output", "prerequisites"})
"""The modules whose warnings at the start are findings of their own."""

CHECK_EXAMPLES = """\b
Examples:
  flask --app shop observability check
  flask --app shop observability check --url http://localhost:8000/metrics
  flask --app shop observability check --strict --json | jq '.findings[] | select(.level != "ok")'
"""


@click.command(short_help="Find what is set up wrong.", epilog=CHECK_EXAMPLES)
@click.option("--url", metavar="URL", help="The metrics of the app where it runs: http://localhost:8000/metrics.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=60),
    default=2.0,
    show_default=True,
    help="Seconds for each step over the network.",
)
@click.option("-q", "--quiet", is_flag=True, help="Leave out what is ok.")
@click.option("--strict", is_flag=True, help="Let warnings end with exit code 1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.pass_context
def check(context: click.Context, url: str | None, timeout: float, *, quiet: bool, strict: bool, as_json: bool) -> None:
    """Look at what a person would check by hand, and say what to do.

    Settings and where they come from; whether the collector takes an (empty) export; /metrics; files; workers; sampler;
    clock; who else observes the app. The app is loaded as by flask run; nothing is changed, and no request but the
    scrape is made. Exit codes: 0 nothing is wrong, 1 warnings (with --strict), 2 errors.
    """
    with _app_loaded(context.ensure_object(ScriptInfo), url, timeout) as target:
        findings = _looked_round(target)
    counts = Counter(finding.level.value for finding in findings)
    if as_json:
        told = [dataclasses.asdict(finding) for finding in findings]
        click.echo(json.dumps({"findings": told, **{level: counts[level] for level in MARKS}}))
    else:
        _print(findings, quiet=quiet)
    code = ERRORS if counts["error"] else WARNINGS if counts["warning"] and strict else 0
    raise click.exceptions.Exit(code)


def _looked_round(target: Target) -> list[Finding]:
    from ..checks.finding import Report  # noqa: PLC0415 - of no use to the other commands

    try:
        from ..checks.rounds import look_round  # noqa: PLC0415
    except ValueError as error:  # the SDK reads some of its variables where it is imported
        what = f"OpenTelemetry's SDK cannot be imported, so the app does not start: {error}"
        given = ", ".join(sorted(name for name in target.environ if name.startswith("OTEL_")))
        return [Report("tracing").error(what, f"mend or unset the variable that has this value, of {given}")]
    return look_round(target)


@contextmanager
def _app_loaded(script: ScriptInfo, url: str | None, timeout_seconds: float) -> Iterator[Target]:
    """Load the app, keep what it warns of, and close again what it opened at its start."""
    from ..checks.target import Attempt  # noqa: PLC0415
    from ..checks.target import Target  # noqa: PLC0415

    attempt, warned = Attempt(), _Warnings()
    ours = logging.getLogger("flask_signal_observability")
    ours.addHandler(warned)
    propagated, ours.propagate = ours.propagate, False
    try:
        app = attempt.make("load", script.load_app)
    finally:
        ours.removeHandler(warned)
        ours.propagate = propagated
    target = Target(os.environ, app, attempt.error, tuple(warned.texts), url, timeout_seconds)
    try:
        yield target
    finally:
        _close(target.pipeline)


def _close(pipeline: Pipeline | None) -> None:
    if pipeline is None:
        return
    if pipeline.metrics_server is not None:
        pipeline.metrics_server.close()
        pipeline.metrics_server = None
    for sink in pipeline.sinks:
        push = getattr(sink, "push", None) if getattr(sink, "name", "") == "metrics" else None
        if push is not None:
            push.abandon()


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        is_port = record.module == "server"  # a running process of the app has it
        if record.module not in TOLD_BY_ROOMS and not is_port:
            self.texts.append(record.getMessage())


def _print(findings: Sequence[Finding], *, quiet: bool) -> None:
    is_terminal = sys.stdout.isatty()
    marks = MARKS if is_terminal and _takes("".join(MARKS.values())) else WORDS
    mark_width = max(map(len, marks.values()))
    shown = [finding for finding in findings if not (quiet and finding.level.value == "ok")]
    width = max((len(finding.subject) for finding in shown), default=0)
    for finding in shown:
        level = finding.level.value
        mark = click.style(f"{marks[level]:{mark_width}}", fg=COLOURS[level], bold=level != "ok")
        click.echo(f"{mark}  {finding.subject:{width}}  {_one_line(finding.what)}")
        if finding.remedy:
            click.echo(f"{'':{mark_width + 2 + width}}  {click.style('->', bold=True)} {_one_line(finding.remedy)}")
    counts: dict[Any, int] = Counter(finding.level.value for finding in findings)
    told = ", ".join(counted(counts[level], level) for level in ("error", "warning"))
    click.echo(f"{told}, {counts['ok']} ok")


def _takes(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _one_line(text: str) -> str:
    """A server, a file or a variable may have chosen a part of it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
