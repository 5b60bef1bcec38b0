"""Steps a vector environment with the current policy and hands over flat columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from distributed.episodes import ActionRecord, EpisodeSeeds, StepObserver, replay
from distributed.row_block import RowBlock
from distributed.vector_env import EnvironmentFailed, LeanSyncVectorEnv, step_into
from mnm import Transitions
from mnm.policy import NumpyPolicy

ActionMode = Literal["explore", "deterministic", "random"]
Policy = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]
EPISODE_ID_BITS = 40  # of an episode's number; the collector's index stands above them
STEPS_PER_SEED = 64  # of one environment, at the least
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

    In a `LeanSyncVectorEnv` an episode is reset with a seed of its own, but for those that begin
    within `STEPS_PER_SEED` steps of the last seed: seeding takes as long as a few steps. That seed
    and the actions since tell where an environment is, and by them `set_state` gets there.

    Args:
        env: vector environment with flat Box observations and bounded Box actions.
        seed: of resets, exploration noise and random actions; None: from the operating system.
        index: of this collector; makes its episode numbers unique in a run.
        observer: is told of each step; costs time.

    Attributes:
        episodes_dropped: that an environment's failure or a restore broke off; the caller may set
            it back to 0.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        seed: int | None,
        index: int = 0,
        observer: StepObserver | None = None,
    ) -> None:
        self.observer = observer
        self.policy: Policy | None = None
        self.episodes_dropped = 0
        # Streams of their own for the noise and for the environments, in every collector.
        streams = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(2)
        self._generator = np.random.default_rng(streams[0])
        self._reset_seed: int | None = int(streams[1])  # where episodes have none of their own
        self._index = index
        self._seeds = EpisodeSeeds(seed, index)
        self._record = ActionRecord()
        self._episodes_started = 0
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
        self.env = env
        self._lean = env if isinstance(env, LeanSyncVectorEnv) else None
        self._step_into = self._lean.step_into if self._lean else partial(step_into, env)
        assert isinstance(env.single_action_space, gym.spaces.Box)
        self._low = env.single_action_space.low
        self._high = env.single_action_space.high
        self._observations: np.ndarray | None = None
        self._resetting: list[int] = []  # environments whose next step is an autoreset

    def load_policy(self, weights: Mapping[str, np.ndarray]) -> None:
        """Acts from now on with these weights (`mnm.policy.numpy_weights`)."""
        self.policy = NumpyPolicy(weights)

    def reset(self) -> None:
        """Drops the open episodes; the next call starts new ones."""
        self._observations = None

    @property
    def open_episodes(self) -> int:
        """How many environments are within an episode."""
        return 0 if self._observations is None else len(self._steps) - len(self._resetting)

    def get_state(self) -> dict[str, Any]:
        """Plain values and arrays, from which `set_state` goes on bit for bit."""
        state: dict[str, Any] = {
            "generator": self._generator.bit_generator.state,
            "entropy": self._seeds.entropy,
            "episodes_started": self._episodes_started,
        }
        if self._observations is not None:
            state["open"] = {
                "observations": self._observations.copy(),
                "steps": self._steps.copy(),
                "returns": self._returns.copy(),
                "episode_ids": self._episode_ids.copy(),
                "resetting": list(self._resetting),
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
        self._generator.bit_generator.state = state["generator"]
        self._seeds = EpisodeSeeds(state["entropy"], self._index)
        self._episodes_started = state["episodes_started"]
        self.reset()
        saved = state.get("open")
        if saved is None:
            return
        lean, seeds = self._lean, saved.get("seeds")
        if lean is None or seeds is None or len(seeds) != lean.num_envs:
            self.episodes_dropped += len(saved["steps"]) - len(saved["resetting"])
            return
        self._observations = saved["observations"].copy()
        self._steps = saved["steps"].copy()
        self._returns = saved["returns"].copy()
        self._episode_ids = saved["episode_ids"].copy()
        self._seeded = list(seeds)
        self._record = ActionRecord.of(saved["actions"])
        self._seeded_at = [self._record.made - since for since in saved["steps_since_seed"]]
        self._resetting = []
        for i, actions in enumerate(saved["actions"]):
            resetting = i in saved["resetting"]
            lean.reset_seeds[i] = seeds[i] if saved["steps_since_seed"][i] < 0 else None
            kept = lean.reset_seeds[i] is not None or self._replay(i, actions, resetting)
            if not kept:
                self.episodes_dropped += not resetting
                self._seeded_at[i] = -STEPS_PER_SEED
                self._begin_episode(i, self._record.made + 1)
            if resetting or not kept:
                self._resetting.append(i)
        lean.reset_next(self._resetting)

    def _replay(self, index: int, actions: np.ndarray | None, resetting: bool) -> bool:
        """Brings an environment to where it was; returns whether it got there.

        Args:
            index: of the environment.
            actions: [steps, act] since its last seed; None: they were too many.
            resetting: whether its episode had ended.
        """
        assert self._lean is not None
        assert self._observations is not None
        if actions is None:
            return False
        start = None if resetting else len(actions) - int(self._steps[index])
        try:
            reached, ended = replay(
                self._lean.envs[index], self._seeded[index], actions, self.observer, index, start
            )
        except Exception:  # an environment that goes on raising will do so in the next step too
            return False
        return ended == resetting and np.array_equal(reached, self._observations[index])

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
        """Starts an episode in every environment."""
        count = self.env.num_envs
        self._resetting = []
        self._steps = np.zeros(count, dtype=np.int64)
        self._returns = np.zeros(count)
        self._episode_ids = np.zeros(count, dtype=np.int64)
        row = self._record.made
        self._seeded = [0] * count  # the last seed of each environment,
        self._seeded_at = [row - STEPS_PER_SEED] * count  # and the row of its first step
        for index in range(count):
            self._begin_episode(index, row)
        seeds: Any = self._lean.reset_seeds if self._lean else self._reset_seed
        try:
            observations, _ = self.env.reset(seed=seeds)
        except Exception as error:
            raise EnvironmentFailed(f"{type(error).__name__}: {error}") from error
        self._reset_seed = None
        self._observations = observations.astype(np.float32)
        for index in range(count):
            self._open_episode(index, self._observations[index])

    def _begin_episode(self, index: int, row: int) -> None:
        """Numbers the next episode of an environment; seeds its reset where that is due.

        Args:
            index: of the environment.
            row: of the episode's first step, among all vector steps of the record.
        """
        number = self._episodes_started
        self._episodes_started += 1
        self._episode_ids[index] = (self._index << EPISODE_ID_BITS) + number
        if self._lean is not None:
            seed = self._seeds[number] if row - self._seeded_at[index] >= STEPS_PER_SEED else None
            self._lean.reset_seeds[index] = seed
            if seed is not None:
                self._seeded[index], self._seeded_at[index] = seed, row

    def _open_episode(self, index: int, observation: np.ndarray) -> None:
        self._returns[index] = 0.0
        if self.observer is not None:
            self.observer.on_reset(index, observation)


class _Run:
    """The rows of one call of a collector, in blocks of `block_steps` vector steps."""

    def __init__(self, collector: Collector, block_steps: int) -> None:
        self.collector = collector
        self.ended = np.zeros(collector.env.num_envs, dtype=np.int64)
        self._block_steps = block_steps
        self._blocks: list[RowBlock] = []
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
        step_into, observer = own._step_into, own.observer
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
                    own.episodes_dropped += self._touched()
                    raise EnvironmentFailed(f"{type(error).__name__}: {error}") from error
                own._returns += rewards
                if observer is not None:
                    self._tell(observer, row)
                if ended or own._resetting:
                    self._open_and_end_episodes(row, counted)
            vector_steps -= block.filled - first

    def _touched(self) -> int:
        """Episodes that have rows here or are open: none of these rows is handed over."""
        return int(self.ended.sum()) + len(self.ended) - len(self.collector._resetting)

    def _tell(self, observer: StepObserver, row: int) -> None:
        own, block = self.collector, self._block
        for i, reward in enumerate(block.rewards[row].tolist()):
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
        ended = (block.terminateds[row] | block.truncateds[row]).nonzero()[0].tolist()
        own._resetting = [i for i in ended if i not in own._resetting]
        for i in own._resetting:
            own._begin_episode(i, own._record.made + row + 2)  # after the row of its reset
            self.ended[i] += 1
            if counted is None or counted[i]:
                self._returns.append(float(own._returns[i]))
                self._lengths.append(int(block.steps[row, i]) + 1)

    def _next_block(self) -> RowBlock:
        own = self.collector
        assert own._observations is not None
        block = RowBlock(
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
        if own._lean is not None:
            own._record.add(block.actions[: block.filled], min(own._seeded_at))
