"""Steps a vector environment with the current policy and hands over flat columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import gymnasium as gym
import numpy as np

from mnm import Transitions
from mnm.policy import NumpyPolicy

ActionMode = Literal["explore", "deterministic", "random"]
Policy = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]
EPISODE_ID_BITS = 40  # of an episode's number; the collector's index stands above them


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


@dataclass(frozen=True)
class Collected:
    """What one request brought.

    Attributes:
        transitions: in the order they were made, environment by environment within a step.
        episode_returns: undiscounted returns of the episodes that ended.
        episode_lengths: their lengths in steps.
    """

    transitions: Transitions
    episode_returns: list[float]
    episode_lengths: list[int]


@dataclass(frozen=True)
class CutEpisode:
    """The first steps of an episode.

    Attributes:
        first_observation: [obs].
        rewards: [steps].
        terminated: whether it terminated within them.
    """

    first_observation: np.ndarray
    rewards: np.ndarray
    terminated: bool


class Collector:
    """Steps `env` as a policy says; keeps the open episodes between calls.

    Rows of a next-step autoreset (Gymnasium's default in vector environments: the step after an
    episode's end ignores its action and returns the first observation) are never handed over.

    Args:
        env: vector environment with flat Box observations and bounded Box actions.
        seed: of resets, exploration noise and random actions; None: from the operating system.
        index: of this collector; makes its episode numbers unique in a run.
        observer: is told of each step; costs time.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        seed: int | None,
        index: int = 0,
        observer: StepObserver | None = None,
    ) -> None:
        mode = env.metadata.get("autoreset_mode", gym.vector.AutoresetMode.NEXT_STEP)
        if mode != gym.vector.AutoresetMode.NEXT_STEP:
            raise ValueError(
                f"The vector environment resets in mode {mode.value}: use NEXT_STEP, so that the "
                "last observation of an episode is not lost."
            )
        self.env = env
        self.observer = observer
        self.policy: Policy | None = None
        # Streams of their own for the noise and for the environments, in every collector.
        streams = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(2)
        self._generator = np.random.default_rng(streams[0])
        self._reset_seed: int | None = int(streams[1])
        assert isinstance(env.single_action_space, gym.spaces.Box)
        self._low = env.single_action_space.low
        self._high = env.single_action_space.high
        self._first_episode_id = index << EPISODE_ID_BITS
        self._episodes_started = 0
        self._observations: np.ndarray | None = None

    def load_policy(self, weights: Mapping[str, np.ndarray]) -> None:
        """Acts from now on with these weights (`mnm.policy.numpy_weights`)."""
        self.policy = NumpyPolicy(weights)

    def reset(self) -> None:
        """Drops the open episodes; the next call starts new ones."""
        self._observations = None

    def collect(
        self, vector_steps: int, action_mode: ActionMode = "explore", first_step: int = 0
    ) -> Collected:
        """Makes `vector_steps` steps of every environment.

        Args:
            vector_steps: steps of the vector environment.
            action_mode: sample from the policy, take its mode, or draw from the action box.
            first_step: real steps begun in the run before this call; keeps episode numbers unique
                after a restart.
        """
        # Every environment has made a step by then, so fewer episodes than this were started.
        self._episodes_started = max(self._episodes_started, 2 * first_step)
        run = _Run(self)
        act = self._actor(action_mode)
        for _ in range(vector_steps):
            run.step(act)
        return run.collected()

    def run_episodes(self, episodes: int, action_mode: ActionMode) -> Collected:
        """Runs until `episodes` episodes have ended, from fresh resets.

        Each environment plays its share to the end, so that short episodes are not favoured.
        """
        self.reset()
        run = _Run(self)
        shares = np.full(self.env.num_envs, episodes // self.env.num_envs)
        shares[: episodes % self.env.num_envs] += 1
        act = self._actor(action_mode)
        while (shares > run.ended).any():
            run.step(act, counted=shares > run.ended)
        self.reset()
        return run.collected()

    def run_cut_episodes(self, episodes: int, longest: int) -> list[CutEpisode]:
        """Starts of at least `episodes` fresh episodes under the stochastic policy.

        Args:
            episodes: how many; rounded up to whole rounds of the vector environment.
            longest: steps after which an episode is left.
        """
        cut: list[CutEpisode] = []
        while len(cut) < episodes:
            self.reset()
            run = _Run(self)
            ids = self._episode_ids.copy()
            act = self._actor("explore")
            for _ in range(longest):
                run.step(act)
                if (run.ended > 0).all():
                    break
            rows = run.collected().transitions
            for episode_id in ids:
                own = rows.episode_ids == episode_id
                cut.append(
                    CutEpisode(
                        rows.observations[own][0],
                        rows.rewards[own],
                        bool(rows.terminateds[own][-1]),
                    )
                )
        self.reset()
        return cut

    def _actor(self, action_mode: ActionMode) -> Callable[[np.ndarray], np.ndarray]:
        """Actions [N, act] for observations [N, obs]."""
        if action_mode == "random":
            shape = (self.env.num_envs, len(self._low))
            return lambda _: self._generator.uniform(self._low, self._high, shape).astype(
                np.float32
            )
        policy = self.policy
        if policy is None:
            raise RuntimeError("The collector has no policy yet: call load_policy first.")
        generator = self._generator if action_mode == "explore" else None
        return lambda observations: policy(observations, generator)

    def _start(self) -> None:
        """First reset, with the seed; later ones go on from the environments' own generators."""
        observations, _ = self.env.reset(seed=self._reset_seed)
        self._reset_seed = None
        count = self.env.num_envs
        self._observations = observations.astype(np.float32)
        self._resetting = np.zeros(count, dtype=bool)
        self._steps = np.zeros(count, dtype=np.int64)
        self._returns = np.zeros(count)
        self._episode_ids = np.zeros(count, dtype=np.int64)
        for index in range(count):
            self._open_episode(index)

    def _open_episode(self, index: int) -> None:
        self._episode_ids[index] = self._first_episode_id + self._episodes_started
        self._episodes_started += 1
        self._steps[index] = 0
        self._returns[index] = 0.0
        if self.observer is not None:
            assert self._observations is not None
            self.observer.on_reset(index, self._observations[index])


class _Run:
    """The rows of one call of a collector."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        if collector._observations is None:
            collector._start()
        self.ended = np.zeros(collector.env.num_envs, dtype=np.int64)
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._returns: list[float] = []
        self._lengths: list[int] = []

    def step(
        self,
        act: Callable[[np.ndarray], np.ndarray],
        counted: np.ndarray | None = None,
    ) -> None:
        own = self.collector
        before = own._observations
        assert before is not None
        actions = act(before)
        following, rewards, terminateds, truncateds, _ = own.env.step(actions)
        following = following.astype(np.float32)
        own._observations = following
        live = ~own._resetting
        rows: tuple[np.ndarray, ...] = (
            before,
            actions,
            rewards.astype(np.float32),
            following,
            terminateds,
            truncateds,
            own._episode_ids.copy(),
            own._steps.copy(),
        )
        self._rows.append(rows if live.all() else tuple(column[live] for column in rows))
        own._returns[live] += rewards[live]
        own._steps[live] += 1
        if own.observer is not None:
            for i in np.flatnonzero(live).tolist():
                own.observer.on_step(
                    i,
                    following[i],
                    actions[i],
                    float(rewards[i]),
                    bool(terminateds[i]),
                    bool(truncateds[i]),
                )
        for i in np.flatnonzero(own._resetting).tolist():
            own._open_episode(i)
        own._resetting = (terminateds | truncateds) & live
        for i in np.flatnonzero(own._resetting):
            self.ended[i] += 1
            if counted is None or counted[i]:
                self._returns.append(float(own._returns[i]))
                self._lengths.append(int(own._steps[i]))

    def collected(self) -> Collected:
        columns = zip(*self._rows, strict=True)
        transitions = Transitions(*(np.concatenate(column) for column in columns))
        return Collected(transitions, self._returns, self._lengths)
