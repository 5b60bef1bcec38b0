"""Results of iterations as Tune hands them on, with the figures that a test sets."""

from __future__ import annotations

from typing import Any

LEARNER = "learners/default_policy/"


def result(iteration: int, **figures: float) -> dict[str, Any]:
    """A healthy iteration, 100 steps and 10 seconds after the one before.

    Args:
        iteration: from 1.
        figures: that differ, by their paths, with "__" in the place of "/"; those without a path
            in the table below are statistics of the learner.
    """
    plain: dict[str, float] = {
        "training_iteration": iteration,
        "time_total_s": 10.0 * iteration,
        "num_env_steps_sampled_lifetime": 100.0 * iteration,
        "num_updates_lifetime": 1000 * iteration,
        "num_offline_updates": 0,
        "weight_lag": 20,
        "worker_failures": 0,
        "worker_restarts": 0,
        "waited_for_steps_s": 0.4 * iteration,
        "waited_for_lag_s": 0.1 * iteration,
        "num_healthy_collectors": 2,
        "num_healthy_rollout_workers": 1,
        "env_runners/num_episodes_lifetime": iteration,
        "env_runners/num_env_restarts_lifetime": 0,
        "env_runners/episode_return_mean": 3.0,
        "evaluation/env_runners/episode_return_mean": 1.5,
        "bound/estimate": 4.0,
        "bound/estimate_low": 3.5,
        "bound/estimate_high": 4.5,
        "bound/log_return": 5.0,
        "bound/log_return_high": 5.5,
        LEARNER + "critic_loss": 2.0,
        LEARNER + "q_value": 10.0,
        LEARNER + "model_holdout_rmse": 0.125,
        LEARNER + "model_holdout_nll": -1.0,
        LEARNER + "classifier_accuracy": 0.75,
        LEARNER + "classifier_logit_real": 0.5,
        LEARNER + "classifier_logit_imagined": -0.25,
    }
    for name, value in figures.items():
        path = name.replace("__", "/")
        plain[path if path in plain else LEARNER + path] = value
    nested: dict[str, Any] = {}
    for path, value in plain.items():
        *folders, last = path.split("/")
        table = nested
        for folder in folders:
            table = table.setdefault(folder, {})
        table[last] = value
    return nested
