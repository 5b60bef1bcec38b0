"""Tests that the lean vector environment steps and resets as Gymnasium's own does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation

from distributed.collector import Collector
from distributed.vector_env import LeanSyncVectorEnv, step_into
from mnm.transitions import COLUMNS
from tests.line_tasks import Line, Named

COUNT, STEPS = 3, 60


def flat_named() -> gym.Env:
    return FlattenObservation(Named(limit=0.5, length=6))


TASKS: dict[str, Callable[[], gym.Env]] = {
    "ends of both kinds": partial(Line, limit=0.5, length=6),
    "one step an episode": partial(Line, limit=1e9, length=1),
    "flattened Dict": flat_named,
    "float64, terminating": partial(gym.make, "InvertedPendulum-v5"),
    "float64, cut": partial(gym.make, "HalfCheetah-v5", max_episode_steps=7),
}
each_task = pytest.mark.parametrize("make_one", TASKS.values(), ids=TASKS.keys())


def both(make_one: Callable[[], gym.Env]) -> tuple[LeanSyncVectorEnv, gym.vector.SyncVectorEnv]:
    return LeanSyncVectorEnv([make_one] * COUNT), gym.vector.SyncVectorEnv([make_one] * COUNT)


def drawn_actions(env: gym.vector.VectorEnv) -> list[np.ndarray]:
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(STEPS)]


def assert_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@each_task
def test_steps_and_autoresets_are_those_of_gymnasium(make_one: Callable[[], gym.Env]) -> None:
    lean, plain = both(make_one)
    assert_same(lean.reset(seed=5)[:1], plain.reset(seed=5)[:1])
    ends = 0
    for actions in drawn_actions(plain):
        stepped = lean.step(actions)
        assert_same(stepped[:4], plain.step(actions)[:4])
        assert stepped[4] == {}
        ends += int((stepped[2] | stepped[3]).sum())
    assert ends >= COUNT  # so that autoresets were compared
    lean.close()
    plain.close()


@each_task
def test_steps_into_given_arrays_are_the_same(make_one: Callable[[], gym.Env]) -> None:
    """Both the lean one's own and what other vector environments get."""
    lean, plain = both(make_one)
    lean.reset(seed=5)
    plain.reset(seed=5)
    shape = (COUNT, *plain.single_observation_space.shape)
    for actions in drawn_actions(plain):
        answers = []
        for step in (lean.step_into, partial(step_into, plain)):
            arrays = (
                np.full(shape, np.nan, np.float32),
                np.full(COUNT, np.nan, np.float32),
                np.ones(COUNT, dtype=bool),
                np.ones(COUNT, dtype=bool),
            )
            ended = step(actions, *arrays)
            assert ended == (arrays[2] | arrays[3]).any()
            answers.append(arrays)
        assert_same(*answers)


def test_a_reset_forgets_which_episodes_had_ended() -> None:
    lean, plain = both(TASKS["ends of both kinds"])
    actions = drawn_actions(plain)
    for seed in ([4, 9, 2], None):
        for env in (lean, plain):
            env.reset(seed=[1, 2, 3])
            while not (env.step(actions[0])[3]).any():
                pass
        assert_same(lean.reset(seed=seed)[:1], plain.reset(seed=seed)[:1])
        for some in actions[:10]:
            assert_same(lean.step(some)[:4], plain.step(some)[:4])


def test_a_partial_reset_is_that_of_gymnasium() -> None:
    lean, plain = both(TASKS["ends of both kinds"])
    lean.reset(seed=5)
    plain.reset(seed=5)
    actions = drawn_actions(plain)
    for step, some in enumerate(actions):
        if step % 4 == 3:
            mask = np.array([True, False, step % 8 == 3])
            fresh, expected = (env.reset(options={"reset_mask": mask})[0] for env in (lean, plain))
            np.testing.assert_array_equal(fresh, expected)
        assert_same(lean.step(some)[:4], plain.step(some)[:4])


def test_the_single_environments_are_still_there() -> None:
    lean = LeanSyncVectorEnv([TASKS["ends of both kinds"]] * COUNT)
    assert lean.unwrapped is lean
    assert [type(env) for env in lean.envs] == [Line] * COUNT
    assert lean.get_attr("length") == (6,) * COUNT
    assert lean.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP


class OwnSeeds(gym.Wrapper):
    """Seeds its resets itself: only a lean vector environment does it for the collector."""

    def __init__(self, env: gym.Env, number: int) -> None:
        super().__init__(env)
        self.next_seed = 1000 * number

    def reset(self, **ignored: Any) -> tuple[Any, dict[str, Any]]:
        self.next_seed += 1
        return super().reset(seed=self.next_seed)


@pytest.mark.parametrize("mode", ["sync", "async"])
@each_task
def test_a_collector_brings_the_same_rows_from_gymnasiums_own(
    make_one: Callable[[], gym.Env], mode: str
) -> None:
    other = gym.vector.SyncVectorEnv if mode == "sync" else gym.vector.AsyncVectorEnv
    makers = [lambda number=number: OwnSeeds(make_one(), number) for number in range(COUNT)]
    envs = LeanSyncVectorEnv(makers), other(makers)
    try:
        first, second = (Collector(env, seed=3, index=1).collect(STEPS, "random") for env in envs)
    finally:
        for env in envs:
            env.close()
    for name in COLUMNS:
        assert_same((getattr(first.transitions, name),), (getattr(second.transitions, name),))
    assert first.episode_returns == second.episode_returns
    assert first.episode_lengths == second.episode_lengths
    assert len(first.episode_lengths) >= COUNT
