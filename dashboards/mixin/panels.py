"""The kinds of panel that the dashboards are made of, each as a builder of Grafana's SDK, ready to be refined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.builders import heatmap
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.common import BigValueGraphMode
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.common import LegendDisplayMode
from grafana_foundation_sdk.models.common import LegendPlacement
from grafana_foundation_sdk.models.common import SortOrder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.common import TooltipDisplayMode
from grafana_foundation_sdk.models.common import VisibilityMode
from grafana_foundation_sdk.models.dashboard import DashboardLinkType
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig
from grafana_foundation_sdk.models.dashboard import Threshold
from grafana_foundation_sdk.models.dashboard import ThresholdsMode
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SOURCE",
    "Panel",
    "columns",
    "count",
    "heat",
    "limit",
    "lines",
    "number",
    "query",
    "rows",
    "section",
    "stacked",
    "steps",
    "to_route",
]

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

Panel = Builder[models.Panel]


def section(board: dashboard.Dashboard, title: str, *panels: Panel) -> None:
    """Add a heading and what stands below it, left to right; each line of panels is 24 wide."""
    board.with_row(dashboard.Row(title))
    for panel in panels:
        board.with_panel(panel)


def query(expression: str, legend: str, *, exemplars: bool = False) -> prometheus.Dataquery:
    """Ask for a line over time."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().exemplar(exemplars)


def number(title: str, description: str, unit: str, expression: str) -> stat.Panel:
    """One value now, with its course behind it; without thresholds of ours Grafana would add its own."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(4)
        .with_target(query(expression, title))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .thresholds(steps(base="blue"))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False).fields(""))
    )


def count(title: str, description: str, expression: str) -> stat.Panel:
    """How often something happened in the time shown; the expression counts over `RANGE`, and 0 is shown as such."""
    target = prometheus.Dataquery().expr(f"{expression} or vector(0)").legend_format(title).instant()
    return (
        number(title, f"{description} Over the time shown.", "short", expression)
        .targets([target])
        .decimals(0)
        .graph_mode(BigValueGraphMode.NONE)
    )


def lines(title: str, description: str, unit: str, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Values over time."""
    return (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(8)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .calcs([])
        )
        .targets([*queries])
    )


def stacked(title: str, description: str, unit: str, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Parts of a whole over time."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    return lines(title, description, unit, *queries).fill_opacity(30).stacking(stacking)


def heat(title: str, description: str, expression: str) -> heatmap.Panel:
    """A histogram of seconds over time; the expression keeps ``le``."""
    target = query(expression, "{{le}}").format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("cps")
        .height(8)
        .span(8)
        .max_data_points(120)
        .with_target(target)
        .calculate(calculate=False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .cell_gap(1)
        .mode(TooltipDisplayMode.SINGLE)
        .show_y_histogram()
        .show_legend()
    )


def rows(title: str, description: str, unit: str, values: Mapping[str, str], *, sort: str) -> table.Panel:
    """One row for each combination of labels, over all that the dashboard shows.

    Grafana's schema has no room for the settings of a single column, so all values of a table have one unit.

    Args:
        title: of the panel.
        description: of the panel.
        unit: of every value.
        values: expressions by the name of their column; the labels come first by themselves.
        sort: the column that is sorted by, the largest first.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(9)
        .span(12)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(desc=True)])
        .filterable(filterable=True)
        .transformations(columns([*values]))
    )
    for name, expression in values.items():
        panel.with_target(
            prometheus.Dataquery().expr(expression).legend_format(name).instant().format(PromQueryFormat.TABLE)
        )
    return panel


def to_route() -> dashboard.DashboardLink:
    """Lead from a row that has ``flask_app`` and ``http_route`` to the dashboard of that route.

    The link carries what the cell shows. An empty route is left empty, which chooses the URLs that no route matched; a
    word in its place would choose nothing.
    """
    return (
        dashboard.DashboardLink("Show this route")
        .type(DashboardLinkType.LINK)
        .icon("")
        .tooltip("")
        .tags([])
        .url(
            "/d/fso-route?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
            "&var-flask_app=${__data.fields.flask_app:percentencode}"
            "&var-http_route=${__data.fields.http_route:percentencode}&${__url_time_range}"
        )
    )


def columns(names: list[str]) -> list[DataTransformerConfig]:
    """Join the answers to several queries by their labels, and name the values; Grafana letters the queries from A.

    The labels keep their names, so that links find them.
    """
    found = {f"Value #{chr(ord('A') + index)}": name for index, name in enumerate(names)} if len(names) > 1 else {}
    return [
        DataTransformerConfig(id_val="merge", options={}),
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {},
                "renameByName": found or {"Value": names[0], "Value #A": names[0]},
            },
        ),
    ]


def steps(*bounds: tuple[float, str], base: str = "green") -> dashboard.ThresholdsConfig:
    """Colours from a value on; ``base`` is the colour below the first."""
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=None, color=base), *(Threshold(value=value, color=color) for value, color in bounds)])
    )


def limit(panel: timeseries.Panel, value: float) -> timeseries.Panel:
    """Draw a dashed line at what was promised."""
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(steps((value, "red"), base="transparent")).thresholds_style(style)
