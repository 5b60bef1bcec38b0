"""Every alert rule fires for a run with its fault and for no other, by promtool's own engine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from distributed.telemetry import prometheus_name
from tests.cluster.commands import ROOT
from tests.system.prometheus_server import program

RULES = ROOT / "cluster" / "prometheus" / "rules.yml"
# What a metric does in a run where all is well, a minute at a time, in promtool's notation.
HEALTHY = {
    "mnm_env_steps": "0+500x40",
    "mnm_offline_updates": "0x40",
    "mnm_weights_age_seconds": "2x40",
    "mnm_classifier_accuracy": "0.7x40",
    "mnm_model_holdout_rmse": "0.5x40",
    "mnm_non_finite_statistics": "0x40",
    "mnm_learner_idle_ratio": "0.2x40",
    "mnm_worker_restarts": "0 1x39",
}
FAULTS = {
    "MnmNoEnvSteps": ("mnm_env_steps", "800x40"),
    "MnmWeightsStale": ("mnm_weights_age_seconds", "0+60x40"),
    "MnmClassifierSaturated": ("mnm_classifier_accuracy", "0.999x40"),
    "MnmClassifierAtChance": ("mnm_classifier_accuracy", "0.495x40"),
    "MnmNotANumber": ("mnm_non_finite_statistics", "0x28 1x12"),
    "MnmLearnerIdle": ("mnm_learner_idle_ratio", "0.9x40"),
    "MnmRestarts": ("mnm_worker_restarts", "0x24 1 2 3 4x12"),
}
AT = "30m"


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_every_alert_has_its_fault_here() -> None:
    assert set(FAULTS) == set(rules())


@pytest.mark.parametrize("fault", FAULTS)
def test_an_alert_fires_for_its_fault_and_for_nothing_else(fault: str, tmp_path: Path) -> None:
    metric, values = FAULTS[fault]
    runs = {"well": HEALTHY, "ill": {**HEALTHY, metric: values}}
    expected = alert_of_ill(fault)
    case = {
        "interval": "1m",
        "input_series": [
            {"series": f'{prometheus_name(name)}{{run="{run}",role="any"}}', "values": series}
            for run, metrics in runs.items()
            for name, series in metrics.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": AT,
                "alertname": name,
                "exp_alerts": [expected] if name == fault else [],
            }
            for name in FAULTS
        ],
    }
    check(case, "1m", tmp_path)


def test_a_run_without_real_steps_is_told_after_the_minutes_of_the_title(tmp_path: Path) -> None:
    name = "MnmNoEnvSteps"
    steps, offline = prometheus_name("mnm_env_steps"), prometheus_name("mnm_offline_updates")
    alert = alert_of_ill(name)
    case = {
        "interval": "10s",
        "input_series": [
            {"series": f'{steps}{{run="ill"}}', "values": "0+10x60 600x120"},  # the last after 10m
            {"series": f'{offline}{{run="ill"}}', "values": "0x180"},
        ],
        "alert_rule_test": [
            {"eval_time": "14m", "alertname": name, "exp_alerts": []},
            {"eval_time": "15m30s", "alertname": name, "exp_alerts": [alert]},
        ],
    }
    check(case, "10s", tmp_path)


def alert_of_ill(name: str) -> dict[str, Any]:
    """What promtool expects of an alert for the run "ill"."""
    return {
        "exp_labels": {"project": "mnm", "run": "ill"},
        "exp_annotations": {
            key: text.replace("{{ .Labels.run }}", "ill")
            for key, text in rules()[name]["annotations"].items()
        },
    }


def check(case: dict[str, Any], interval: str, folder: Path) -> None:
    """Has promtool run one case of the rules, evaluated at every interval."""
    file = folder / "case.yml"
    tests = {"rule_files": [str(RULES)], "evaluation_interval": interval, "tests": [case]}
    file.write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [program("promtool"), "test", "rules", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
