"""Building whole algorithms, asking their learners, saving them and checking their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnm import Transitions
from rllib_ext import MnM, MnMConfig
from rllib_ext.learner import MnMLearner
from tests.mnm.small_cases import SMALL
from tests.rllib_ext.small_configs import evaluating, tiny_config

RANDOM_STEPS = SMALL["num_random_steps"]


@contextmanager
def built(config: MnMConfig) -> Iterator[MnM]:
    algo = config.build_algo()
    try:
        yield algo
    finally:
        algo.stop()


def never_set_up(**attributes: Any) -> MnM:
    """An algorithm without actors, learner or environment."""
    algo = object.__new__(MnM)
    vars(algo).update(attributes)
    return algo


def ask_learner(algo: MnM, question: Callable[[MnMLearner], Any]) -> Any:
    (answer,) = algo.learner_group.foreach_learner(question)
    return answer.get()


def weights_of(algo: MnM) -> dict[str, torch.Tensor]:
    return ask_learner(
        algo,
        lambda learner: {
            name: value.cpu().clone()
            for name, value in learner.core.agent.networks.state_dict().items()
        },
    )


def replay_of(algo: MnM) -> Transitions:
    return ask_learner(algo, lambda learner: learner.core.agent.replay.transitions())


def save_trained(path: Path) -> dict[str, Any]:
    """Makes a checkpoint without actors; returns it with what it was made of."""
    with built(evaluating(tiny_config("mnm", seed=1))) as algo:
        result = [algo.train() for _ in range(2)][-1]
        algo.save_to_path(path)
        return {
            "path": path,
            "result": result,
            "weights": weights_of(algo),
            "rows": replay_of(algo),
            "state": ask_learner(algo, lambda learner: learner.core.agent.state_dict()),
        }


def steps_trained(result: dict[str, Any]) -> int:
    return int(result["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"])


def check_result(result: dict[str, Any], ratio: float) -> None:
    """RLlib's own metric names are there and the counts agree with one another."""
    runners = result["env_runners"]
    for name in (
        "episode_return_mean",
        "episode_return_min",
        "episode_return_max",
        "episode_len_mean",
        "num_episodes",
        "num_episodes_lifetime",
        "num_env_steps_sampled",
    ):
        assert np.isfinite(runners[name]), name
    assert runners["episode_return_min"] <= runners["episode_return_mean"]
    assert 1 <= runners["episode_len_mean"] <= 10
    trained = steps_trained(result)
    assert result["num_env_steps_sampled_lifetime"] == trained
    assert runners["num_env_steps_sampled_lifetime"] == trained
    updates = result["num_updates_lifetime"]
    assert updates == int(ratio * (trained - RANDOM_STEPS))
    assert result["updates_to_data_ratio"] == pytest.approx(updates / (trained - RANDOM_STEPS))
    assert 0 <= result["weight_lag"] <= result["weight_lag_max"] <= 250
    assert result["evaluation"]["env_runners"]["num_episodes"] == 3
    assert 0 < result["evaluation"]["env_runners"]["episode_return_mean"] <= 10
