"""Tests of building environments from a config, and of the spaces that are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry, register_env

from mnm.terminations import inverted_pendulum, never_terminates
from rllib_ext import MnMConfig
from rllib_ext.environments import (
    check_spaces,
    env_name,
    make_flat_env,
    make_vector_env,
    probe_spaces,
    resolve_termination,
    task_spaces,
)
from tests.line_tasks import HIGH, LOW, Line, Named, far_from_origin

TASKS = "tests.line_tasks"


def config_of(env: Any, **env_config: Any) -> MnMConfig:
    return MnMConfig().environment(env, env_config=env_config)


def context_of(config: MnMConfig) -> EnvContext:
    return EnvContext(config.env_config, worker_index=0)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("Discrete-v0", "has a discrete action space .*, which is not supported"),
        ("Unbounded-v0", "has an unbounded action space .*RescaleAction or give it finite bounds"),
        ("Stuck-v0", "has an action without a range .*: give every action a lower bound below"),
        ("Image-v0", "has the observation space .*, which is not supported: MnM needs vectors"),
    ],
)
def test_unsupported_spaces_are_refused_in_one_sentence(env: str, sentence: str) -> None:
    config = config_of(f"{TASKS}:{env}")
    for build in (probe_spaces, lambda config: make_vector_env(config, context_of(config))):
        with pytest.raises(ValueError, match=sentence) as caught:
            build(config)
        assert str(caught.value).startswith(f"{TASKS}:{env}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "actions",
    [
        spaces.MultiDiscrete([2, 3]),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Dict({"a": spaces.Box(-1, 1, (1,))}),
        spaces.MultiBinary(3),
    ],
)
def test_other_action_spaces_are_refused(actions: gym.Space) -> None:
    with pytest.raises(ValueError, match="not supported"):
        check_spaces(spaces.Box(-1, 1, (3,)), actions, "Task")


def test_unknown_environments_are_named() -> None:
    for env in ("NoSuch-v0", "no.such.module:Task-v0", f"{TASKS}:NoSuch-v0"):
        with pytest.raises(ValueError, match="Cannot make the environment") as caught:
            probe_spaces(config_of(env))
        assert repr(env) in str(caught.value)


class Broken(Line):
    """Raises while it is made, or has no spaces then."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        if error is not None:
            raise error
        del self.observation_space


ERRORS = [
    (RuntimeError("no licence\nwas found"), "RuntimeError: no licence was found"),
    (KeyError("task"), "KeyError: 'task'"),
    (SyntaxError("invalid syntax", ("task.py", 3, 1, "x =")), "SyntaxError: invalid syntax"),
    (OSError(), "OSError"),
    (ValueError("size=0 is not valid"), "size=0 is not valid"),
    (None, "AttributeError: "),
]


@pytest.mark.parametrize(("error", "told"), ERRORS)
@pytest.mark.parametrize("by_id", [True, False])
def test_what_making_an_environment_raises_is_one_sentence(
    error: Exception | None, told: str, by_id: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        gym.registry, "Broken-v0", gym.envs.registration.EnvSpec("Broken-v0", Broken)
    )
    env = "Broken-v0" if by_id else (lambda context: Broken(**context))
    config = config_of(env, error=error)
    for make in (probe_spaces, lambda config: make_vector_env(config, context_of(config))):
        with pytest.raises(
            ValueError, match=f"^Cannot make the environment .*: {re.escape(told)}"
        ) as caught:
            make(config)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None


def test_a_missing_argument_is_one_sentence_whoever_vectorises() -> None:
    def make_line(context: EnvContext) -> Line:
        return Line(length=context["length"])

    for mode in ("sync", "vector_entry_point"):
        config = config_of(make_line).env_runners(gym_env_vectorize_mode=mode)
        with pytest.raises(ValueError, match=r"environment 'make_line': KeyError: 'length'$"):
            make_vector_env(config, context_of(config))


def test_a_gymnasium_id_and_its_arguments() -> None:
    config = config_of("Pendulum-v1", g=3.0).env_runners(num_envs_per_env_runner=2)
    env = make_vector_env(config, context_of(config))
    assert env.num_envs == 2
    assert env.get_attr("g") == (3.0, 3.0)
    assert env.single_observation_space.shape == (3,)
    env.close()


