"""The fixed names of what the project has in a Grafana; by them a push finds what is there."""

from __future__ import annotations

FOLDER_UID = "mnm"
FOLDER_TITLE = "MnM"
DATASOURCE_UID = "mnm-prometheus"
DATASOURCE_NAME = "MnM Prometheus"
LEARNING_UID = "mnm-learning"
MACHINE_UID = "mnm-machine"
RULE_GROUP = "mnm"
RULE_PREFIX = "mnm-"  # of the uids of all alert rules
TAG = "mnm"  # of dashboards and annotations
