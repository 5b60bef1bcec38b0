"""Tasks of the experiments that no package has; importing this module registers them.

`benchmarks.learning.tasks:SparsePendulum-v0` names one to Gymnasium, `mnm train` included.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from rllib_ext.errors import UserError

UPRIGHT = math.cos(math.radians(8.0))
HELD = 4  # steps of the mountain car to an action
META_WORLD_STEPS, META_WORLD_HELD = 500, 5  # of an episode, and of them to an action
SUCCESS = 100.0  # so that a return is a success rate in percent


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


class UntilSuccess(gym.Wrapper[Any, Any, Any, Any]):
    """A task of Meta-World that pays `SUCCESS` when it is done, which ends it, and nothing before.

    Each action is held for `META_WORLD_HELD` steps. Meta-World ignores the seed of a reset; here it
    decides the place of goal and object.
    """

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """The task's reset."""
        if seed is not None:
            self.unwrapped.np_random = np.random.default_rng(seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """`META_WORLD_HELD` steps of the task, or fewer where it is done."""
        for _ in range(META_WORLD_HELD):
            observation, _, _, truncated, info = self.env.step(action)
            success = bool(info["success"])
            if success or truncated:
                break
        return observation, SUCCESS * success, success, truncated and not success, info


def meta_world(name: str, **options: Any) -> gym.Env[Any, Any]:
    """`UntilSuccess` of a task of Meta-World with its 50 places of goal and object.

    Args:
        name: of the task, as reach-v3.
        **options: of `gym.make`, as `render_mode`.

    Raises:
        UserError: Meta-World is not installed.
    """
    try:
        importlib.import_module("metaworld")  # registers its tasks
    except ImportError as error:
        raise UserError(
            "Meta-World is not installed here, as it needs a MuJoCo of its own: "
            "`make learn-meta-world` installs both into .venv-meta-world."
        ) from error
    task = gym.make("Meta-World/MT1", env_name=name, seed=0, disable_env_checker=True, **options)
    return UntilSuccess(task)


gym.register("SparsePendulum-v0", f"{__name__}:SparsePendulum", max_episode_steps=200)
gym.register("HeldMountainCar-v0", f"{__name__}:HeldMountainCar", max_episode_steps=1000 // HELD)
for task_id, name in (
    ("MetaWorldReach-v0", "reach-v3"),
    ("MetaWorldDrawerClose-v0", "drawer-close-v3"),
):
    gym.register(
        task_id,
        f"{__name__}:meta_world",
        kwargs={"name": name},
        max_episode_steps=META_WORLD_STEPS // META_WORLD_HELD,
        disable_env_checker=True,  # observations leave Meta-World's own space
    )
