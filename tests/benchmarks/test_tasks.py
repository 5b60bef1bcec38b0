"""The tasks made for the learning experiments: what they pay, and when they end."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.learning.experiments import HELD_MOUNTAIN_CAR, SPARSE_PENDULUM


def test_the_sparse_pendulum_pays_at_the_top_alone() -> None:
    env = gym.make(SPARSE_PENDULUM)
    env.reset(seed=0)
    for angle, reward in ((0.0, 1.0), (0.1, 1.0), (0.3, 0.0), (math.pi, 0.0)):
        env.unwrapped.state = np.array([angle, 0.0])  # type: ignore[attr-defined]
        assert env.step(np.zeros(1))[1] == reward
    assert env.spec is not None
    assert env.spec.max_episode_steps == 200


def test_the_held_mountain_car_sums_four_steps_and_ends_at_the_goal() -> None:
    env, plain = gym.make(HELD_MOUNTAIN_CAR), gym.make("MountainCarContinuous-v0")
    assert env.spec is not None
    assert env.spec.max_episode_steps == 250
    action = np.array([0.5], np.float32)
    observations = [one.reset(seed=3)[0] for one in (env, plain)]
    np.testing.assert_array_equal(*observations)
    steps = [plain.step(action) for _ in range(4)]
    observation, reward, terminated, _, _ = env.step(action)
    np.testing.assert_array_equal(observation, steps[-1][0])
    assert reward == pytest.approx(sum(float(step[1]) for step in steps))
    assert not terminated
    env.unwrapped.state = np.array([0.44, 0.05])  # type: ignore[attr-defined]
    _, reward, terminated, _, _ = env.step(action)
    assert terminated  # with the first of the four
    assert reward == pytest.approx(100 - 0.1 * 0.25)
