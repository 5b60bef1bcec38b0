"""Tests that a run resumed from a checkpoint equals one that was not stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnm.settings import ALGORITHMS
from rllib_ext import MnM, MnMConfig
from tests.mnm.small_cases import assert_same_rows, flat_tensors, same_tensors
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import ask_learner, built, replay_of

pytestmark = pytest.mark.usefixtures("local_ray")

BEFORE, AFTER = 2, 3  # iterations around the checkpoint
# What a clock tells, or the number of this process or of this start.
TIMES = {"time", "seconds", "throughput", "idle", "timestamp", "date", "timers", "waited", "perf"}
OF_THE_PROCESS = {"pid", "hostname", "ip", "trial", "restore", "config"}


def deterministic_config(algo: str, env: str = "Pendulum-v1", **options: Any) -> MnMConfig:
    """Without actors; episodes are cut after a number of steps that no iteration is made of."""
    settings = {"reward_transform": "exp", "reward_beta": 0.1} if algo == "mnm" else {}
    config = tiny_config(algo, env, seed=7, **{**settings, **options})
    return config.evaluation(evaluation_interval=1, evaluation_duration=2)


def figures(result: dict[str, Any], path: str = "") -> dict[str, Any]:
    """All numbers of a result by their names, but for times, which are told by a whole word."""
    found: dict[str, Any] = {}
    for name, value in result.items():
        if (TIMES | OF_THE_PROCESS) & set(str(name).lower().split("_")):
            continue
        if isinstance(value, dict):
            found.update(figures(value, f"{path}{name}/"))
        elif isinstance(value, int | float | np.number):
            found[path + str(name)] = float(value)
    return found


def assert_same_figures(resumed: dict[str, Any], expected: dict[str, Any]) -> None:
    first, second = figures(resumed), figures(expected)
    assert first.keys() == second.keys()
    differing = {
        name: (first[name], second[name])
        for name in first
        if first[name] != second[name] and not (np.isnan(first[name]) and np.isnan(second[name]))
    }
    assert not differing


def learned(algo: MnM) -> dict[str, torch.Tensor]:
    return flat_tensors(ask_learner(algo, lambda learner: learner.core.agent.state_dict()))


def from_checkpoint(path: Path, config: MnMConfig) -> MnM:
    """A new algorithm of the same config, restored."""
    algo = config.build_algo()
    algo.restore_from_path(str(path))
    return algo


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("envs", [1, 3])
def test_a_resumed_run_is_the_uninterrupted_one(algo: Any, envs: int, tmp_path: Path) -> None:
    def config() -> MnMConfig:
        made = deterministic_config(algo, env_config={"max_episode_steps": 17})
        return made.env_runners(num_envs_per_env_runner=envs)

    with built(config()) as whole:
        for _ in range(BEFORE):
            whole.train()
        assert whole.env_runner.collector.open_episodes > 0  # the checkpoint cuts an episode
        whole.coordinator.counts.worker_restarts = 5  # as of an earlier time with actors
        whole.save_to_path(tmp_path / "checkpoint")
        expected = [whole.train() for _ in range(AFTER)]
        weights, rows = learned(whole), replay_of(whole)
    resumed = from_checkpoint(tmp_path / "checkpoint", config())
    try:
        for result in expected:
            assert_same_figures(resumed.train(), result)
        compared = figures(expected[-1])
        assert same_tensors(learned(resumed), weights)
        assert_same_rows(replay_of(resumed), rows)
    finally:
        resumed.stop()
    assert compared["env_runners/num_episodes_dropped_lifetime"] == 0
    assert compared["worker_restarts"] == 5
    assert compared["env_runners/num_episodes_lifetime"] > 5
    assert compared["num_updates_lifetime"] > 100
    assert compared["updates_to_data_ratio"] > 0


def dropped(result: dict[str, Any]) -> float:
    return result["env_runners"]["num_episodes_dropped_lifetime"]


def test_an_episode_that_does_not_repeat_is_dropped_and_counted(tmp_path: Path) -> None:
    """The observations of the task count the episodes that the environment has had."""
    with built(tiny_config("sac", env_config={"limit": 1e9})) as algo:
        for _ in range(4):
            algo.train()
        algo.save_to_path(tmp_path / "checkpoint")
        cut = algo.env_runner.collector.get_state()["open"]
        before = replay_of(algo)
    assert not cut["resetting"]
    resumed = from_checkpoint(
        tmp_path / "checkpoint", tiny_config("sac", env_config={"limit": 1e9})
    )
    try:
        assert dropped(resumed.train()) == 1
        assert dropped(resumed.train()) == 1
        new = replay_of(resumed)[len(before) :]
        assert cut["episode_ids"][0] not in new.episode_ids
    finally:
        resumed.stop()


def test_with_remote_runners_the_cut_episodes_are_counted(tmp_path: Path) -> None:
    """Both ways: from a run in one process to one with actors, and back."""

    def config(num_env_runners: int) -> MnMConfig:
        made = tiny_config("sac", num_env_runners=num_env_runners, env_config={"limit": 1e9})
        return made.env_runners(num_envs_per_env_runner=2)

    with built(config(0)) as algo:
        algo.train()
        opened = algo.env_runner.collector.open_episodes
        algo.save_to_path(tmp_path / "here")
    remote = from_checkpoint(tmp_path / "here", config(1))
    try:
        assert dropped(remote.train()) == opened > 0
        remote.save_to_path(tmp_path / "remote")
        steps = remote.coordinator.counts.steps_returned
    finally:
        remote.stop()
    back = from_checkpoint(tmp_path / "remote", config(0))
    try:
        result = back.train()
        assert dropped(result) == opened + 2
        assert result["num_env_steps_sampled_lifetime"] > steps - 100
        assert result["steps_requested"] == result["steps_returned"] + result["steps_lost"]
    finally:
        back.stop()
