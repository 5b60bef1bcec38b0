"""Episode objects for users' callbacks, built only where a callback asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils import force_list

EPISODE_HOOKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")


def overridden_hooks(config: AlgorithmConfig) -> set[str]:
    """Names of the episode hooks that the config's callback classes or functions implement."""
    classes = [type(make()) for make in force_list(config.callbacks_class)]
    return {
        hook
        for hook in EPISODE_HOOKS
        if getattr(config, f"callbacks_{hook}", None) is not None
        or any(getattr(cls, hook) is not getattr(RLlibCallback, hook) for cls in classes)
    }


class EpisodeObserver:
    """Follows a collector step by step and calls the hooks; see `StepObserver`.

    Args:
        runner: the environment runner, handed to the hooks.
        hooks: names of the hooks to call.
        callbacks: the callback objects.
    """

    def __init__(self, runner: Any, hooks: set[str], callbacks: list[Any]) -> None:
        self.runner = runner
        self.hooks = hooks
        self.callbacks = callbacks
        self._episodes: dict[int, SingleAgentEpisode] = {}

    def on_reset(self, index: int, observation: np.ndarray) -> None:
        """Starts the episode of environment `index`."""
        env = self.runner.env
        episode = SingleAgentEpisode(
            observation_space=env.single_observation_space, action_space=env.single_action_space
        )
        self._episodes[index] = episode
        self._call("on_episode_created", index)
        episode.add_env_reset(observation, {})
        self._call("on_episode_start", index)

    def on_step(
        self,
        index: int,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Adds a step to the episode of environment `index`, and ends it."""
        self._episodes[index].add_env_step(
            observation, action, reward, {}, terminated=terminated, truncated=truncated
        )
        self._call("on_episode_step", index)
        if terminated or truncated:
            self._call("on_episode_end", index, prev_episode_chunks=[])

    def _call(self, hook: str, index: int, **extra: Any) -> None:
        if hook not in self.hooks:
            return
        runner = self.runner
        make_callback(
            hook,
            callbacks_objects=self.callbacks,
            callbacks_functions=getattr(runner.config, f"callbacks_{hook}"),
            kwargs={
                "episode": self._episodes[index],
                "env_runner": runner,
                "metrics_logger": runner.metrics,
                "env": runner.env.unwrapped,
                "rl_module": runner.module,
                "env_index": int(index),
                **extra,
            },
        )
