"""Evaluating a saved policy on fresh environments, without Ray actors."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.env_context import EnvContext

from distributed.collector import Collector
from mnm.policy import numpy_weights
from rllib_ext.checkpoint_files import TASK_FILE
from rllib_ext.config import MnMConfig
from rllib_ext.environments import make_flat_env, make_vector_env, task_spaces
from rllib_ext.errors import UserError

POLICY_FOLDER = Path("learner_group/learner/rl_module/default_policy")


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


def read_task(checkpoint: Path) -> dict[str, Any]:
    """The task that a checkpoint was made on.

    Raises:
        UserError: the folder is missing, no checkpoint, or not a whole one.
    """
    if not checkpoint.is_dir():
        raise UserError(f"There is no checkpoint folder {checkpoint}.")
    file = checkpoint / TASK_FILE
    if not file.is_file() and (checkpoint / "checkpoint" / TASK_FILE).is_file():
        raise UserError(f"{checkpoint} is a run's folder: name {checkpoint / 'checkpoint'}.")
    if not file.is_file():
        raise UserError(f"{checkpoint} is not a checkpoint of mnm: it has no {TASK_FILE}.")
    try:
        task = json.loads(file.read_text())
        return {name: task[name] for name in ("env", "env_config", "algo")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} is damaged: {TASK_FILE} cannot be read ({error!r})."
        ) from error


def load_policy(checkpoint: Path) -> Any:
    """The policy's RLModule of a checkpoint; reads pickles: only from places you trust.

    Raises:
        UserError: the checkpoint is not whole.
    """
    folder = checkpoint / POLICY_FOLDER
    if not folder.is_dir():
        raise UserError(f"The checkpoint {checkpoint} is not whole: {POLICY_FOLDER} is missing.")
    try:
        return RLModule.from_checkpoint(str(folder.resolve()))
    except Exception as error:  # whatever a damaged pickle may raise
        raise UserError(
            f"The checkpoint {checkpoint} is damaged: its policy cannot be read ({error})."
        ) from error


def evaluate_checkpoint(
    checkpoint: Path,
    episodes: int = 10,
    seed: int = 0,
    env: str | None = None,
    video: Path | None = None,
) -> Evaluation:
    """Plays whole episodes with the mode of a checkpoint's policy.

    Args:
        checkpoint: folder that `MnM.save_to_path` or a run wrote.
        episodes: number of episodes.
        seed: of the environment.
        env: another id to evaluate on; None: the checkpoint's own.
        video: film of the first episode to write, by the file's ending; None: none.

    Raises:
        UserError: the checkpoint or the environment does not serve, or no film can be made.
    """
    task = read_task(checkpoint)
    module = load_policy(checkpoint)
    config = MnMConfig().environment(env or task["env"], env_config=task["env_config"])
    context = EnvContext(config.env_config, worker_index=0)
    try:
        environment = make_vector_env(config, context)
    except ValueError as error:
        raise UserError(str(error)) from error
    own = task_spaces(environment.single_observation_space, environment.single_action_space)
    widths = (own.observation_dim, own.action_dim)
    trained = (module.observation_space.shape[0], module.action_space.shape[0])
    if widths != trained:
        environment.close()
        raise UserError(
            f"The checkpoint {checkpoint} is of another task: its policy takes {trained[0]} "
            f"observations and gives {trained[1]} actions, {config.env} has {widths[0]} and "
            f"{widths[1]}."
        )
    collector = Collector(environment, seed)
    collector.load_policy(numpy_weights(module.policy))
    collected = collector.run_episodes(episodes, "deterministic")
    environment.close()
    if video is not None:
        _film(config, context, module, seed, video)
    returns = np.array(collected.episode_returns)
    return Evaluation(
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
        length_mean=float(np.mean(collected.episode_lengths)),
        episodes=len(returns),
    )


def _film(config: MnMConfig, context: EnvContext, module: Any, seed: int, video: Path) -> None:
    """Writes the first episode as a film."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of GL libraries that are tried in turn
            frames, rate = _frames(config, context, module, seed)
        # Pillow, which writes GIF, takes milliseconds a frame; ffmpeg takes frames a second.
        timing: dict[str, Any] = (
            {"duration": 1000 / rate} if video.suffix == ".gif" else {"fps": rate}
        )
        imageio.mimwrite(video, frames, **timing)
    except Exception as error:  # MuJoCo, its GL libraries and film writers have kinds of their own
        raise UserError(
            f"No film could be written to {video}: {error} (without a screen MuJoCo needs "
            "MUJOCO_GL=osmesa or egl and that library)."
        ) from error


def _frames(
    config: MnMConfig, context: EnvContext, module: Any, seed: int
) -> tuple[list[Any], float]:
    """Pictures of the first episode, and how many make a second."""
    env = make_flat_env(config, EnvContext({**context, "render_mode": "rgb_array"}, 0))
    observation, _ = env.reset(seed=seed)
    frames: list[Any] = [env.render()]
    ended = False
    while not ended:
        inputs = torch.as_tensor(observation, dtype=torch.float32)[None]
        action = module.policy.deterministic(inputs)[0].detach().numpy()
        observation, _, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        ended = terminated or truncated
    env.close()
    return frames, env.metadata.get("render_fps", 30)
