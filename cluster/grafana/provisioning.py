"""Writes what a push does as files, for Grafana's provisioning folder or its import page."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import yaml

from cluster.grafana.content import Json, dashboards, datasource_settings, rules
from cluster.grafana.names import DATASOURCE_UID, FOLDER_TITLE, RULE_GROUP

FILE = "mnm.yaml"
GROUP_INTERVAL = "1m"
NOT_IN_FILES = ("folderUID", "ruleGroup", "orgID")  # of a rule: its group has them


def export(folder: Path, prometheus_url: str, provisioning: PurePosixPath) -> list[Path]:
    """Writes the files and returns their paths.

    Args:
        folder: to write into; made where it is not there.
        prometheus_url: at which Grafana reaches Prometheus.
        provisioning: where the folder's content will lie on Grafana's machine.
    """
    boards = PurePosixPath("dashboards") / "mnm"
    files: dict[PurePosixPath, str] = {
        boards / f"{dashboard['uid']}.json": json.dumps(dashboard, indent=2) + "\n"
        for dashboard in dashboards(DATASOURCE_UID)
    }
    # Without a uid the provider takes the folder that the alert rules have made by its title.
    provider = {
        "name": FOLDER_TITLE,
        "folder": FOLDER_TITLE,
        "type": "file",
        "allowUiUpdates": True,
        "options": {"path": str(provisioning / boards)},
    }
    group = {
        "orgId": 1,
        "name": RULE_GROUP,
        "folder": FOLDER_TITLE,
        "interval": GROUP_INTERVAL,
        "rules": [_in_file(rule) for rule in rules(DATASOURCE_UID)],
    }
    for kind, entry, content in (
        ("dashboards", "providers", provider),
        ("datasources", "datasources", datasource_settings(prometheus_url)),
        ("alerting", "groups", group),
    ):
        document = {"apiVersion": 1, entry: [content]}
        files[PurePosixPath(kind) / FILE] = yaml.safe_dump(document, sort_keys=False, width=100)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in files]


def _in_file(rule: Json) -> Json:
    """A rule as files have it."""
    return {
        **{name: value for name, value in rule.items() if name not in NOT_IN_FILES},
        "dashboardUid": rule["annotations"]["__dashboardUid__"],
        "panelId": int(rule["annotations"]["__panelId__"]),
    }
