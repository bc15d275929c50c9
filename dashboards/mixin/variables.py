"""What a reader can choose, what is marked in every panel, and the frame that all five dashboards share."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync
from grafana_foundation_sdk.models.dashboard import DashboardLinkType
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.dashboard import VariableOption
from grafana_foundation_sdk.models.dashboard import VariableRefresh
from grafana_foundation_sdk.models.dashboard import VariableSort

from .panels import SOURCE
from .queries import APP
from .queries import DURATION
from .queries import PROCESS
from .queries import total
from .queries import WINDOW

__all__ = ["TAG", "frame"]

TAG = "flask-signal-observability"

QUERIES = {
    "job": "label_values(flask_app_info, job)",
    "instance": 'label_values(flask_app_info{job=~"$job"}, instance)',
    "flask_app": f"label_values(flask_app_info{{{PROCESS}}}, flask_app)",
    "http_route": f"label_values({DURATION}_count{{{APP}}}, http_route)",
}

MATCHES_ALL = {"http_route": ".*"}
"""Unmatched URLs have an empty route, and belong to all of them; every other label is always there: ``.+``."""

TITLES = {"job": "Job", "instance": "Instance", "flask_app": "App", "http_route": "Route"}


def frame(name: str, title: str, description: str, *variables: str) -> dashboard.Dashboard:
    """Begin a dashboard with these variables, the deploys, and links to its siblings."""
    board = (
        dashboard.Dashboard(f"Flask / {title}")
        .uid(f"fso-{name}")
        .description(description)
        .tags([TAG, "flask"])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(siblings())
        .annotations([by_hand(), deploys(), starts()])
    )
    for variable in variables:
        board.with_variable(choice(variable))
    return board


def choice(name: str) -> dashboard.QueryVariable:
    """Any number of a label's values; all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(TITLES[name])
        .datasource(SOURCE)
        .query(QUERIES[name])
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(MATCHES_ALL.get(name, ".+"))
        .current(VariableOption(text=["All"], value=["$__all"]))
    )


def siblings() -> dashboard.DashboardLink:
    """Lead to the other dashboards with the same choices and times."""
    return (
        dashboard.DashboardLink("Flask")
        .type(DashboardLinkType.DASHBOARDS)
        .icon("external link")
        .tooltip("")
        .url("")
        .tags([TAG])
        .as_dropdown(as_dropdown=False)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
        .target_blank(target_blank=False)
    )


def by_hand() -> dashboard.AnnotationQuery:
    """Show the marks that people leave, which Grafana does in every dashboard of its own making."""
    return (
        dashboard.AnnotationQuery()
        .name("Annotations & Alerts")
        .datasource(DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .type("dashboard")
        .icon_color("rgba(0, 211, 255, 1)")
        .built_in(1)
        .hide(hide=True)
    )


def deploys() -> dashboard.AnnotationQuery:
    """Mark the moment when a version appears that was not there before."""
    by = ("job", "flask_app", "service_version", "flask_version", "python_version")
    now = total("flask_app_info", PROCESS, by=by, function="max")
    # An hour: a version whose scrape failed in between has not been deployed again.
    before = f"last_over_time(flask_app_info{{{PROCESS}}}[1h] offset {WINDOW})"
    before = f"max by ({', '.join(by)}) ({before})"
    return mark("Deploys", "{{flask_app}} {{service_version}}", "blue", f"{now} unless {before}")


def starts() -> dashboard.AnnotationQuery:
    """Mark a process that is younger than those before it, or the first of its instance."""
    by = ("job", "instance")
    now = total("process_start_time_seconds", PROCESS, by=by, function="max", app=PROCESS)
    before = total("process_start_time_seconds", PROCESS, by=by, function="max", offset=WINDOW)
    return mark("Process starts", "{{instance}} started", "purple", f"{now} unless {now} <= {before}")


def mark(name: str, title: str, color: str, expression: str) -> dashboard.AnnotationQuery:
    """Annotate every time at which an expression has a value."""
    return Mark(title).name(name).datasource(SOURCE).icon_color(color).expr(expression).hide(hide=False)


class Mark(dashboard.AnnotationQuery):
    """The SDK's builder, which cannot give a title."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._internal = TitledAnnotation(title)


class TitledAnnotation(models.AnnotationQuery):
    """An annotation whose title is made of labels."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def to_json(self) -> dict[str, object]:
        """Add the title to what the SDK writes."""
        return {**super().to_json(), "titleFormat": self.title}
