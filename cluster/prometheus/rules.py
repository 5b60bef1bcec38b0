"""Writes rules.yml beside it: `python -m cluster.prometheus.rules > cluster/prometheus/rules.yml`.

The same alerts as `mnm dashboard push` gives to Grafana, for a Prometheus with an Alertmanager.
"""

from __future__ import annotations

from typing import Any

import yaml

from cluster.grafana.alerts import ALERTS
from cluster.grafana.names import RULE_GROUP

HEADER = "# Written by `python -m cluster.prometheus.rules`, from cluster/grafana/alerts.py.\n"


def rules_file() -> str:
    """The file's text."""
    rules: list[dict[str, Any]] = [
        {
            "alert": "Mnm" + "".join(word.capitalize() for word in alert.name.split("-")),
            "expr": alert.condition,
            "for": f"{alert.minutes}m",
            "labels": {"project": "mnm"},
            "annotations": {"summary": alert.summary, "description": alert.action},
        }
        for alert in ALERTS
    ]
    groups = {"groups": [{"name": RULE_GROUP, "rules": rules}]}
    return HEADER + yaml.safe_dump(groups, sort_keys=False, width=100)


if __name__ == "__main__":
    print(rules_file(), end="")
