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
BLOCK_STEPS = 256  # vector steps that memory is taken for at once where their number is not known


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
        run = _Run(self, vector_steps)
        act = self._actor(action_mode)
        run.advance(act, vector_steps)
        return run.collected()

    def run_episodes(self, episodes: int, action_mode: ActionMode) -> Collected:
        """Runs until `episodes` episodes have ended, from fresh resets.

        Each environment plays its share to the end, so that short episodes are not favoured.
        """
        self.reset()
        run = _Run(self, BLOCK_STEPS)
        shares = np.full(self.env.num_envs, episodes // self.env.num_envs)
        shares[: episodes % self.env.num_envs] += 1
        act = self._actor(action_mode)
        while (shares > run.ended).any():
            run.advance(act, counted=shares > run.ended)
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
            run = _Run(self, longest)
            ids = self._episode_ids.copy()
            act = self._actor("explore")
            for _ in range(longest):
                run.advance(act)
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
        shape = (self.env.num_envs, len(self._low))

        def act(observations: np.ndarray) -> np.ndarray:
            if generator is None or len(self._resetting) < len(observations):
                return policy(observations, generator)
            # All environments reset and ignore their actions: only the noise is drawn.
            return generator.standard_normal(shape, dtype=np.float32)

        return act

    def _start(self) -> None:
        """First reset, with the seed; later ones go on from the environments' own generators."""
        observations, _ = self.env.reset(seed=self._reset_seed)
        self._reset_seed = None
        count = self.env.num_envs
        self._observations = observations.astype(np.float32)
        self._resetting: list[int] = []  # environments whose next step is an autoreset
        self._steps = np.zeros(count, dtype=np.int64)
        self._returns = np.zeros(count)
        self._episode_ids = np.zeros(count, dtype=np.int64)
        for index in range(count):
            self._open_episode(index, self._observations[index])

    def _open_episode(self, index: int, observation: np.ndarray) -> None:
        self._episode_ids[index] = self._first_episode_id + self._episodes_started
        self._episodes_started += 1
        self._returns[index] = 0.0
        if self.observer is not None:
            self.observer.on_reset(index, observation)


class _Block:
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
        self.steps = steps + np.arange(capacity + 1)[:, None]
        self._dropped: list[tuple[int, int]] = []

    def open_episode(self, row: int, index: int, episode_id: int) -> None:
        """Drops `row` of environment `index`, a reset; its next row is the episode's first."""
        self._dropped.append((row, index))
        self.episode_ids[row + 1 :, index] = episode_id
        self.steps[row + 1 :, index] = np.arange(self.capacity - row)

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


class _Run:
    """The rows of one call of a collector, in blocks of `block_steps` vector steps."""

    def __init__(self, collector: Collector, block_steps: int) -> None:
        self.collector = collector
        self.ended = np.zeros(collector.env.num_envs, dtype=np.int64)
        self._block_steps = block_steps
        self._blocks: list[_Block] = []
        self._returns: list[float] = []
        self._lengths: list[int] = []
        if collector._observations is None:
            collector._start()
        self._block = self._next_block()

    def advance(
        self,
        act: Callable[[np.ndarray], np.ndarray],
        vector_steps: int = 1,
        counted: np.ndarray | None = None,
    ) -> None:
        """Makes steps of every environment.

        Args:
            act: actions [N, act] for observations [N, obs].
            vector_steps: how many.
            counted: [N] whose ended episodes count; None: all.
        """
        own = self.collector
        step, observer = own.env.step, own.observer
        while vector_steps > 0:
            if self._block.filled == self._block.capacity:
                self._keep_open_episodes()
                self._block = self._next_block()
            block = self._block
            observations = block.observations
            rows = range(block.filled, min(block.filled + vector_steps, block.capacity))
            for row in rows:
                actions = act(observations[row])
                following, rewards, terminateds, truncateds, _ = step(actions)
                # Into the block at once: the environment may use its arrays again.
                observations[row + 1] = following
                block.actions[row] = actions
                block.rewards[row] = rewards
                block.terminateds[row] = terminateds
                block.truncateds[row] = truncateds
                own._returns += rewards
                if observer is not None:
                    self._tell(observer, row, rewards)
                if own._resetting or np.count_nonzero(terminateds) or np.count_nonzero(truncateds):
                    self._open_and_end_episodes(row, counted)
            block.filled = rows.stop
            vector_steps -= len(rows)

    def _tell(self, observer: StepObserver, row: int, rewards: np.ndarray) -> None:
        own, block = self.collector, self._block
        for i, reward in enumerate(rewards.tolist()):
            if i not in own._resetting:
                observer.on_step(
                    i,
                    block.observations[row + 1, i],
                    block.actions[row, i],
                    reward,
                    bool(block.terminateds[row, i]),
                    bool(block.truncateds[row, i]),
                )

    def collected(self) -> Collected:
        self._keep_open_episodes()
        parts = [block.transitions() for block in self._blocks]
        rows = parts[0] if len(parts) == 1 else Transitions.concatenate(parts)
        return Collected(rows, self._returns, self._lengths)

    def _open_and_end_episodes(self, row: int, counted: np.ndarray | None) -> None:
        own, block = self.collector, self._block
        for i in own._resetting:
            own._open_episode(i, block.observations[row + 1, i])
            block.open_episode(row, i, own._episode_ids[i])
        ended = np.flatnonzero(block.terminateds[row] | block.truncateds[row]).tolist()
        own._resetting = [i for i in ended if i not in own._resetting]
        for i in own._resetting:
            self.ended[i] += 1
            if counted is None or counted[i]:
                self._returns.append(float(own._returns[i]))
                self._lengths.append(int(block.steps[row, i]) + 1)

    def _next_block(self) -> _Block:
        own = self.collector
        assert own._observations is not None
        block = _Block(
            own._observations, own._episode_ids, own._steps, len(own._low), self._block_steps
        )
        # If an environment fails from here on, the next run starts new episodes.
        own._observations = None
        self._blocks.append(block)
        return block

    def _keep_open_episodes(self) -> None:
        """Where the next block or run goes on."""
        own, block = self.collector, self._block
        own._observations = block.observations[block.filled].copy()
        own._steps = block.steps[block.filled].copy()
