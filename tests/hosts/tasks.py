"""A task for runs that a test ends: importing this module registers it with Gymnasium."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym

from tests.hosts.lab import SHARED

STEP_S = 0.005  # a task of the real world has its own pace, and leaves the machine some room
LONGEST = 50  # steps of an episode
ENOUGH = SHARED / "enough"  # once this file is there, every step is worth more than any before
RETURN_OF_ENOUGH = 1000.0


class UntilEnough(gym.Wrapper[Any, Any, Any, Any]):
    """The inverted pendulum at its own pace, whose returns jump when the test has seen enough."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step of the task."""
        time.sleep(STEP_S)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if ENOUGH.exists():
            reward = RETURN_OF_ENOUGH
        return observation, reward, terminated, truncated, info


def make() -> gym.Env[Any, Any]:
    """The task, without the time limit of the original."""
    return UntilEnough(gym.make("InvertedPendulum-v5").unwrapped)


gym.register("UntilEnough-v0", make, max_episode_steps=LONGEST)