def test_a_users_own_environment_by_module_and_id() -> None:
    config = config_of(f"{TASKS}:Line-v0", length=7)
    env = make_vector_env(config, context_of(config))
    assert env.get_attr("length") == (7,)
    observations, rewards = task_spaces(*probe_spaces(config)), env.reset(seed=0)[0]
    assert observations.observation_dim == 3
    np.testing.assert_array_equal(observations.action_low, [LOW])
    np.testing.assert_array_equal(observations.action_high, [HIGH])
    assert rewards.shape == (1, 3)
    env.close()


@pytest.fixture
def registered_line() -> Iterator[str]:
    name = "a-line-of-the-tests"
    register_env(name, lambda context: Line(length=context["length"]))
    yield name
    _global_registry.unregister(ENV_CREATOR, name)


def test_an_environment_registered_with_ray(registered_line: str) -> None:
    config = config_of(registered_line, length=4)
    env = make_vector_env(config, context_of(config))
    assert env.get_attr("length") == (4,)
    assert resolve_termination(config) is None
    env.close()


def test_a_class_is_called_with_the_context() -> None:
    seen: list[EnvContext] = []

    def make_line(context: EnvContext) -> Line:
        seen.append(context)
        return Line(length=context.get("length", 10))

    config = config_of(make_line, length=3)
    env = make_vector_env(config, EnvContext(config.env_config, worker_index=2))
    assert env.get_attr("length") == (3,)
    assert seen[0].worker_index == 2
    assert env_name(config) == "make_line"
    env.close()


def test_dict_observations_come_out_flat() -> None:
    config = config_of(f"{TASKS}:Named-v0").env_runners(num_envs_per_env_runner=2)
    env = make_vector_env(config, context_of(config))
    assert env.single_observation_space.shape == (3,)
    flat, _ = env.reset(seed=[1, 2])
    for index, seed in enumerate((1, 2)):
        named = Named().reset(seed=seed)[0]
        np.testing.assert_array_equal(
            flat[index], np.concatenate([named["episode"], named["position"]])
        )
    assert probe_spaces(config)[0] == env.single_observation_space
    env.close()


def test_tuple_observations_come_out_flat() -> None:
    class Pair(Line):
        def __init__(self) -> None:
            super().__init__()
            box = spaces.Box(-np.inf, np.inf, (3,), np.float32)
            self.observation_space = spaces.Tuple((box, box))

        def observe(self) -> Any:
            return super().observe(), super().observe()

    config = config_of(lambda context: Pair())
    env = make_flat_env(config, context_of(config))
    assert env.observation_space.shape == (6,)
    assert env.reset(seed=0)[0].shape == (6,)


def test_environments_in_processes_of_their_own() -> None:
    config = config_of(f"{TASKS}:Line-v0").env_runners(
        num_envs_per_env_runner=2, gym_env_vectorize_mode="async"
    )
    env = make_vector_env(config, context_of(config))
    try:
        assert isinstance(env, gym.vector.AsyncVectorEnv)
        assert env.reset(seed=0)[0].shape == (2, 3)
    finally:
        env.close()


def test_spaces_given_in_the_config_are_taken_without_an_environment() -> None:
    observations, actions = spaces.Box(-1, 1, (5,)), spaces.Box(-1, 1, (2,))
    config = MnMConfig().environment(
        "NoSuch-v0", observation_space=observations, action_space=actions
    )
    assert probe_spaces(config) == (observations, actions)


@pytest.mark.parametrize(
    ("env", "wanted", "expected"),
    [
        ("InvertedPendulum-v5", "auto", inverted_pendulum),
        ("Pendulum-v1", "auto", never_terminates),
        ("InvertedPendulum-v5", "learned", None),
        (f"{TASKS}:Line-v0", "auto", None),
        (f"{TASKS}:Line-v0", f"{TASKS}:far_from_origin", far_from_origin),
        (f"{TASKS}:Line-v0", far_from_origin, far_from_origin),
        (Line, "auto", None),
    ],
)
def test_terminations(env: Any, wanted: Any, expected: Any) -> None:
    assert resolve_termination(config_of(env).training(termination=wanted)) is expected
