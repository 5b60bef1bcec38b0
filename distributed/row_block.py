"""Memory for the transitions of several steps of a vector environment."""

from __future__ import annotations

import numpy as np

from mnm import Transitions


class RowBlock:
    """Rows of up to `capacity` vector steps, in arrays [capacity, N, ...] filled in place.

    Args:
        observations: [N, obs] before the first step.
        episode_ids: [N] of the open episodes.
        steps: [N] steps made in them.
        action_dim: width of an action.
        capacity: vector steps.
    """

    def __init__(
        self,
        observations: np.ndarray,
        episode_ids: np.ndarray,
        steps: np.ndarray,
        action_dim: int,
        capacity: int,
    ) -> None:
        count, width = observations.shape
        self.capacity = capacity
        self.filled = 0
        # One more than the steps: what follows a step is what comes before the next one.
        self.observations = np.empty((capacity + 1, count, width), np.float32)
        self.observations[0] = observations
        self.actions = np.empty((capacity, count, action_dim), np.float32)
        self.rewards = np.empty((capacity, count), np.float32)
        self.terminateds = np.empty((capacity, count), bool)
        self.truncateds = np.empty((capacity, count), bool)
        self.episode_ids = np.empty((capacity + 1, count), np.int64)
        self.episode_ids[:] = episode_ids
        self._counted = np.arange(capacity + 1)
        self.steps = steps + self._counted[:, None]
        self._dropped: list[tuple[int, int]] = []

    def open_episode(self, row: int, index: int, episode_id: int) -> None:
        """Drops `row` of environment `index`, a reset; its next row is the episode's first."""
        self._dropped.append((row, index))
        self.episode_ids[row + 1 :, index] = episode_id
        self.steps[row + 1 :, index] = self._counted[: self.capacity - row]

    def transitions(self) -> Transitions:
        """The rows, step by step; they share the block's memory where none was dropped."""
        made = slice(self.filled)
        columns = (
            self.observations[made],
            self.actions[made],
            self.rewards[made],
            self.observations[1 : self.filled + 1],
            self.terminateds[made],
            self.truncateds[made],
            self.episode_ids[made],
            self.steps[made],
        )
        if not self._dropped:
            return Transitions(*(c.reshape(-1, *c.shape[2:]) for c in columns))
        kept = np.ones(self.rewards[made].shape, dtype=bool)
        kept[tuple(zip(*self._dropped, strict=True))] = False
        return Transitions(*(column[kept] for column in columns))
