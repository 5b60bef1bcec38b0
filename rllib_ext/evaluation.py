"""Evaluating a saved policy on fresh environments, without Ray actors."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from ctypes.util import find_library
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
from ray.rllib.env.env_context import EnvContext

from distributed.collector import ActionMode, Collected, Collector, Policy
from distributed.storage import Location
from distributed.vector_env import EnvironmentFailed, LeanSyncVectorEnv
from rllib_ext.config import MnMConfig
from rllib_ext.env_runner import ENV_FAILURES_IN_A_ROW
from rllib_ext.environments import make_vector_env, task_spaces
from rllib_ext.errors import UserError
from rllib_ext.plain_values import name_within
from rllib_ext.ray_session import first_line
from rllib_ext.saved_policy import PolicyHeader, SavedPolicy, load_policy


@dataclass(frozen=True)
class Evaluation:
    """Returns of a policy's mode over whole episodes.

    Attributes:
        return_mean: mean undiscounted return.
        return_std: standard deviation over the episodes.
        length_mean: mean length in steps.
        episodes: number of them.
    """

    return_mean: float
    return_std: float
    length_mean: float
    episodes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def evaluate_policy(
    source: Location | Path,
    episodes: int = 10,
    seed: int = 0,
    env: str | None = None,
    video: Path | None = None,
) -> Evaluation:
    """Plays whole episodes with the mode of a saved policy; no pickle is read.

    Args:
        source: folder that `MnM.save_to_path` or a run wrote, or file that `mnm export` wrote.
        episodes: number of episodes.
        seed: of the environment.
        env: another id to evaluate on; None: the policy's own.
        video: film of the first episode to write, by the file's ending; None: none.

    Raises:
        UserError: the policy or the environment does not serve, or no film can be made.
    """
    saved = load_policy(source)
    if video is not None:
        _choose_renderer()
    config, context = _task(saved.header, env)
    collected = play_episodes(saved, episodes, seed, "deterministic", env, str(source))
    if video is not None:
        _film(config, context, saved.act, seed, video)
    returns = np.array(collected.episode_returns)
    return Evaluation(
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
        length_mean=float(np.mean(collected.episode_lengths)),
        episodes=len(returns),
    )


def play_episodes(
    saved: SavedPolicy,
    episodes: int,
    seed: int,
    action_mode: ActionMode,
    env: str | None = None,
    name: str = "The policy",
) -> Collected:
    """Plays whole episodes on a fresh environment.

    Args:
        saved: policy that acts.
        episodes: number of episodes.
        seed: of the environment and the policy's noise.
        action_mode: "deterministic" for the policy's mode, "explore" to sample.
        env: another id to play on; None: the policy's own.
        name: of the policy, for messages.

    Raises:
        UserError: the environment cannot be made, is of another task, or failed over and over; one
            that fails now and then is made anew.
    """
    config, context = _task(saved.header, env)
    for _ in range(ENV_FAILURES_IN_A_ROW):
        environment = _environment(config, context, saved.header, name)
        collector = Collector(environment, seed)
        collector.policy = saved.act
        try:
            return collector.run_episodes(episodes, action_mode)
        except EnvironmentFailed as failure:
            what = first_line(failure)
        finally:
            with suppress(Exception):  # it may be broken
                environment.close()
    raise UserError(
        f"The environment {config.env} failed {ENV_FAILURES_IN_A_ROW} times in a row while {name} "
        f"was played, the last time with {what}: mend it."
    )


def _environment(
    config: MnMConfig, context: EnvContext, header: PolicyHeader, name: str
) -> gym.vector.VectorEnv:
    """A fresh environment that the policy fits.

    Raises:
        UserError: it cannot be made, or is of another task.
    """
    try:
        environment = make_vector_env(config, context)
    except ValueError as error:
        raise UserError(str(error)) from error
    own = task_spaces(environment.single_observation_space, environment.single_action_space)
    widths = (own.observation_dim, own.action_dim)
    trained = (header.observation_dim, len(header.action_low))
    if widths != trained:
        environment.close()
        raise UserError(
            f"{name} is of another task: its policy takes {trained[0]} observations and gives "
            f"{trained[1]} actions, {config.env} has {widths[0]} and {widths[1]}."
        )
    return environment


def _task(header: PolicyHeader, env: str | None) -> tuple[MnMConfig, EnvContext]:
    """The config and context that a policy's environment is made by.

    Raises:
        UserError: an argument of its own environment is one that JSON could not hold; another one
            is made without it.
    """
    lacking = {key: name_within(value) for key, value in header.env_config.items()}
    for key, name in lacking.items():
        if name is not None and env is None:
            raise UserError(
                f"The environment {header.env} was made with {key}={name}, which a saved policy "
                "cannot hold: register an id whose kwargs have it, and name that id with --env."
            )
    arguments = {key: value for key, value in header.env_config.items() if lacking[key] is None}
    config = MnMConfig().environment(env or header.env, env_config=arguments)
    return config, EnvContext(config.env_config, worker_index=0)


def _choose_renderer() -> None:
    """Where there is no screen, has MuJoCo draw by a library that is there; a user's choice stays.

    MuJoCo reads it once, as it is imported with the first of its environments.
    """
    if sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return
    for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if find_library(library):
            os.environ.setdefault("MUJOCO_GL", name)


def _film(config: MnMConfig, context: EnvContext, policy: Policy, seed: int, video: Path) -> None:
    """Writes the first episode as a film."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of GL libraries that are tried in turn
            frames, rate = _frames(config, context, policy, seed)
        # Pillow, which writes GIF, takes milliseconds a frame; ffmpeg takes frames a second.
        timing: dict[str, Any] = (
            {"duration": 1000 / rate}
            if video.suffix == ".gif"
            else {"fps": rate, "macro_block_size": 2}  # else it is enlarged to multiples of 16
        )
        imageio.mimwrite(video, frames, **timing)
    except Exception as error:  # MuJoCo, its GL libraries and film writers have kinds of their own
        raise UserError(
            f"No film could be written to {video}: {first_line(error)} (without a screen MuJoCo "
            "draws by EGL or OSMesa: install libegl1 or libosmesa6, and set MUJOCO_GL to egl or "
            "osmesa if it does not find it)."
        ) from error


def _frames(
    config: MnMConfig, context: EnvContext, policy: Policy, seed: int
) -> tuple[list[Any], float]:
    """Pictures of the first episode that an evaluation plays, and how many make a second."""
    drawn = EnvContext({**context, "render_mode": "rgb_array"}, worker_index=0)
    environment = make_vector_env(config, drawn)
    assert isinstance(environment, LeanSyncVectorEnv)
    camera = _Camera(environment.envs[0])
    collector = Collector(environment, seed, observer=camera)
    collector.policy = policy
    collector.run_episodes(1, "deterministic")
    environment.close()
    return camera.frames, environment.envs[0].metadata.get("render_fps", 30)


class _Camera:
    """Takes a picture of the start and after each step; see `StepObserver`."""

    def __init__(self, env: gym.Env) -> None:
        self._env = env
        self.frames: list[Any] = []

    def on_reset(self, index: int, observation: np.ndarray) -> None:
        self.frames.append(self._env.render())

    def on_step(self, index: int, *step: Any) -> None:
        self.frames.append(self._env.render())
