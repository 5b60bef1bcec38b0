"""The tasks of the real Meta-World: their shapes and ends, and that a seed repeats them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.learning.experiments import META_WORLD_DRAWER, META_WORLD_REACH
from benchmarks.learning.tasks import SUCCESS

TASKS = (META_WORLD_REACH, META_WORLD_DRAWER)


def episode(env: gym.Env, seed: int) -> tuple[np.ndarray, float, bool]:
    """Observations [T + 1, obs], return and whether it was truncated, of random actions."""
    rng = np.random.default_rng(seed)
    observations, total = [env.reset(seed=seed)[0]], 0.0
    terminated = truncated = False
    while not (terminated or truncated):
        action = rng.uniform(-1.0, 1.0, 4).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        total += float(reward)
    return np.array(observations), total, truncated


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_ends_with_success_or_after_a_hundred_actions(task: str) -> None:
    env = gym.make(task)
    assert env.observation_space.shape == (39,)
    assert env.action_space.shape == (4,)
    ends = set()
    for seed in range(20):
        observations, total, truncated = episode(env, seed)
        assert (total, truncated) in ((0.0, True), (SUCCESS, False))
        assert (len(observations) == 101) == truncated
        ends.add(total)
    assert ends == {0.0, SUCCESS}  # a random policy succeeds now and then


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_repeats_an_episode_whatever_came_before_it(task: str) -> None:
    env, other = gym.make(task), gym.make(task)
    first = episode(env, 3)[0]
    np.testing.assert_array_equal(episode(other, 3)[0], first)
    assert not np.array_equal(episode(env, 4)[0][0], first[0])
    np.testing.assert_array_equal(episode(env, 3)[0], first)
