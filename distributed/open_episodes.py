"""The open episodes of a vector environment: where each stands, and how to get there again."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from distributed.episodes import ActionRecord, EpisodeSeeds, StepObserver, replay
from distributed.vector_env import EnvironmentFailed, LeanSyncVectorEnv, step_into

EPISODE_ID_BITS = 40  # of an episode's number; the collector's index stands above them
STEPS_PER_SEED = 64  # of one environment, at the least


class OpenEpisodes:
    """Starts, numbers and seeds the episodes of one collector; keeps them between its calls.

    In a `LeanSyncVectorEnv` an episode is reset with a seed of its own, but for those that begin
    within `STEPS_PER_SEED` steps of the last seed: seeding takes as long as a few steps. That seed
    and the actions since tell where an environment is, and by them `set_state` gets there.

    Args:
        env: vector environment with next-step autoreset.
        seed: of resets; None: from the operating system.
        reset_seed: of the first reset, where episodes have no seeds of their own.
        index: of the collector.
        observer: is told of each reset.

    Attributes:
        step_into: steps the environment, as `distributed.vector_env.step_into`.
        observations: [N, obs] that the environments are at; None: no episode is open.
        steps: [N] made in each episode.
        returns: [N] of each episode so far.
        ids: [N] of the episodes.
        resetting: environments whose next step is an autoreset.
        started: episodes so far.
        dropped: episodes that an environment's failure or a restore broke off.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        seed: int | None,
        reset_seed: int,
        index: int,
        observer: StepObserver | None,
    ) -> None:
        self.observer = observer
        self.started = 0
        self.dropped = 0
        self._index = index
        self._seeds = EpisodeSeeds(seed, index)
        self._reset_seed: int | None = reset_seed
        self._record = ActionRecord()
        self.use(env)

    def use(self, env: gym.vector.VectorEnv) -> None:
        """Goes on in this environment, with none open."""
        self.env = env
        self._lean = env if isinstance(env, LeanSyncVectorEnv) else None
        self.step_into = self._lean.step_into if self._lean else partial(step_into, env)
        self.observations: np.ndarray | None = None
        self.resetting: list[int] = []

    def __len__(self) -> int:
        return 0 if self.observations is None else len(self.steps) - len(self.resetting)

    def start(self) -> None:
        """Starts an episode in every environment.

        Raises:
            EnvironmentFailed: a reset raised.
        """
        count = self.env.num_envs
        self.resetting = []
        self.steps = np.zeros(count, dtype=np.int64)
        self.returns = np.zeros(count)
        self.ids = np.zeros(count, dtype=np.int64)
        row = self._record.made
        self._seeded = [0] * count  # the last seed of each environment,
        self._seeded_at = [row - STEPS_PER_SEED] * count  # and the row of its first step
        for index in range(count):
            self._begin(index, row)
        seeds: Any = self._lean.reset_seeds if self._lean else self._reset_seed
        try:
            observations, _ = self.env.reset(seed=seeds)
        except Exception as error:
            raise EnvironmentFailed(f"{type(error).__name__}: {error}") from error
        self._reset_seed = None
        self.observations = observations.astype(np.float32)
        for index in range(count):
            self.open(index, self.observations[index])

    def open(self, index: int, observation: np.ndarray) -> None:
        """The episode of an environment begins at this observation [obs]."""
        self.returns[index] = 0.0
        if self.observer is not None:
            self.observer.on_reset(index, observation)

    def end(self, index: int, row: int) -> None:
        """The episode of an environment ended with a step; its next one is numbered.

        Args:
            index: of the environment.
            row: of that step, among those not kept yet.
        """
        self._begin(index, self._record.made + row + 2)  # after the row of its reset

    def keep(self, observations: np.ndarray, steps: np.ndarray, actions: np.ndarray) -> None:
        """Notes where the next steps go on.

        Args:
            observations: [N, obs] that the environments are at.
            steps: [N] made in each episode.
            actions: [rows, N, act] since the last call, which nobody writes to later.
        """
        self.observations = observations.copy()
        self.steps = steps.copy()
        if self._lean is not None:
            self._record.add(actions, min(self._seeded_at))

    def get_state(self) -> dict[str, Any]:
        """Plain values and arrays, from which `set_state` goes on bit for bit."""
        state: dict[str, Any] = {"entropy": self._seeds.entropy, "episodes_started": self.started}
        if self.observations is not None:
            state["open"] = {
                "observations": self.observations.copy(),
                "steps": self.steps.copy(),
                "returns": self.returns.copy(),
                "episode_ids": self.ids.copy(),
                "resetting": list(self.resetting),
            }
            if self._lean is not None:
                record, rows = self._record, self._seeded_at
                state["open"].update(
                    seeds=list(self._seeded),
                    steps_since_seed=[record.made - row for row in rows],
                    actions=[record.since(i, row) for i, row in enumerate(rows)],
                )
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called.

        Each environment is brought back by its last seed and its actions since. An open episode
        that does not get to its last observation, not being a function of these, is dropped, and so
        are all where the environments are others in kind or number.
        """
        self._seeds = EpisodeSeeds(state["entropy"], self._index)
        self.started = state["episodes_started"]
        self.observations = None
        saved = state.get("open")
        if saved is None:
            return
        lean, seeds = self._lean, saved.get("seeds")
        if lean is None or seeds is None or len(seeds) != lean.num_envs:
            self.dropped += len(saved["steps"]) - len(saved["resetting"])
            return
        self.observations = saved["observations"].copy()
        self.steps = saved["steps"].copy()
        self.returns = saved["returns"].copy()
        self.ids = saved["episode_ids"].copy()
        self._seeded = list(seeds)
        self._record = ActionRecord.of(saved["actions"])
        self._seeded_at = [self._record.made - since for since in saved["steps_since_seed"]]
        self.resetting = []
        for i, actions in enumerate(saved["actions"]):
            resetting = i in saved["resetting"]
            lean.reset_seeds[i] = seeds[i] if saved["steps_since_seed"][i] < 0 else None
            kept = lean.reset_seeds[i] is not None or self._replay(i, actions, resetting)
            if not kept:
                self.dropped += not resetting
                self._seeded_at[i] = -STEPS_PER_SEED
                self._begin(i, self._record.made + 1)
            if resetting or not kept:
                self.resetting.append(i)
        lean.reset_next(self.resetting)

    def _replay(self, index: int, actions: np.ndarray | None, resetting: bool) -> bool:
        """Brings an environment to where it was; returns whether it got there.

        Args:
            index: of the environment.
            actions: [steps, act] since its last seed; None: they were too many.
            resetting: whether its episode had ended.
        """
        assert self._lean is not None
        assert self.observations is not None
        if actions is None:
            return False
        start = None if resetting else len(actions) - int(self.steps[index])
        try:
            reached, ended = replay(
                self._lean.envs[index], self._seeded[index], actions, self.observer, index, start
            )
        except Exception:  # an environment that goes on raising will do so in the next step too
            return False
        return ended == resetting and np.array_equal(reached, self.observations[index])

    def _begin(self, index: int, row: int) -> None:
        """Numbers the next episode of an environment; seeds its reset where that is due.

        Args:
            index: of the environment.
            row: of the episode's first step, among all vector steps of the record.
        """
        number = self.started
        self.started += 1
        self.ids[index] = (self._index << EPISODE_ID_BITS) + number
        if self._lean is not None:
            seed = self._seeds[number] if row - self._seeded_at[index] >= STEPS_PER_SEED else None
            self._lean.reset_seeds[index] = seed
            if seed is not None:
                self._seeded[index], self._seeded_at[index] = seed, row
