"""Panels of the dashboards: a title, what it tells, its unit and its queries, as typed builders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from cluster.grafana.names import TAG
from distributed.telemetry import prometheus_name

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GRAFANA_ITSELF = models.DataSourceRef(type_val="grafana", uid="-- Grafana --")
RUN_FILTER = 'run=~"$run"'
WIDTH, HEIGHT = 8, 8  # of a panel; a dashboard is 24 wide
ENDS = "/ (lower|upper) end$/"  # legends of an interval's ends, drawn dashed


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: in PromQL; `$run` stands for the runs chosen on the dashboard.
        legend: of its series, with `{{label}}` for a label's value.
    """

    expression: str
    legend: str


def series(metric: str, labels: str = "", by: str = "") -> str:
    """The newest value of a metric, one series a run.

    A run that has gone on from a checkpoint has two series for some seconds; the larger counts.

    Args:
        metric: name in the table of metrics.
        labels: further filters, as `role="learner"`.
        by: further labels that keep their series apart, as `network`.
    """
    filters = ", ".join(part for part in (RUN_FILTER, labels) if part)
    kept = ", ".join(part for part in ("run", by) if part)
    return f"max by ({kept}) ({prometheus_name(metric)}{{{filters}}})"


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """How fast a total grows, a second; 0 where a run has gone back to a checkpoint."""
    filters = ", ".join(part for part in (RUN_FILTER, labels) if part)
    kept = ", ".join(part for part in ("run", by) if part)
    slope = f"deriv({prometheus_name(metric)}{{{filters}}}[$__rate_interval])"
    return f"clamp_min(max by ({kept}) ({slope}), 0)"


def panel(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    low: float | None = None,
    high: float | None = None,
    limits: Sequence[float] = (),
    stacked: bool = False,
    width: int = WIDTH,
) -> timeseries.Panel:
    """Curves over time.

    Args:
        title: of the panel.
        description: what it tells and what to do; shown at the panel's information sign.
        unit: id of a unit of Grafana's, as `percentunit`.
        queries: in the order of the legend.
        low: lower end of the axis; None: by the data.
        high: upper end of the axis; None: by the data.
        limits: values at which a line is drawn across.
        stacked: whether the curves are areas on top of one another.
        width: of the panel, of 24.
    """
    built = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(HEIGHT)
        .line_width(1)
        .fill_opacity(0)
        .show_points(common_models.VisibilityMode.AUTO)
        .override_by_regexp(
            ENDS,
            [
                models.DynamicConfigValue(
                    id_val="custom.lineStyle", value={"fill": "dash", "dash": [4, 6]}
                )
            ],
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "min", "max"])
        )
    )
    for number, query in enumerate(queries):
        built.with_target(
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + number))
            .datasource(DATASOURCE)
            .expr(query.expression)
            .legend_format(query.legend)
            .range()
        )
    if low is not None:
        built.min(low)
    if high is not None:
        built.max(high)
    if limits:
        steps = [models.Threshold(value=None, color="transparent")]
        steps += [models.Threshold(value=limit, color="red") for limit in limits]
        built.thresholds(
            dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
        )
        built.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    if stacked:
        built.fill_opacity(60).stacking(
            common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A")
        )
    return built


def build_dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Mapping[str, Iterable[timeseries.Panel]],
    datasource: str | None = None,
) -> models.Dashboard:
    """A dashboard on which data source and runs can be chosen and the runs' events show.

    Args:
        uid: of the dashboard.
        title: of the dashboard.
        description: of the dashboard.
        rows: of panels, by their titles.
        datasource: uid of the Prometheus to begin with; None: Grafana's first.
    """
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    if datasource is not None:
        source.current(models.VariableOption(selected=True, text=datasource, value=datasource))
    runs = (
        dashboard.QueryVariable("run")
        .label("Run")
        .datasource(DATASOURCE)
        .query(
            {
                "query": f"label_values({prometheus_name('mnm_env_steps')}, run)",
                "refId": "PrometheusVariableQueryEditor-VariableQuery",
            }
        )
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_DESC)
        .multi(True)
        .include_all(True)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
    events = (
        dashboard.AnnotationQuery()
        .name("Start, checkpoints and end of runs")
        .datasource(GRAFANA_ITSELF)
        .enable(True)
        .icon_color("blue")
        .target(dashboard.AnnotationTarget().type("tags").match_any(True).tags(["$run"]).limit(200))
    )
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(source)
        .with_variable(runs)
        .annotation(events)
        .link(
            dashboard.DashboardLink("MnM")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for row, panels in rows.items():
        built.with_row(dashboard.Row(row))
        for one in panels:
            built.with_panel(one)
    whole = built.build()
    assert whole.templating is not None
    for variable in whole.templating.list_val or []:
        # The builders give every variable these settings, which only one of intervals has.
        variable.auto = variable.auto_min = variable.auto_count = None
    for number, placed in enumerate(whole.panels or [], start=1):
        placed.id_val = number
    return whole
