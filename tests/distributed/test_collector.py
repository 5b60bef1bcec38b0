"""Tests of the collector on a task whose observations tell where each row belongs."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from distributed.collector import Collected, Collector
from distributed.open_episodes import EPISODE_ID_BITS
from mnm import Transitions
from mnm.policy import NumpyPolicy, TanhGaussianPolicy, numpy_weights
from mnm.transitions import COLUMNS
from tests.line_tasks import HIGH, LOW, STEP_SIZE, Line
from tests.mnm.small_cases import assert_same_rows

POSITION, STEPS, EPISODE = range(3)  # columns of the observation


def vector_env(count: int = 1, **kwargs: Any) -> gym.vector.SyncVectorEnv:
    return gym.vector.SyncVectorEnv([lambda: Line(**kwargs)] * count)


def collector(count: int = 1, seed: int | None = 0, index: int = 0, **kwargs: Any) -> Collector:
    made = Collector(vector_env(count, **kwargs), seed, index)
    made.load_policy(policy_weights())
    return made


def policy_weights(seed: int = 0) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    return numpy_weights(TanhGaussianPolicy(3, np.array([LOW]), np.array([HIGH]), (8,)))


def rows_of(made: list[Collected]) -> Transitions:
    return Transitions.concatenate([collected.transitions for collected in made])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_no_row_of_an_autoreset_enters(count: int, limit: float) -> None:
    """Within a row steps rise by one, the episode stays and the action explains the move."""
    rows = rows_of([collector(count, limit=limit, length=7).collect(60)])
    before, after = rows.observations, rows.next_observations
    np.testing.assert_array_equal(after[:, STEPS], before[:, STEPS] + 1)
    np.testing.assert_array_equal(after[:, EPISODE], before[:, EPISODE])
    np.testing.assert_array_equal(before[:, STEPS], rows.steps)
    np.testing.assert_allclose(
        after[:, POSITION], before[:, POSITION] + STEP_SIZE * rows.actions[:, 0], atol=1e-5
    )
    np.testing.assert_allclose(rows.rewards, np.exp(-(after[:, POSITION] ** 2)), rtol=1e-4)


def test_steps_lost_to_autoresets_are_exactly_one_an_episode() -> None:
    rows = rows_of([collector(2, limit=100.0, length=4).collect(50)])
    # Of five vector steps four are steps of an episode.
    assert len(rows) == 2 * 40
    assert int(rows.truncateds.sum()) == 2 * 10


def test_termination_and_truncation_are_told_apart() -> None:
    """The flags stand at last rows only, and each says why the episode ended there."""
    rows = rows_of([collector(2, limit=0.6, length=6).collect(200)])
    ended = rows.terminateds | rows.truncateds
    far = np.abs(rows.next_observations[:, POSITION]) > 0.6
    late = rows.next_observations[:, STEPS] >= 6
    np.testing.assert_array_equal(rows.terminateds, far)
    np.testing.assert_array_equal(rows.truncateds, late)
    assert far.any()
    assert (late & ~far).any()
    for episode in np.unique(rows.episode_ids):
        of_episode = np.flatnonzero(rows.episode_ids == episode)
        assert not ended[of_episode[:-1]].any()


def test_the_last_next_observation_is_the_last_one_of_its_episode() -> None:
    rows = rows_of([collector(1, limit=100.0, length=5).collect(30)])
    last = rows.next_observations[rows.truncateds]
    np.testing.assert_array_equal(last[:, STEPS], np.full(len(last), 5))
    np.testing.assert_array_equal(last[:, EPISODE], np.arange(len(last)))


def test_episodes_and_steps_are_unique_and_contiguous_across_calls_and_collectors() -> None:
    parts: list[Collected] = []
    for index in (1, 2):
        made = collector(2, seed=index, index=index, limit=0.5, length=6)
        parts += [made.collect(steps) for steps in (1, 4, 9, 3, 20)]
    rows = rows_of(parts)
    keys = set(zip(rows.episode_ids.tolist(), rows.steps.tolist(), strict=True))
    assert len(keys) == len(rows)
    for episode in np.unique(rows.episode_ids):
        steps = rows.steps[rows.episode_ids == episode]
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
    assert set(np.unique(rows.episode_ids >> EPISODE_ID_BITS)) == {1, 2}


def test_observations_go_on_across_calls() -> None:
    made = collector(2, limit=0.5, length=6)
    in_parts = rows_of([made.collect(steps) for steps in (5, 1, 14)])
    at_once = collector(2, limit=0.5, length=6).collect(20).transitions
    assert_same_rows(in_parts, at_once)


def test_returns_and_lengths_are_those_of_the_ended_episodes() -> None:
    collected = collector(3, limit=0.5, length=6).collect(40)
    rows = collected.transitions
    ended = np.flatnonzero(rows.terminateds | rows.truncateds)
    assert len(collected.episode_returns) == len(ended) > 0
    for row, value, length in zip(
        ended, collected.episode_returns, collected.episode_lengths, strict=True
    ):
        of_episode = rows.episode_ids == rows.episode_ids[row]
        assert length == of_episode.sum()
        assert value == pytest.approx(rows.rewards[of_episode].sum(), rel=1e-5)


def test_columns_have_the_documented_types() -> None:
    rows = collector(2).collect(5).transitions
    assert [getattr(rows, name).dtype for name in COLUMNS] == [
        np.float32,
        np.float32,
        np.float32,
        np.float32,
        bool,
        bool,
        np.int64,
        np.int64,
    ]
    assert rows.observations.shape == rows.next_observations.shape == (10, 3)
    assert rows.actions.shape == (10, 1)


@pytest.mark.parametrize("mode", ["explore", "deterministic", "random"])
def test_the_same_seed_gives_the_same_rows(mode: Any) -> None:
    first, second, other = (
        collector(2, seed=seed, limit=0.5).collect(30, mode).transitions for seed in (3, 3, 4)
    )
    assert_same_rows(first, second)
    assert not np.array_equal(first.observations[:10], other.observations[:10])


def test_without_a_seed_two_runs_differ() -> None:
    first, second = (collector(seed=None).collect(5, "random").transitions for _ in range(2))
    assert not np.array_equal(first.actions, second.actions)


def test_random_actions_fill_the_box_and_need_no_policy() -> None:
    rows = Collector(vector_env(2, limit=1e9), 0).collect(500, "random").transitions
    assert rows.actions.min() >= LOW
    assert rows.actions.max() <= HIGH
    counts, _ = np.histogram(rows.actions, bins=6, range=(LOW, HIGH))
    assert counts.min() > 0.7 * len(rows) / 6


def test_deterministic_actions_are_the_mode_and_exploring_ones_are_not() -> None:
    rows = collector().collect(20, "deterministic").transitions
    torch.manual_seed(0)
    policy = TanhGaussianPolicy(3, np.array([LOW]), np.array([HIGH]), (8,))
    with torch.no_grad():
        mode = policy.deterministic(torch.as_tensor(rows.observations)).numpy()
    np.testing.assert_allclose(rows.actions, mode, rtol=1e-4, atol=1e-5)
    explored = collector().collect(20, "explore").transitions
    assert not np.allclose(explored.actions[:1], rows.actions[:1])
    assert explored.actions.min() >= LOW
    assert explored.actions.max() <= HIGH


def test_a_newly_loaded_policy_acts_from_the_next_call_on() -> None:
    made = collector(limit=1e9, length=10**6)
    before = made.collect(1, "deterministic").transitions
    weights = policy_weights()
    weights["layers.1.bias"] = weights["layers.1.bias"] + 100.0
    made.load_policy(weights)
    after = made.collect(1, "deterministic").transitions
    assert before.actions[0, 0] < HIGH - 1e-3
    assert after.actions[0, 0] == pytest.approx(HIGH)


def test_acting_without_a_policy_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no policy yet"):
        Collector(vector_env(), 0).collect(1)


def test_a_vector_env_that_resets_in_the_same_step_is_refused() -> None:
    env = gym.vector.SyncVectorEnv([Line], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="use NEXT_STEP"):
        Collector(env, 0)


@pytest.mark.parametrize(("count", "episodes"), [(1, 3), (3, 3), (3, 7), (4, 2), (2, 1)])
def test_run_episodes_counts_exactly(count: int, episodes: int) -> None:
    collected = collector(count, limit=0.5).run_episodes(episodes, "explore")
    assert len(collected.episode_returns) == len(collected.episode_lengths) == episodes


def test_run_episodes_does_not_favour_short_episodes() -> None:
    """One environment's episodes take 2 steps, the other's 20: each plays half of them."""
    env = gym.vector.SyncVectorEnv(
        [lambda: Line(length=2, limit=1e9), lambda: Line(length=20, limit=1e9)]
    )
    made = Collector(env, 0)
    collected = made.run_episodes(6, "random")
    assert sorted(collected.episode_lengths) == [2, 2, 2, 20, 20, 20]


def test_run_episodes_starts_afresh_and_leaves_nothing_open() -> None:
    made = collector(2, limit=1e9, length=10)
    made.collect(3)
    collected = made.run_episodes(2, "deterministic")
    assert collected.episode_lengths == [10, 10]
    np.testing.assert_array_equal(made.collect(1).transitions.steps, [0, 0])


@pytest.mark.parametrize(("longest", "length"), [(4, 4), (20, 7)])
def test_cut_episodes_are_explored_from_their_start(
    longest: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the cut nor a time limit is a termination."""
    made = collector(2, limit=1e9, length=7)
    modes: list[str] = []
    plain = made._actor
    monkeypatch.setattr(made, "_actor", lambda mode: modes.append(mode) or plain(mode))
    made.collect(3, "deterministic")
    cut = made.run_cut_episodes(3, longest)
    assert set(modes[1:]) == {"explore"}
    assert len(cut) == 4  # two rounds of two environments
    assert [len(episode.rewards) for episode in cut] == [length] * 4
    assert [episode.first_observation[STEPS] for episode in cut] == [0] * 4
    assert not any(episode.terminated for episode in cut)


