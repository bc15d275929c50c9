"""``flask observability audit verify``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..audit.key import AuditKey
from ..audit.verification import verify as verified
from ..errors import ObservabilityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from ..audit.verification import Report

__all__ = ["files_argument", "json_option", "reported", "verify"]

KEY_VARIABLE = "OBSERVABILITY_AUDIT_KEY"
KEY_FILE_VARIABLE = "OBSERVABILITY_AUDIT_KEY_FILE"
CANNOT = 2

files_argument = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")

VERIFY_EXAMPLES = f"""\b
Examples:
  flask observability audit verify access_audit.log*
  flask observability audit verify access_audit.log --key-file /run/secrets/audit_key
  flask observability audit verify access_audit.log* --key-file new_key --key-file old_key --json
  {KEY_VARIABLE}=… flask observability audit verify access_audit.log --heads /mnt/elsewhere/access_audit.log.heads
"""


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """End with exit code 2 and one line on standard error, with ``--json`` an object on standard output."""
    try:
        yield
    except ObservabilityError as error:
        click.echo(json.dumps({"error": str(error)}) if as_json else f"Error: {error}.", err=not as_json)
        raise click.exceptions.Exit(CANNOT) from error


@click.command(short_help="Tell whether they are as they were written.", epilog=VERIFY_EXAMPLES)
@files_argument
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"A key that sealed them; several after a change of keys. Default: {KEY_FILE_VARIABLE}, {KEY_VARIABLE}.",
)
@click.option(
    "--heads",
    "heads_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A heads file kept elsewhere, read with those beside the files.",
)
@json_option
def verify(
    files: tuple[Path, ...], key_files: tuple[Path, ...], heads_files: tuple[Path, ...], *, as_json: bool
) -> None:
    """Tell whether FILES are as they were written, by their chains, and name what is not.

    Needs audit_chain. Exit codes: 0 intact, 1 tampered with, 2 cannot be checked, 3 nothing but a torn record.
    """
    with reported(as_json=as_json):
        keys = _keys(key_files)
        with _progress(files, hidden=as_json) as on_progress:
            report = verified(files, keys, heads=heads_files, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(report), "verdict": report.verdict.name.lower()}))
    else:
        _print_report(report)
    raise click.exceptions.Exit(report.verdict)


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
        f"{verdict}: {report.proved} of {report.lines} lines proved; "
        f"files: {len(report.files)}, writers: {report.writers}, findings: {len(report.findings)}"
    )
