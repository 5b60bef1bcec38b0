"""Tests of dashboards and alerts: their metrics are those of the table, and all of them."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from distributed.telemetry import METRICS, prometheus_name
from tests.cluster.commands import ROOT

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Grafana's builders need Python 3.11"
)
NOT_SHOWN: tuple[str, ...] = ()  # metrics of the table that no panel needs


@pytest.fixture(scope="module")
def boards() -> list[dict[str, Any]]:
    from cluster.grafana.content import dashboards

    return dashboards()


def panels(boards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [panel for board in boards for panel in board["panels"] if panel["type"] != "row"]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", expression))


def test_every_metric_used_is_in_the_table_and_every_one_of_it_is_shown(
    boards: list[dict[str, Any]],
) -> None:
    from cluster.grafana.alerts import ALERTS

    table = {prometheus_name(metric) for metric in METRICS}
    shown = set()
    for panel in panels(boards):
        for target in panel["targets"]:
            used = metrics_in(target["expr"])
            assert len(used) == 1, target["expr"]
            shown |= used
    assert shown | {prometheus_name(name) for name in NOT_SHOWN} == table
    for alert in ALERTS:
        assert metrics_in(alert.expression)
        assert metrics_in(alert.expression) <= table


def test_labels_used_are_those_of_their_metric(boards: list[dict[str, Any]]) -> None:
    by_name = {prometheus_name(metric): metric for metric in METRICS}
    for panel in panels(boards):
        for target in panel["targets"]:
            (name,) = metrics_in(target["expr"])
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            filters = re.findall(r"\{([^}]*)\}", target["expr"])
            asked = {label for part in kept for label in part.split(", ")}
            asked |= {one.split("=")[0].strip() for part in filters for one in part.split(", ")}
            assert asked <= set(by_name[name].labels), target["expr"]
            in_legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert in_legend == {label for part in kept for label in part.split(", ")}
            for label, value in re.findall(r'(\w+)="([^"]*)"', target["expr"]):
                assert value in by_name[name].values_of(label), target["expr"]


def test_no_query_joins_series_that_mean_different_things(boards: list[dict[str, Any]]) -> None:
    by_name = {prometheus_name(metric): metric for metric in METRICS}
    for panel in panels(boards):
        for target in panel["targets"]:
            (name,) = metrics_in(target["expr"])
            metric = by_name[name]
            chosen = dict(re.findall(r'(\w+)="([^"]*)"', target["expr"]))
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])[0].split(", ")
            matching = [tags for tags in metric.series.values() if chosen.items() <= tags.items()]
            told_apart = {tuple(tags.get(label) for label in kept) for tags in matching}
            assert len(told_apart) == len(matching) >= 1, f"{panel['title']}: {target['expr']}"
            assert not metric.per_worker or "worker" in kept


def test_a_panel_says_what_it_tells(boards: list[dict[str, Any]]) -> None:
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        titles = [panel["title"] for panel in panels([board])]
        assert len(set(titles)) == len(titles)
    for panel in panels(boards):
        assert len(panel["description"]) > 20
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert 'run=~"$run"' in target["expr"]
            assert target["legendFormat"].startswith("{{run}}")
        right = panel["gridPos"]["x"] + panel["gridPos"]["w"]
        assert right <= 24


def test_the_page_of_the_documentation_has_every_panel_and_alert(
    boards: list[dict[str, Any]],
) -> None:
    from cluster.grafana.alerts import ALERTS

    rows = [f"| {panel['title']} | {panel['description']} |" for panel in panels(boards)]
    for alert in ALERTS:
        summary = alert.summary.replace("{{ .Labels.run }}", "R")
        rows.append(f"| {alert.title} | {summary} | {alert.action} |")
    page = (ROOT / "docs" / "dashboards.md").read_text()
    assert [line for line in page.splitlines() if re.match(r"\| [A-Z]", line)] == rows


def test_plain_queries_have_no_variables_of_grafana() -> None:
    from cluster.grafana.alerts import ALERTS
    from cluster.grafana.content import plain_queries

    queries = list(plain_queries(run="mine"))
    assert len(queries) > 60
    assert len({query.place for query in queries}) == len(queries)
    assert not [query for query in queries if "$" in query.expression]
    assert sum('run=~"mine"' in query.expression for query in queries) == len(queries) - len(ALERTS)


def test_the_events_of_the_chosen_runs_are_asked_for(boards: list[dict[str, Any]]) -> None:
    for board in boards:
        (events,) = board["annotations"]["list"]
        assert events["target"]["tags"] == ["$run"]
        assert events["target"]["matchAny"] is True
