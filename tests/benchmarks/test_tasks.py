"""The tasks made for the learning experiments: what they pay, and when they end."""

from __future__ import annotations

import math
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.learning.experiments import (
    HELD_MOUNTAIN_CAR,
    META_WORLD_DRAWER,
    META_WORLD_REACH,
    SPARSE_PENDULUM,
)
from benchmarks.learning.tasks import UntilSuccess
from rllib_ext.errors import UserError


class LikeMetaWorld(gym.Env[Any, Any]):
    """Draws the place of its goal before it hears of the seed, and succeeds in its n-th step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, succeeds: int) -> None:
        self.succeeds, self.steps = succeeds, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps, self.goal = 0, self.np_random.uniform()
        return np.array([self.goal, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        info = {"success": float(self.steps == self.succeeds)}
        return np.array([self.goal, self.steps]), 3.0, False, self.steps == 12, info


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


def test_a_task_of_meta_world_pays_for_success_alone_and_ends_with_it() -> None:
    env, action = UntilSuccess(LikeMetaWorld(succeeds=7)), np.zeros(1)
    env.reset(seed=0)
    observation, *outcome, _ = env.step(action)
    assert (observation[1], *outcome) == (5, 0.0, False, False)
    observation, *outcome, _ = env.step(action)
    assert (observation[1], *outcome) == (7, 100.0, True, False)


@pytest.mark.parametrize(
    ("succeeds", "end"), [(12, (100.0, True, False)), (13, (0.0, False, True))]
)
def test_a_task_of_meta_world_is_truncated_where_it_is_not_done(
    succeeds: int, end: tuple[float, bool, bool]
) -> None:
    env, action = UntilSuccess(LikeMetaWorld(succeeds)), np.zeros(1)
    env.reset(seed=0)
    for _ in range(2):
        assert env.step(action)[1:4] == (0.0, False, False)
    assert env.step(action)[1:4] == end


def test_a_reset_seed_decides_the_goal_of_a_task_of_meta_world() -> None:
    env = UntilSuccess(LikeMetaWorld(1))
    first, other, again = (env.reset(seed=seed)[0][0] for seed in (3, 4, 3))
    assert first == again
    assert first != other
    assert env.reset()[0][0] != first


@pytest.mark.parametrize("task", [META_WORLD_REACH, META_WORLD_DRAWER])
def test_without_meta_world_its_tasks_say_how_to_install_it(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(UserError, match="make learn-meta-world"):
        gym.make(task)
