"""What an open episode is resumed from, the seed of its reset and its actions since; and how."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

SEEDS_AT_ONCE = 1024
LONGEST_RECORD = 100_000  # vector steps; an environment not seeded for longer is not resumed


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
    """The actions of a vector environment, as far back as they are needed.

    Attributes:
        made: vector steps noted in all.
    """

    def __init__(self) -> None:
        self.made = 0
        self._first = 0  # row of the first one kept
        self._parts: deque[np.ndarray] = deque()

    @classmethod
    def of(cls, actions: list[np.ndarray | None]) -> ActionRecord:
        """A record of the last actions [steps, act] of each environment; None: of no steps."""
        known = [part for part in actions if part is not None]
        record = cls()
        rows = np.zeros(
            (max(map(len, known), default=0), len(actions), known[0].shape[1] if known else 0),
            np.float32,
        )
        for i, part in enumerate(actions):
            if part is not None:
                rows[len(rows) - len(part) :, i] = part
        record.add(rows, 0)
        return record

    def add(self, actions: np.ndarray, needed: int) -> None:
        """Notes actions [steps, N, act], which nobody writes to later.

        Args:
            actions: of the newest steps.
            needed: row of the earliest one that may still be asked for.
        """
        self._parts.append(actions)
        self.made += len(actions)
        needed = max(needed, self.made - LONGEST_RECORD)
        while len(self._parts) > 1 and self._first + len(self._parts[0]) <= needed:
            self._first += len(self._parts.popleft())

    def since(self, index: int, row: int) -> np.ndarray | None:
        """Actions [steps, act] of environment `index` from `row` on; None if they are not kept."""
        if row < self._first:
            return None
        return np.concatenate([part[:, index] for part in self._parts])[row - self._first :]


def replay(
    env: gym.Env,
    seed: int,
    actions: np.ndarray,
    observer: StepObserver | None,
    index: int,
    start: int | None,
) -> tuple[np.ndarray, bool]:
    """Resets a single environment and acts as then; where an episode ends, a step is a reset.

    Args:
        env: a single environment.
        seed: of the first reset.
        actions: [steps, act] since.
        observer: is told of the last episode's reset and steps.
        index: of the environment, for the observer.
        start: steps before the last episode; None: it has ended, and the observer is not told.

    Returns:
        The last observation [obs], float32, and whether the episode ended there.
    """
    observation, _ = env.reset(seed=seed)
    ended = terminated = truncated = False
    reward: Any = 0.0
    for row in range(len(actions) + 1):
        reached = np.array(observation, np.float32)
        if observer is not None and start is not None and row >= start:
            if row == start:
                observer.on_reset(index, reached)
            else:
                rounded = float(np.float32(reward))
                observer.on_step(index, reached, actions[row - 1], rounded, terminated, truncated)
        if row == len(actions):
            break
        if ended:
            observation, _ = env.reset()
            ended = False
        else:
            observation, reward, terminated, truncated, _ = env.step(actions[row])
            ended = terminated or truncated
    return reached, ended
