"""Tests that whole algorithms give every metric of the table a value."""

from __future__ import annotations

import math

import pytest

from distributed import telemetry_export
from distributed.telemetry import METRICS
from mnm.settings import ALGORITHMS
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import built

pytestmark = pytest.mark.usefixtures("local_ray")

FROM_ACTORS = {"mnm_worker_transitions"}  # has no figure: every worker has one


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_metric_that_the_algorithm_has_gets_a_value(
    algo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the table says, under the names that it says; the last value is the result's."""
    monkeypatch.setattr(telemetry_export, "INTERVAL_S", 0.0)
    config = tiny_config(algo, updates_to_data_ratio=0.5)
    with built(config.evaluation(evaluation_interval=1, evaluation_duration=2)) as made:
        made.train()
        result = made.train()
        telemetry = made._reporting.telemetry
        known = {name for name, value in telemetry._figures.items() if math.isfinite(value)}
        figures = {
            figure
            for metric in METRICS
            if metric.name not in FROM_ACTORS
            for figure in metric.series
        }
        missing = figures - known
        settings = config.settings()
        expected = {"stopping_gradient_norm"}
        if not settings.has_model:
            expected |= {"model_holdout_nll", "model_holdout_rmse", "model_fit_steps"}
            expected |= {"rollout_length", "replay_synthetic"}
        if not settings.has_classifier:
            expected |= {
                figure for figure in figures if figure.startswith(("classifier_", "bound/"))
            }
        if algo != "mnm":
            expected |= {"model_objective", "model_gradient_norm"}
        assert missing == expected
        assert telemetry._figures["env_steps"] == result["num_env_steps_sampled_lifetime"]
        returned = result["evaluation"]["env_runners"]["episode_return_mean"]
        assert telemetry._figures["evaluation/episode_return_mean"] == returned
        assert made.coordinator.handed_over == {
            ("collector", 0): result["num_env_steps_sampled_lifetime"]
        }
