"""Tasks of the experiments that no package has; importing this module registers them.

`benchmarks.learning.tasks:SparsePendulum-v0` names one to Gymnasium, `mnm train` included.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv

UPRIGHT = math.cos(math.radians(8.0))
HELD = 4  # steps of the mountain car to an action


class SparsePendulum(PendulumEnv):
    """Pendulum-v1 that pays 1 a step within 8 degrees of upright and nothing elsewhere.

    The reward is that of the swing-up of the DeepMind Control Suite (Tassa et al. 2018); start,
    torque and length of an episode are those of Pendulum-v1.
    """

    def step(self, u: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The task's step; the reward is of the state it leads to."""
        observation, _, terminated, truncated, info = super().step(u)
        return observation, float(observation[0] > UPRIGHT), terminated, truncated, info


class HeldMountainCar(Continuous_MountainCarEnv):
    """MountainCarContinuous-v0 with each action held for `HELD` steps, their rewards summed.

    Of 100 episodes of uniformly random actions about 25 reach the goal; with an action of its own
    for every step none did, and no algorithm had a reward to learn from.
    """

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """`HELD` steps of the task, or fewer where the goal is reached."""
        total = 0.0
        for _ in range(HELD):
            observation, reward, terminated, truncated, info = super().step(action)
            total += float(reward)
            if terminated:
                break
        return observation, total, terminated, truncated, info


gym.register("SparsePendulum-v0", f"{__name__}:SparsePendulum", max_episode_steps=200)
gym.register("HeldMountainCar-v0", f"{__name__}:HeldMountainCar", max_episode_steps=1000 // HELD)
