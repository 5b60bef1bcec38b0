"""Building a config's environments, and refusing the spaces that the algorithm cannot learn on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import cast

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry

from distributed.vector_env import LeanSyncVectorEnv
from mnm import TaskSpaces
from mnm.terminations import TerminationFunction, known_termination


def make_vector_env(config: AlgorithmConfig, context: EnvContext) -> gym.vector.VectorEnv:
    """The vector environment that a config describes, with flat observations.

    Args:
        config: reads `env`, `num_envs_per_env_runner`, `gym_env_vectorize_mode`.
        context: the environment's configuration on this runner.

    Raises:
        ValueError: the environment cannot be made or has unsupported spaces; one sentence.
    """
    count = config.num_envs_per_env_runner
    mode = gym.VectorizeMode(config.gym_env_vectorize_mode)
    # Looked up here: a process of an AsyncVectorEnv cannot ask Ray for it.
    make_one = partial(_make_flat_env, config.env, _creator(config), context)
    if mode == gym.VectorizeMode.SYNC:
        env: gym.vector.VectorEnv = LeanSyncVectorEnv([make_one] * count)
    elif mode == gym.VectorizeMode.ASYNC:
        env = gym.vector.AsyncVectorEnv([make_one] * count)
    else:
        env = _make_own_vector_env(config, context, count, mode)
    check_spaces(env.single_observation_space, env.single_action_space, env_name(config))
    return env


def check_spaces(observations: gym.Space, actions: gym.Space, name: str) -> None:
    """Refuses what the networks cannot take.

    Raises:
        ValueError: discrete, unbounded or otherwise unsupported spaces, in one sentence.
    """
    if isinstance(actions, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        raise ValueError(
            f"{name} has a discrete action space ({actions}), which is not supported: MnM needs "
            "continuous actions (a bounded one-dimensional Box)."
        )
    if not isinstance(actions, gym.spaces.Box) or len(actions.shape) != 1:
        raise ValueError(
            f"{name} has the action space {actions}, which is not supported: MnM needs a bounded "
            "one-dimensional Box."
        )
    if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
        raise ValueError(
            f"{name} has an unbounded action space ({actions}): wrap it in "
            "gymnasium.wrappers.RescaleAction or give it finite bounds."
        )
    if not (actions.low < actions.high).all():
        raise ValueError(
            f"{name} has an action without a range ({actions}): give every action a lower bound "
            "below its upper one, or leave it out."
        )
    if not isinstance(observations, gym.spaces.Box) or len(observations.shape) != 1:
        raise ValueError(
            f"{name} has the observation space {observations}, which is not supported: MnM needs "
            "vectors (a one-dimensional Box, or a Dict or Tuple that flattens to one)."
        )


def task_spaces(observations: gym.Space, actions: gym.Space) -> TaskSpaces:
    """What the networks need to know of checked spaces."""
    assert isinstance(observations, gym.spaces.Box)
    assert isinstance(actions, gym.spaces.Box)
    low, high = (np.array(bound, dtype=np.float32) for bound in (actions.low, actions.high))
    return TaskSpaces(observations.shape[0], low, high)


def probe_spaces(config: AlgorithmConfig) -> tuple[gym.Space, gym.Space]:
    """Observation and action space: from the config where both are set, else of one environment.

    Raises:
        ValueError: as `make_vector_env`.
    """
    if config.observation_space is not None and config.action_space is not None:
        spaces = (config.observation_space, config.action_space)
    else:
        env = make_flat_env(config, EnvContext(config.env_config, worker_index=0))
        spaces = (env.observation_space, env.action_space)
        env.close()
    check_spaces(*spaces, env_name(config))
    return spaces


def resolve_termination(config: AlgorithmConfig) -> TerminationFunction | None:
    """The termination function that a config names; None where a head is to be learned.

    "auto" takes the known function of a Gymnasium task, "learned" none; a callable or the name
    "module:function" of one is taken as it is.

    Raises:
        ValueError: the name does not lead to a callable.
    """
    wanted = config.termination
    if wanted == "learned":
        return None
    if wanted == "auto":
        if not isinstance(config.env, str) or _global_registry.contains(ENV_CREATOR, config.env):
            return None
        return known_termination(config.env, env_kwargs=config.env_config)
    if isinstance(wanted, str):
        return _import_function(wanted)
    if not callable(wanted):
        raise ValueError(
            f'termination={wanted!r} is not valid: use "auto", "learned", a function or '
            '"module:function".'
        )
    return wanted


def env_name(config: AlgorithmConfig) -> str:
    """The environment's name for messages."""
    return config.env if isinstance(config.env, str) else getattr(config.env, "__name__", "env")


def _import_function(path: str) -> TerminationFunction:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'termination={path!r} cannot be imported ({error}): use "auto", "learned" or '
            '"module:function".'
        ) from error
    if not callable(found):
        raise ValueError(f"termination={path!r} is not a function.")
    return found


def _creator(config: AlgorithmConfig) -> Callable[[EnvContext], gym.Env] | None:
    """The function that makes the environment, where it is not a Gymnasium id."""
    if callable(config.env):
        return config.env
    if _global_registry.contains(ENV_CREATOR, config.env):
        return _global_registry.get(ENV_CREATOR, config.env)
    return None


def make_flat_env(config: AlgorithmConfig, context: EnvContext) -> gym.Env:
    """One environment of a config; Dict and Tuple observations come out flat.

    Raises:
        ValueError: the environment cannot be made; one sentence.
    """
    return _make_flat_env(config.env, _creator(config), context)


def _make_flat_env(
    name: str, creator: Callable[[EnvContext], gym.Env] | None, context: EnvContext
) -> gym.Env:
    try:
        env = creator(context) if creator is not None else gym.make(name, **context)
        flattens = isinstance(env.observation_space, gym.spaces.Dict | gym.spaces.Tuple)
        return FlattenObservation(env) if flattens else env
    except Exception as error:
        raise _cannot_make(name, error) from error


def _make_own_vector_env(
    config: AlgorithmConfig, context: EnvContext, count: int, mode: gym.VectorizeMode
) -> gym.vector.VectorEnv:
    """An environment that brings its own vectorisation."""
    creator = _creator(config)
    try:
        if creator is not None:
            own_context = EnvContext({**context, "num_envs": count}, context.worker_index)
            return cast(gym.vector.VectorEnv, creator(own_context))
        return gym.make_vec(config.env, num_envs=count, vectorization_mode=mode, **context)
    except Exception as error:
        raise _cannot_make(config.env, error) from error


def _cannot_make(env: object, error: Exception) -> ValueError:
    """One sentence; the type is in it where the error's own words may not say what it is."""
    name = env if isinstance(env, str) else getattr(env, "__name__", "env")
    kind, text = type(error).__name__, " ".join(str(error).split())
    if not isinstance(error, gym.error.Error | ImportError | ValueError) or not text:
        text = f"{kind}: {text}" if text else kind
    return ValueError(f"Cannot make the environment {name!r}: {text}")
