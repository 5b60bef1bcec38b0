"""Steps a vector environment with the current policy and hands over flat columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from distributed.episodes import StepObserver
from distributed.open_episodes import OpenEpisodes
from distributed.row_block import RowBlock
from distributed.vector_env import EnvironmentFailed
from mnm import Transitions
from mnm.policy import NumpyPolicy

ActionMode = Literal["explore", "deterministic", "random"]
Policy = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]
BLOCK_STEPS = 256  # vector steps that memory is taken for at once where their number is not known


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
        self.policy: Policy | None = None
        # Streams of their own for the noise and for the environments, in every collector.
        streams = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(2)
        self._generator = np.random.default_rng(streams[0])
        self._episodes = OpenEpisodes(env, seed, int(streams[1]), index, observer)
        self.use(env)

    def use(self, env: gym.vector.VectorEnv) -> None:
        """Steps this environment from now on; the open episodes of the one before are dropped.

        Raises:
            ValueError: it resets within the step that ends an episode.
        """
        mode = env.metadata.get("autoreset_mode", gym.vector.AutoresetMode.NEXT_STEP)
        if mode != gym.vector.AutoresetMode.NEXT_STEP:
            raise ValueError(
                f"The vector environment resets in mode {mode.value}: use NEXT_STEP, so that the "
                "last observation of an episode is not lost."
            )
        assert isinstance(env.single_action_space, gym.spaces.Box)
        self.env = env
        self._low = env.single_action_space.low
        self._high = env.single_action_space.high
        self._episodes.use(env)

    def load_policy(self, weights: Mapping[str, np.ndarray]) -> None:
        """Acts from now on with these weights (`mnm.policy.numpy_weights`)."""
        self.policy = NumpyPolicy(weights)

    def reset(self) -> None:
        """Drops the open episodes; the next call starts new ones."""
        self._episodes.observations = None

    @property
    def open_episodes(self) -> int:
        """How many environments are within an episode."""
        return len(self._episodes)

    def take_episodes_dropped(self) -> int:
        """Episodes that a failure or a restore broke off since the last call."""
        dropped, self._episodes.dropped = self._episodes.dropped, 0
        return dropped

    def get_state(self) -> dict[str, Any]:
        """Plain values and arrays, from which `set_state` goes on bit for bit."""
        return {"generator": self._generator.bit_generator.state, **self._episodes.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called; see `OpenEpisodes.set_state`."""
        self._generator.bit_generator.state = state["generator"]
        self._episodes.set_state(state)

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
        self._episodes.started = max(self._episodes.started, 2 * first_step)
        run = self._run(vector_steps)
        act = self._actor(action_mode)
        run.advance(act, vector_steps)
        return run.collected()

    def run_episodes(self, episodes: int, action_mode: ActionMode) -> Collected:
        """Runs until `episodes` episodes have ended, from fresh resets.

        Each environment plays its share to the end, so that short episodes are not favoured. Those
        that `collect` left open are dropped.
        """
        self._episodes.dropped += self.open_episodes
        self.reset()
        run = self._run(BLOCK_STEPS)
        shares = np.full(self.env.num_envs, episodes // self.env.num_envs)
        shares[: episodes % self.env.num_envs] += 1
        act = self._actor(action_mode)
        while (shares > run.ended).any():
            run.advance(act, counted=shares > run.ended)
        collected = run.collected()
        self.reset()
        return collected

    def run_cut_episodes(self, episodes: int, longest: int) -> list[CutEpisode]:
        """Starts of at least `episodes` fresh episodes under the stochastic policy.

        Args:
            episodes: how many; rounded up to whole rounds of the vector environment.
            longest: steps after which an episode is left.
        """
        cut: list[CutEpisode] = []
        while len(cut) < episodes:
            self.reset()
            run = self._run(longest)
            ids = self._episodes.ids.copy()
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

    def _run(self, block_steps: int) -> _Run:
        return _Run(self._episodes, len(self._low), block_steps)

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
            if generator is None or len(self._episodes.resetting) < len(observations):
                return policy(observations, generator)
            # All environments reset and ignore their actions: only the noise is drawn.
            return generator.standard_normal(shape, dtype=np.float32)

        return act


class _Run:
    """The rows of one call of a collector.

    Args:
        episodes: that it goes on with, or starts where none is open.
        action_dim: of its environments.
        block_steps: vector steps that memory is taken for at once.
    """

    def __init__(self, episodes: OpenEpisodes, action_dim: int, block_steps: int) -> None:
        self.episodes = episodes
        self.ended = np.zeros(episodes.env.num_envs, dtype=np.int64)
        self._action_dim = action_dim
        self._block_steps = block_steps
        self._blocks: list[RowBlock] = []
        self._returns: list[float] = []
        self._lengths: list[int] = []
        if episodes.observations is None:
            episodes.start()
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
        episodes = self.episodes
        step_into, observer = episodes.step_into, episodes.observer
        while vector_steps > 0:
            if self._block.filled == self._block.capacity:
                self._keep_open_episodes()
                self._block = self._next_block()
            block = self._block
            first = block.filled
            block.filled = min(first + vector_steps, block.capacity)
            made = slice(first, block.filled)
            for row, before, after, actions, rewards, terminateds, truncateds in zip(
                range(first, block.filled),
                block.observations[made],
                block.observations[first + 1 : block.filled + 1],
                block.actions[made],
                block.rewards[made],
                block.terminateds[made],
                block.truncateds[made],
                strict=True,
            ):
                actions[:] = act(before)
                try:
                    ended = step_into(actions, after, rewards, terminateds, truncateds)
                except Exception as error:
                    episodes.dropped += self._touched()
                    raise EnvironmentFailed(f"{type(error).__name__}: {error}") from error
                episodes.returns += rewards
                if observer is not None:
                    self._tell(observer, row)
                if ended or episodes.resetting:
                    self._open_and_end_episodes(row, counted)
            vector_steps -= block.filled - first

    def _touched(self) -> int:
        """Episodes that have rows here or are open: none of these rows is handed over."""
        return int(self.ended.sum()) + len(self.ended) - len(self.episodes.resetting)

    def _tell(self, observer: StepObserver, row: int) -> None:
        block, resetting = self._block, self.episodes.resetting
        for i, reward in enumerate(block.rewards[row].tolist()):
            if i not in resetting:
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
        episodes, block = self.episodes, self._block
        for i in episodes.resetting:
            episodes.open(i, block.observations[row + 1, i])
            block.open_episode(row, i, episodes.ids[i])
        ended = (block.terminateds[row] | block.truncateds[row]).nonzero()[0].tolist()
        episodes.resetting = [i for i in ended if i not in episodes.resetting]
        for i in episodes.resetting:
            episodes.end(i, row)
            self.ended[i] += 1
            if counted is None or counted[i]:
                self._returns.append(float(episodes.returns[i]))
                self._lengths.append(int(block.steps[row, i]) + 1)

    def _next_block(self) -> RowBlock:
        episodes = self.episodes
        assert episodes.observations is not None
        block = RowBlock(
            episodes.observations, episodes.ids, episodes.steps, self._action_dim, self._block_steps
        )
        # If an environment fails from here on, the next run starts new episodes.
        episodes.observations = None
        self._blocks.append(block)
        return block

    def _keep_open_episodes(self) -> None:
        """Where the next block or run goes on."""
        block, filled = self._block, self._block.filled
        self.episodes.keep(block.observations[filled], block.steps[filled], block.actions[:filled])
