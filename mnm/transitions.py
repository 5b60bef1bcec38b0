"""The one columnar batch of transitions that collectors, rollouts, replay and log share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


class DataRefused(ValueError):
    """Data that cannot be learned from, in one sentence; trying again does not mend them."""


@dataclass
class Transitions:
    """N transitions in columns, actions and rewards in the environment's units.

    Attributes:
        observations: float32 [N, obs].
        actions: float32 [N, act].
        rewards: float32 [N].
        next_observations: float32 [N, obs]; at the end of an episode its last observation.
        terminateds: bool [N]; the task ended, nothing follows.
        truncateds: bool [N]; the episode was cut, its value goes on.
        episode_ids: int64 [N].
        steps: int64 [N]; step within the episode, from 0.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    episode_ids: np.ndarray
    steps: np.ndarray

    def __len__(self) -> int:
        return len(self.rewards)

    def __getitem__(self, rows: slice | np.ndarray) -> Transitions:
        return Transitions(*(getattr(self, name)[rows] for name in COLUMNS))

    @staticmethod
    def single(
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        next_observation: np.ndarray,
        terminated: bool,
        truncated: bool,
        episode_id: int = 0,
        step: int = 0,
    ) -> Transitions:
        """One transition, from what `env.step` returns: observations [obs], action [act]."""
        return Transitions(
            np.asarray(observation, dtype=np.float32)[None],
            np.asarray(action, dtype=np.float32)[None],
            np.array([reward], dtype=np.float32),
            np.asarray(next_observation, dtype=np.float32)[None],
            np.array([terminated]),
            np.array([truncated]),
            np.array([episode_id], dtype=np.int64),
            np.array([step], dtype=np.int64),
        )

    @staticmethod
    def concatenate(batches: Sequence[Transitions]) -> Transitions:
        """All rows of `batches`, in order."""
        return Transitions(
            *(np.concatenate([getattr(batch, name) for batch in batches]) for name in COLUMNS)
        )


COLUMNS = tuple(field.name for field in fields(Transitions))


def check_finite(transitions: Transitions, first_step: int) -> None:
    """Refuses NaN and infinity in real transitions, by the first row that has one.

    Args:
        transitions: from the environment.
        first_step: real step of row 0, for the message.

    Raises:
        DataRefused: names the column, the real step, the episode and the step in it.
    """
    # A row's observation is there before the policy acts on it, the rest comes of the action.
    names = ("observations", "actions", "next_observations", "rewards")
    finite = np.stack(
        [
            np.isfinite(getattr(transitions, name)).reshape(len(transitions), -1).all(1)
            for name in names
        ],
        axis=1,
    )
    if finite.all():
        return
    row = int(finite.all(1).argmin())
    name = names[int(finite[row].argmin())]
    place = (
        f"at real step {first_step + row} (step {transitions.steps[row]} of episode "
        f"{transitions.episode_ids[row]})"
    )
    if name == "actions":
        raise DataRefused(
            f"The policy gave an action that is not finite {place}: training has diverged; restore "
            "the last checkpoint with smaller learning rates."
        )
    raise DataRefused(
        f"The environment gave a value that is not finite in {name} {place}: mend the "
        "environment; the last checkpoint stays."
    )
