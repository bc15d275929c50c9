"""The dashboards, rules and runbook that come with the package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .errors import ObservabilityError

__all__ = ["DashboardFilesError", "bound", "export", "source"]

ALERTS = "rules/alerts.yaml"

BESIDE_THE_DASHBOARDS = ("rules/recording.yaml", ALERTS, "RUNBOOK.md")
"""All of ``rules/`` can be given to Prometheus as it is: the rules' tests, which it refuses, stay in the checkout."""


class DashboardFilesError(ObservabilityError):
    """The files cannot be read, or not be written; the message says which and what to do."""


def source() -> Path:
    """Return the directory that holds them: inside an installed wheel, or beside the package in a checkout.

    Raises:
        DashboardFilesError: this installation lacks them.
    """
    package = Path(__file__).parent
    for directory in (package / "_dashboards", package.parent / "dashboards"):
        if (directory / "overview.json").is_file():
            return directory
    raise DashboardFilesError(f"there are no dashboards in {package}: install the package from its wheel")


def bound(datasource: str | None) -> list[dict[str, Any]]:
    """Return the dashboards, in the order of their names.

    Args:
        datasource: name of the only data source that they then offer; None: the reader chooses.

    Raises:
        DashboardFilesError: this installation lacks them.
    """
    return [_bind(json.loads(path.read_text("utf-8")), datasource) for path in sorted(source().glob("*.json"))]


def export(
    directory: Path,
    *,
    datasource: str | None = None,
    grafana_url: str | None = None,
    runbook_url: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Write dashboards, rules and runbook; return what was written. Nothing is written if any file is in the way.

    Args:
        directory: made if need be.
        datasource: as for `bound`.
        grafana_url: of Grafana's start page, http or https; before each ``dashboard_url`` of the alerts, which
            otherwise begins with ``/d/``.
        runbook_url: where RUNBOOK.md can be read, http or https; in each ``runbook_url`` of the alerts, before the
            ``#`` of the alert's heading.
        force: whether a file that is there and differs is written over.

    Raises:
        DashboardFilesError: a url is none, a file is in the way, or the system refuses.
    """
    links = {"dashboard_url": grafana_url, "runbook_url": runbook_url}
    for name, url in links.items():
        if url is not None and not URL.fullmatch(url):
            remedy = "give an address such as https://example.org/path, without user, query or fragment"
            raise DashboardFilesError(f"what was given cannot begin a {name}: {remedy}")
    try:
        texts = _texts(datasource)
        texts[ALERTS] = _linked(texts[ALERTS], links)
        wanted = {directory / name: text for name, text in texts.items()}
        in_the_way = [path for path, text in wanted.items() if path.exists() and path.read_text("utf-8") != text]
        if in_the_way and not force:
            raise DashboardFilesError(f"{', '.join(map(str, in_the_way))}: there and different; --force writes over")
        for path, text in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DashboardFilesError(f"cannot export into {directory}: {error}") from error
    return list(wanted)


def _texts(datasource: str | None) -> dict[str, str]:
    directory = source()
    dashboards = {f"{board['uid'].removeprefix('fso-')}.json": board for board in bound(datasource)}
    texts = {name: json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in dashboards.items()}
    return {**texts, **{name: (directory / name).read_text("utf-8") for name in BESIDE_THE_DASHBOARDS}}


URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~%+-]*)?", re.ASCII)
"""Without a user, a query or a fragment, and without what means something in YAML or in Prometheus' templates."""

BEGINS = {"dashboard_url": r"(?=/d/)", "runbook_url": r"(?=#)"}
"""What follows in the annotation of an alert."""


def _linked(alerts: str, links: dict[str, str | None]) -> str:
    for name, url in links.items():
        if url is not None:
            start = url.rstrip("/") if name == "dashboard_url" else url
            alerts = re.sub(rf"(?m)^( +{name}: '?)[^'\n]*?{BEGINS[name]}", rf"\g<1>{start}", alerts)
    return alerts


def _bind(dashboard: dict[str, Any], datasource: str | None) -> dict[str, Any]:
    """Leave the variable only one name to choose: panels keep ``${datasource}``, whatever uid Grafana gave it."""
    if datasource is not None:
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "datasource":
                variable["regex"] = f"/^{re.escape(datasource)}$/"
                variable["current"] = {"text": datasource, "value": datasource}
    return dashboard
