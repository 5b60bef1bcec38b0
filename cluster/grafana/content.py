"""What the project has in a Grafana, as the JSON that Grafana takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from cluster.grafana.alerts import ALERTS, alert_rules
from cluster.grafana.learning_dashboard import learning_dashboard
from cluster.grafana.machine_dashboard import machine_dashboard
from cluster.grafana.names import DATASOURCE_NAME, DATASOURCE_UID

Json = dict[str, Any]


def dashboards(datasource: str | None = None) -> list[Json]:
    """Both dashboards.

    Args:
        datasource: uid of the Prometheus to begin with; None: Grafana's first.
    """
    return [_plain(build(datasource)) for build in (learning_dashboard, machine_dashboard)]


def rules(datasource: str) -> list[Json]:
    """The alert rules.

    Args:
        datasource: uid of the Prometheus that they ask.
    """
    panels = {
        (dashboard["uid"], panel["title"]): panel["id"]
        for dashboard in dashboards()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }
    return [_plain(rule) for rule in alert_rules(datasource, panels)]


def datasource_settings(prometheus_url: str) -> Json:
    """The data source.

    Args:
        prometheus_url: at which Grafana reaches Prometheus.
    """
    return {
        "uid": DATASOURCE_UID,
        "name": DATASOURCE_NAME,
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus_url,
        "jsonData": {"httpMethod": "POST"},
    }


@dataclass(frozen=True)
class PlainQuery:
    """A query as Prometheus takes it.

    Attributes:
        place: where it is asked, for people.
        expression: PromQL.
    """

    place: str
    expression: str


def plain_queries(run: str = ".*", rate_window: str = "1m") -> Iterator[PlainQuery]:
    """Every query of every panel and alert, without Grafana's variables.

    Args:
        run: regular expression of the runs.
        rate_window: over which rates are taken.
    """
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$run", run)
                yield PlainQuery(
                    f"{dashboard['title']} / {panel['title']} / {target['legendFormat']}",
                    expression.replace("$__rate_interval", rate_window),
                )
    for alert in ALERTS:
        yield PlainQuery(f"alert / {alert.title}", alert.expression)


def _plain(model: Any) -> Json:
    return json.loads(JSONEncoder().encode(model))
