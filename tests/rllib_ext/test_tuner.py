"""Tests of MnM under Ray Tune: the trial's placement group holds the pool, results are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray import tune

from rllib_ext import MnM
from tests.rllib_ext.small_configs import tiny_config

pytestmark = pytest.mark.usefixtures("local_ray")


class Bundles(tune.Callback):
    """Notes the placement groups that exist while the trial runs."""

    def __init__(self) -> None:
        self.seen: list[dict[int, dict[str, float]]] = []

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any):
        self.seen += [
            group["bundles"]
            for group in ray.util.placement_group_table().values()
            if group["state"] == "CREATED"
        ]


def test_a_tuner_runs_it_with_the_pool_counted(tmp_path: Path) -> None:
    """Without its bundle the rollout worker would stay pending and nothing be imagined."""
    config = tiny_config("mbpo", num_env_runners=1, num_rollout_workers=1, max_weight_lag=40)
    bundles = Bundles()
    tuner = tune.Tuner(
        MnM,
        param_space=config,
        run_config=tune.RunConfig(
            name="tiny",
            storage_path=str(tmp_path),
            stop={"num_env_steps_sampled_lifetime": 160},
            callbacks=[bundles],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            verbose=0,
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None
    assert list(bundles.seen[0].values()) == [{"CPU": 1.0}] * 3
    metrics = result.metrics
    assert metrics["num_env_steps_sampled_lifetime"] >= 160
    assert metrics["num_synthetic_transitions_lifetime"] > 0
    assert metrics["weight_lag_max"] <= 40
    frame = result.metrics_dataframe
    assert len(frame) == metrics["training_iteration"] >= 3
    assert np.isfinite(frame["env_runners/episode_return_mean"]).all()
    assert (Path(result.checkpoint.path) / "task.json").is_file()


@pytest.mark.parametrize("interval", [1, 2])
def test_a_metric_is_in_every_result_before_an_episode_has_ended(interval: int) -> None:
    """Tune's schedulers refuse a result without it."""
    config = tiny_config("sac", env_config={"length": 60, "limit": 1e9})
    algo = config.evaluation(evaluation_interval=interval, evaluation_duration=1).build_algo()
    try:
        first, second = algo.train(), algo.train()
    finally:
        algo.stop()
    for result in (first, second):
        for part in (result, result["evaluation"]):
            assert "episode_return_mean" in part["env_runners"]
        assert result["num_env_steps_sampled_lifetime"] > 0
    assert np.isnan(first["env_runners"]["episode_return_mean"])
    assert np.isnan(first["evaluation"]["env_runners"]["episode_return_mean"]) == (interval == 2)
    assert np.isfinite(second["env_runners"]["episode_return_mean"])
    assert np.isfinite(second["evaluation"]["env_runners"]["episode_return_mean"])