def test_a_cut_episode_that_terminated_says_so() -> None:
    (episode,) = collector(limit=0.01).run_cut_episodes(1, 50)
    assert episode.terminated
    assert len(episode.rewards) < 50


def test_reset_drops_the_open_episodes() -> None:
    made = collector(2, limit=1e9, length=100)
    before = made.collect(3).transitions
    made.reset()
    after = made.collect(1).transitions
    assert (after.steps == 0).all()
    assert not set(after.episode_ids) & set(before.episode_ids)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("mode", ["explore", "deterministic"])
def test_rows_are_those_of_a_loop_that_acts_at_every_step(count: int, mode: Any) -> None:
    """Also where all environments reset at once and nobody's action counts."""
    noise_seed, reset_seed = np.random.SeedSequence(0, spawn_key=(0,)).generate_state(2)
    policy = NumpyPolicy(policy_weights())
    generator = np.random.default_rng(noise_seed) if mode == "explore" else None
    env = vector_env(count, limit=0.5, length=6)
    observations, _ = env.reset(seed=int(reset_seed))
    ended = np.zeros(count, dtype=bool)
    expected: list[tuple[np.ndarray, ...]] = []
    for _ in range(60):
        actions = policy(observations, generator)
        following, rewards, terminateds, truncateds, _ = env.step(actions)
        columns = (observations, actions, rewards, following, terminateds, truncateds)
        expected.append(tuple(column[~ended] for column in columns))
        observations, ended = following, terminateds | truncateds
    assert min(len(step[0]) for step in expected) == 0 or count > 1
    rows = collector(count, limit=0.5, length=6).collect(60, mode).transitions
    for name, parts in zip(COLUMNS, zip(*expected, strict=True), strict=False):
        wanted = np.concatenate(parts).astype(getattr(rows, name).dtype)
        np.testing.assert_array_equal(getattr(rows, name), wanted, err_msg=name)


