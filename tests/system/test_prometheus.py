"""The real Prometheus scrapes a real run: every query of every panel and alert has an answer."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from cluster.grafana.content import plain_queries
from cluster.prometheus.rules import rules_file
from distributed.telemetry import COMMON_LABELS, METRICS, prometheus_name
from tests.cluster.commands import ROOT
from tests.system.prometheus_server import Prometheus, program, prometheus

FOLDER = ROOT / "cluster" / "prometheus"
DISCOVERY = "prom_metrics_service_discovery.json"
RUN = "seen-by-prometheus"
ENDLESS = 1_000_000
ANSWERED_S = 150.0  # Ray exports and Prometheus scrapes every ten seconds


def test_the_rules_are_those_of_the_dashboards_alerts() -> None:
    told = "run: python -m cluster.prometheus.rules > cluster/prometheus/rules.yml"
    assert (FOLDER / "rules.yml").read_text() == rules_file(), told


@pytest.mark.parametrize(("kind", "file"), [("config", "prometheus.yml"), ("rules", "rules.yml")])
def test_promtool_accepts(kind: str, file: str) -> None:
    done = subprocess.run(
        [program("promtool"), "check", kind, FOLDER / file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


@pytest.fixture
def ray_with_metrics() -> Iterator[Path]:
    """A Ray with a dashboard, whose head names the nodes to scrape; yields that file."""
    folder = tempfile.mkdtemp(prefix="mnm-", dir="/tmp")  # Ray's sockets allow no long path
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local",
            num_cpus=6,
            include_dashboard=True,
            object_store_memory=150_000_000,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield Path(folder) / DISCOVERY
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(ray_with_metrics: Path, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with the project's own configuration, for this Ray's file of nodes."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (files,) = config["scrape_configs"][0]["file_sd_configs"]
    assert files["files"] == [f"/tmp/ray/{DISCOVERY}"]
    files["files"] = [str(ray_with_metrics)]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(FOLDER / "rules.yml", tmp_path)
    with prometheus(tmp_path / "prometheus.yml", tmp_path / "storage") as server:
        yield server


@pytest.fixture
def run(ray_with_metrics: Path, tiny: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`mnm train` on that Ray with every kind of actor, until it is told to stop."""
    address = ray.get_runtime_context().gcs_address
    with open(tmp_path / "train.log", "w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "cluster.cli", "train", "--algo", "mnm"),
                *("--env", "InvertedPendulum-v5", "--config", str(tiny)),
                *("--num-env-runners", "1", "--num-rollout-workers", "1"),
                *("--steps", str(ENDLESS), "--output", str(tmp_path / RUN)),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def answers(server: Prometheus, queries: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The series of each query, by its place; only numbers count."""
    return {
        place: [one for one in server.query(query) if not math.isnan(float(one["value"][1]))]
        for place, query in queries.items()
    }


@pytest.mark.timeout(300)
def test_every_query_of_every_panel_and_alert_has_an_answer(
    server: Prometheus,
    run: subprocess.Popen[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    queries = {one.place: one.expression for one in plain_queries(run=RUN)}
    assert len(queries) > 50
    metrics = {metric.name: f'{prometheus_name(metric)}{{run="{RUN}"}}' for metric in METRICS}
    deadline = time.monotonic() + ANSWERED_S
    while True:
        found = answers(server, {**metrics, **queries})
        without = [place for place, series in found.items() if not series]
        if not without:
            break
        assert run.poll() is None, (tmp_path / "train.log").read_text()[-2000:]
        assert time.monotonic() < deadline, without
        time.sleep(5)

    for metric in METRICS:
        for series in found[metric.name]:
            labels = series["metric"]
            assert set(metric.labels) - {"worker"} <= set(labels), metric.name
            assert ("worker" in labels) == metric.per_worker
            shown = {name: labels[name] for name in metric.labels if name not in ("run", "worker")}
            assert shown in [dict(tags) for tags in metric.series.values()], metric.name
    assert set(COMMON_LABELS) <= set(found["mnm_worker_transitions"][0]["metric"])
    steps = [float(series["value"][1]) for series in found["mnm_env_steps"]]
    assert 0 < max(steps) < ENDLESS
    rules = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
    assert rules
    assert not [rule for rule in rules if rule["health"] == "err"]

    with capsys.disabled():
        print("\nWhat each query of the panels and alerts returned:")
        for place in queries:
            values = ", ".join(_shown(series) for series in found[place])
            name = re.sub(r" *{{\w+}}", "", place).rstrip(" /")
            print(f"  {name}: {values}")


def _shown(series: dict[str, Any]) -> str:
    """A value, with the labels that keep a query's series apart."""
    apart = [text for label, text in series["metric"].items() if label != "run"]
    return " ".join([f"{float(series['value'][1]):.4g}", *(f"({text})" for text in apart)])
