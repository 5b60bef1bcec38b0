"""A vector environment in this process that does only what a collector needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np


class LeanSyncVectorEnv(gym.vector.SyncVectorEnv):
    """Gymnasium's `SyncVectorEnv` with a faster `step`, for Box observations.

    Observations, rewards and ends are the same for the same seeds and actions. `step` returns no
    infos, and its arrays are valid until the next call: the next step writes into them.

    Args:
        env_fns: each makes one environment.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]]) -> None:
        super().__init__(env_fns, copy=False)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every environment; one whose episode has ended is reset instead.

        Args:
            actions: [N, act].
        """
        observations: Any = self._observations
        rewards = self._rewards
        terminateds, truncateds = self._terminations, self._truncations
        resetting = self._autoreset_envs.tolist()
        for i, env in enumerate(self.envs):
            if resetting[i]:
                observations[i], _ = env.reset()
                rewards[i], terminateds[i], truncateds[i] = 0.0, False, False
            else:
                observations[i], rewards[i], terminateds[i], truncateds[i], _ = env.step(actions[i])
        np.logical_or(terminateds, truncateds, out=self._autoreset_envs)
        return observations, rewards, terminateds, truncateds, {}