def test_a_failing_environment_leaves_no_half_an_episode() -> None:
    class Failing(Line):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            stepped = super().step(action)
            if self.total_steps == 13:
                raise RuntimeError("broken")
            return stepped

    made = Collector(gym.vector.SyncVectorEnv([lambda: Failing(limit=1e9)]), 0)
    before = made.collect(5, "random").transitions
    with pytest.raises(RuntimeError, match="broken"):
        made.collect(20, "random")
    after = made.collect(5, "random").transitions
    np.testing.assert_array_equal(after.steps, np.arange(5))
    assert not set(after.episode_ids) & set(before.episode_ids)


class Recorder:
    """Writes down what a collector tells its observer."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_reset(self, index: int, observation: np.ndarray) -> None:
        self.events.append(("reset", int(index), observation.copy()))

    def on_step(
        self,
        index: int,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> None:
        self.events.append(
            ("step", int(index), observation.copy(), action, reward, terminated, truncated)
        )


def test_the_observer_hears_of_every_reset_and_step() -> None:
    recorder = Recorder()
    made = Collector(vector_env(2, limit=0.5, length=5), 0, observer=recorder)
    rows = Transitions.concatenate([made.collect(20, "random").transitions for _ in range(2)])
    steps = [event for event in recorder.events if event[0] == "step"]
    assert len(steps) == len(rows)
    np.testing.assert_array_equal([event[2] for event in steps], rows.next_observations)
    np.testing.assert_array_equal([event[3] for event in steps], rows.actions)
    np.testing.assert_allclose([event[4] for event in steps], rows.rewards, rtol=1e-6)
    np.testing.assert_array_equal([event[5] for event in steps], rows.terminateds)
    np.testing.assert_array_equal([event[6] for event in steps], rows.truncateds)
    resets = [event for event in recorder.events if event[0] == "reset"]
    assert all(event[2][STEPS] == 0 for event in resets)
    for index in range(2):
        kinds = "".join(
            "R" if event[0] == "reset" else "E" if event[5] or event[6] else "s"
            for event in recorder.events
            if event[1] == index
        )
        # Between two resets there are steps and exactly one end.
        assert kinds.startswith("R")
        assert all(part.count("E") == 1 for part in kinds.split("R")[1:-1])
