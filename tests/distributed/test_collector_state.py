"""Tests that a collector goes on from its state as if it had not been stopped."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from distributed.collector import Collected, Collector
from distributed.episodes import SEEDS_AT_ONCE, ActionRecord, EpisodeSeeds
from distributed.vector_env import LeanSyncVectorEnv
from mnm.policy import TanhGaussianPolicy, numpy_weights
from tests.line_tasks import Line
from tests.mnm.small_cases import assert_same_rows

Maker = Callable[[], gym.Env]
TERMINATING: Maker = partial(gym.make, "InvertedPendulum-v5")
CUT: Maker = partial(gym.make, "Pendulum-v1", max_episode_steps=7)
NUMBERING: Maker = partial(Line, limit=0.5)  # its observations count the episodes it has had


def collector(make_one: Maker, count: int = 1, seed: int | None = 0, **kwargs: Any) -> Collector:
    env = LeanSyncVectorEnv([make_one] * count)
    made = Collector(env, seed, **kwargs)
    space = env.single_action_space
    assert isinstance(space, gym.spaces.Box)
    assert env.single_observation_space.shape is not None
    torch.manual_seed(0)
    policy = TanhGaussianPolicy(env.single_observation_space.shape[0], space.low, space.high, (8,))
    made.load_policy(numpy_weights(policy))
    return made


def copy_of(state: dict[str, Any]) -> dict[str, Any]:
    return pickle.loads(pickle.dumps(state))


def assert_same(first: Collected, second: Collected) -> None:
    assert_same_rows(first.transitions, second.transitions)
    assert first.episode_returns == second.episode_returns
    assert first.episode_lengths == second.episode_lengths


@pytest.mark.parametrize("make_one", [TERMINATING, CUT], ids=["terminating", "cut"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("mode", ["explore", "random"])
def test_a_state_taken_anywhere_is_gone_on_from_bit_for_bit(
    make_one: Maker, count: int, mode: Any
) -> None:
    made = collector(make_one, count)
    within, between = 0, 0
    for vector_steps in np.random.default_rng(count).integers(1, 12, 30).tolist():
        resumed = collector(make_one, count, seed=99)
        resumed.set_state(copy_of(made.get_state()))
        assert resumed.open_episodes == made.open_episodes
        within += resumed.open_episodes
        between += count - resumed.open_episodes
        assert_same(resumed.collect(vector_steps, mode), made.collect(vector_steps, mode))
        assert_same(resumed.collect(3, mode), made.collect(3, mode))
        assert resumed.take_episodes_dropped() == 0
    assert within > 15
    assert between > 1  # also where the next step was a reset


def test_a_state_of_a_resumed_collector_is_as_good() -> None:
    made = collector(CUT, 2)
    made.collect(5)
    first, second = collector(CUT, 2), collector(CUT, 2)
    first.set_state(copy_of(made.get_state()))
    second.set_state(copy_of(first.get_state()))
    assert_same(second.collect(20), made.collect(20))


def test_whole_episodes_go_on_where_the_ones_before_ended() -> None:
    made = collector(TERMINATING, 2)
    made.run_episodes(3, "deterministic")
    resumed = collector(TERMINATING, 2, seed=5)
    resumed.set_state(copy_of(made.get_state()))
    assert_same(resumed.run_episodes(3, "deterministic"), made.run_episodes(3, "deterministic"))


def test_episodes_of_an_environment_that_does_not_repeat_are_dropped_and_counted() -> None:
    made = collector(NUMBERING, 3)
    made.collect(90)  # beyond the first seeds
    while made.open_episodes < 3:
        made.collect(1)
    state = made.get_state()
    resumed = collector(NUMBERING, 3)
    resumed.set_state(state)
    assert resumed.take_episodes_dropped() == 3
    assert resumed.open_episodes == 0
    rows = resumed.collect(30).transitions
    new = set(rows.episode_ids.tolist())
    assert not new & set(state["open"]["episode_ids"].tolist())
    for episode in new:
        steps = rows.steps[rows.episode_ids == episode]
        np.testing.assert_array_equal(steps, np.arange(len(steps)))


def test_one_environment_at_odds_does_not_touch_the_others() -> None:
    made = collector(CUT, 3)
    made.collect(4)
    state = copy_of(made.get_state())
    state["open"]["observations"][1] += 1.0
    resumed = collector(CUT, 3)
    resumed.set_state(state)
    assert resumed.take_episodes_dropped() == 1
    rows, expected = resumed.collect(2).transitions, made.collect(2).transitions
    ids = made.get_state()["open"]["episode_ids"]
    for index in (0, 2):
        of_episode = rows.episode_ids == ids[index]
        assert of_episode.sum() == 2
        assert_same_rows(rows[of_episode], expected[expected.episode_ids == ids[index]])
    assert ids[1] not in rows.episode_ids


@pytest.mark.parametrize("count", [2, 4])
def test_other_environments_drop_all_open_episodes(count: int) -> None:
    made = collector(CUT, 3)
    made.collect(4)
    resumed = collector(CUT, count)
    resumed.set_state(made.get_state())
    assert resumed.take_episodes_dropped() == 3
    assert (resumed.collect(1).transitions.steps == 0).all()


def test_a_vector_environment_of_another_kind_drops_them_too() -> None:
    lean, plain = collector(CUT, 2), Collector(gym.vector.SyncVectorEnv([CUT] * 2), 0)
    for one, other in ((lean, plain), (plain, lean)):
        one.collect(4, "random")
        other.set_state(copy_of(one.get_state()))
        assert other.take_episodes_dropped() == 2
        assert ("actions" in one.get_state()["open"]) == (one is lean)
        assert (other.collect(1, "random").transitions.steps == 0).all()


class Book:
    """Writes down what a collector tells its observer."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_reset(self, index: int, observation: np.ndarray) -> None:
        self.events.append((int(index), observation.tolist()))

    def on_step(self, index: int, observation: np.ndarray, *rest: Any) -> None:
        action, *ends = rest
        self.events.append((int(index), observation.tolist(), action.tolist(), *ends))


def test_the_observer_hears_of_a_resumed_episode_from_its_start() -> None:
    first, second = Book(), Book()
    made = collector(CUT, 1, observer=first)
    made.collect(12)
    resumed = collector(CUT, 1, observer=second)
    resumed.set_state(made.get_state())
    assert len(second.events) == 1 + 4
    made.collect(9)
    resumed.collect(9)
    assert second.events == first.events[-len(second.events) :]


def test_seeds_differ_between_collectors_and_episodes_and_repeat() -> None:
    numbers = range(0, 3 * SEEDS_AT_ONCE, 7)
    first, second, again = EpisodeSeeds(0, 1), EpisodeSeeds(0, 2), EpisodeSeeds(0, 1)
    assert len({first[number] for number in numbers}) == len(numbers)
    assert not {first[number] for number in numbers} & {second[number] for number in numbers}
    assert [again[number] for number in reversed(numbers)] == [
        first[number] for number in reversed(numbers)
    ]
    assert EpisodeSeeds(None, 1)[0] != EpisodeSeeds(None, 1)[0]


def test_actions_are_kept_as_far_back_as_they_are_needed() -> None:
    record = ActionRecord()
    rows = np.arange(60, dtype=np.float32).reshape(30, 2, 1)
    for first in range(0, 30, 5):
        record.add(rows[first : first + 5], needed=12)
    np.testing.assert_array_equal(record.since(1, 12), rows[12:, 1])
    assert record.since(0, 31).shape == (0, 1)
    assert record.since(0, 9) is None
