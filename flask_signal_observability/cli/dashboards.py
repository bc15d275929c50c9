"""``flask observability dashboards``: to a directory, or to a Grafana."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import click

from .. import dashboard_files
from ..errors import ObservabilityError
from ..grafana import Grafana

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

__all__ = ["dashboards"]

TOKEN_VARIABLE = "GRAFANA_TOKEN"  # noqa: S105  # the name of a variable

datasource_option = click.option(
    "--datasource", metavar="NAME", help="The Prometheus data source to bind them to; without it the reader chooses."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


@contextmanager
def reported(*, as_json: bool, done: Mapping[str, object] | None = None) -> Iterator[None]:
    """End with exit code 1 and one line on standard error, with ``--json`` an object on standard output.

    The object also holds what had been ``done`` before.
    """
    try:
        yield
    except ObservabilityError as error:
        click.echo(
            json.dumps({"error": str(error), **(done or {})}) if as_json else f"Error: {error}.", err=not as_json
        )
        raise click.exceptions.Exit(1) from error


EXPORT_EXAMPLES = """\b
Examples:
  flask observability dashboards export ./grafana
  flask observability dashboards export ./grafana --datasource Prometheus --force
  flask observability dashboards export ./grafana --grafana-url https://grafana.example.org \\
      --runbook-url https://wiki.example.org/flask/RUNBOOK.md
"""

PUSH_EXAMPLES = """\b
Examples:
  GRAFANA_TOKEN=glsa_… flask observability dashboards push --url https://grafana.example.org
  flask observability dashboards push --url http://localhost:3000 --folder flask --json
"""


@click.group(short_help="Export them, or push them to Grafana.")
def dashboards() -> None:
    """The five Grafana dashboards, recording rules, alerts and runbook.

    They need no app: FLASK_APP may be unset. Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


@dashboards.command(short_help="Write them into a directory.", epilog=EXPORT_EXAMPLES)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@datasource_option
@click.option("--grafana-url", metavar="URL", help="Where Grafana is, for the alerts' links to dashboards.")
@click.option("--runbook-url", metavar="URL", help="Where RUNBOOK.md can be read, for the alerts' links to it.")
@click.option("--force", is_flag=True, help="Write over files that are there and differ.")
@json_option
def export(
    directory: Path,
    datasource: str | None,
    grafana_url: str | None,
    runbook_url: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Write dashboards, rules and runbook into DIRECTORY, which is made if need be.

    Without the two addresses the alerts' links begin with /d/ and with dashboards/RUNBOOK.md, and lead nowhere.
    """
    with reported(as_json=as_json):
        written = dashboard_files.export(
            directory, datasource=datasource, grafana_url=grafana_url, runbook_url=runbook_url, force=force
        )
    if as_json:
        click.echo(json.dumps({"written": [str(path) for path in written]}))
    else:
        for path in written:
            click.echo(f"written: {path}")
        click.echo("Import the *.json in Grafana, or push them; load rules/*.yaml under rule_files of Prometheus.")


@dashboards.command(short_help="Upload them through Grafana's HTTP API.", epilog=PUSH_EXAMPLES)
@click.option("--url", required=True, help="Where Grafana is, with its sub-path: https://example.org/grafana.")
@click.option(
    "--token",
    default=lambda: os.environ.get(TOKEN_VARIABLE),
    help=f"Token of a service account that may write dashboards; default: the variable {TOKEN_VARIABLE}.",
)
@click.option("--folder", metavar="UID", help="The folder's uid, the end of its address; default: the general folder.")
@datasource_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for each answer.",
)
@json_option
def push(
    url: str, token: str | None, folder: str | None, datasource: str | None, *, timeout: float, as_json: bool
) -> None:
    """Upload the dashboards through Grafana's HTTP API; those that are there are replaced.

    Certificates are checked; SSL_CERT_FILE names an authority of your own. The rules belong to Prometheus: export them.
    """
    if not token:
        raise click.UsageError(f"There is no token: give --token, or set {TOKEN_VARIABLE}.")
    pushed: list[dict[str, Any]] = []
    with reported(as_json=as_json, done={"pushed": pushed}):
        grafana = Grafana(url, token, timeout_seconds=timeout)
        for dashboard in dashboard_files.bound(datasource):
            pushed.append(grafana.put(dashboard, folder_uid=folder))
            if not as_json:
                click.echo(f"pushed: {pushed[-1]['url']}")
    if as_json:
        click.echo(json.dumps({"pushed": pushed}))
