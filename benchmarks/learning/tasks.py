"""Tasks of the experiments that no package has; importing this module registers them.

`benchmarks.learning.tasks:SparsePendulum-v0` names one to Gymnasium, `mnm train` included.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control.pendulum import PendulumEnv

UPRIGHT = math.cos(math.radians(8.0))


class SparsePendulum(PendulumEnv):
    """Pendulum-v1 that pays 1 a step within 8 degrees of upright and nothing elsewhere.

    The reward is that of the swing-up of the DeepMind Control Suite (Tassa et al. 2018); start,
    torque and length of an episode are those of Pendulum-v1.
    """

    def step(self, u: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The task's step; the reward is of the state it leads to."""
        observation, _, terminated, truncated, info = super().step(u)
        return observation, float(observation[0] > UPRIGHT), terminated, truncated, info


gym.register("SparsePendulum-v0", f"{__name__}:SparsePendulum", max_episode_steps=200)
