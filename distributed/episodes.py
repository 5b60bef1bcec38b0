"""What an open episode is resumed from, the seed of its reset and its actions since; and how."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import gymnasium as gym
import numpy as np

SEEDS_AT_ONCE = 1024
LONGEST_RECORD = 100_000  # vector steps; a longer episode is not resumed


class StepObserver(Protocol):
    """Is told of every reset and step, for those who need episode objects."""

    def on_reset(self, index: int, observation: np.ndarray) -> None:
        """Environment `index` starts an episode."""

    def on_step(
        self,
        index: int,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Environment `index` made a step; `observation` follows it."""


class EpisodeSeeds:
    """Seeds of the resets of one collector, each by the number of its episode.

    Args:
        seed: of the run; None: from the operating system.
        index: of the collector.
    """

    def __init__(self, seed: int | None, index: int) -> None:
        self.entropy = int(np.random.SeedSequence(seed).entropy)  # type: ignore[arg-type]
        self._index = index
        self._block = -1
        self._seeds: list[int] = []

    def __getitem__(self, number: int) -> int:
        block, place = divmod(number, SEEDS_AT_ONCE)
        if block != self._block:
            sequence = np.random.SeedSequence(self.entropy, spawn_key=(self._index, block))
            self._seeds = sequence.generate_state(SEEDS_AT_ONCE).tolist()
            self._block = block
        return self._seeds[place]


class ActionRecord:
    """The last actions of a vector environment, as far back as its longest open episode."""

    def __init__(self) -> None:
        self._parts: deque[np.ndarray] = deque()
        self._steps = 0

    def add(self, actions: np.ndarray, longest: int) -> None:
        """Notes actions [steps, N, act], which nobody writes to later.

        Args:
            actions: of the newest steps.
            longest: steps of the longest open episode.
        """
        self._parts.append(actions)
        self._steps += len(actions)
        wanted = min(longest, LONGEST_RECORD)
        while len(self._parts) > 1 and self._steps - len(self._parts[0]) >= wanted:
            self._steps -= len(self._parts.popleft())

    def of(self, index: int, steps: int) -> np.ndarray | None:
        """The last `steps` actions [steps, act] of environment `index`; None if not all are kept."""
        if steps > self._steps:
            return None
        return np.concatenate([part[:, index] for part in self._parts])[self._steps - steps :]

    def clear(self) -> None:
        """Forgets all."""
        self._parts.clear()
        self._steps = 0


def replay(
    env: gym.Env,
    seed: int,
    actions: np.ndarray,
    observation: np.ndarray,
    observer: StepObserver | None,
    index: int,
) -> bool:
    """Replays an open episode; returns whether the environment got to where it was.

    Args:
        env: a single environment.
        seed: of the episode's reset.
        actions: [steps, act] since.
        observation: [obs] float32 that the last of them led to.
        observer: is told of the reset and of each step.
        index: of the environment, for the observer.
    """
    try:
        reached, _ = env.reset(seed=seed)
        if observer is not None:
            observer.on_reset(index, np.asarray(reached, np.float32))
        for action in actions:
            reached, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                return False
            if observer is not None:
                after, rounded = np.asarray(reached, np.float32), float(np.float32(reward))
                observer.on_step(index, after, action, rounded, False, False)
    except Exception:  # an environment that goes on raising does so in the next step too
        return False
    return np.array_equal(np.asarray(reached, np.float32), observation)
