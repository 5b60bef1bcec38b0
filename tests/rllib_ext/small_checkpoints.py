"""Small checkpoints, the places of their files, and damage to these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pyarrow import fs

from mnm import Agent
from rllib_ext.checkpoint_files import AGENT_FILE, LEARNER_FOLDER, REPLAY_FOLDER, write_task_file
from rllib_ext.environments import task_spaces
from tests.line_tasks import Line, Plane
from tests.mnm.small_cases import small_settings

TASKS = "tests.line_tasks"
AGENT = f"{LEARNER_FOLDER}/{AGENT_FILE}"
REPLAY = f"{LEARNER_FOLDER}/{REPLAY_FOLDER}"


def write_checkpoint(
    folder: Path,
    env: str = "Line-v0",
    bias: float | None = -50.0,
    iteration: int = 1,
    algo: str = "mnm",
    normalise: bool = False,
    **env_config: Any,
) -> Path:
    """What `mnm evaluate` and `mnm export` read of a checkpoint.

    Its policy always takes the lowest action; with `bias` None it is a random one. With `normalise`
    it scales its observations.
    """
    task_env = Plane() if env == "Plane-v0" else Line()
    spaces = task_spaces(task_env.observation_space, task_env.action_space)
    agent = Agent(spaces, small_settings(algo, normalise_observations=normalise), seed=0)
    if agent.networks.policy.normaliser is not None:
        seen = torch.arange(4.0)[:, None] * torch.arange(1.0, spaces.observation_dim + 1)
        agent.networks.policy.normaliser.refresh(seen)
    if bias is not None:
        with torch.no_grad():
            last = agent.networks.policy.layers[-1]
            last.weight.zero_()
            last.bias.fill_(bias)
    (folder / AGENT).parent.mkdir(parents=True)
    torch.save({**agent.state_dict(), "version": 0}, folder / AGENT)
    task = {"env": f"{TASKS}:{env}", "env_config": env_config, "algo": algo}
    progress = {"training_iteration": iteration, "env_steps": 10 * iteration, "time_total_s": 1.0}
    write_task_file(fs.LocalFileSystem(), str(folder), {**task, **progress})
    return folder


def cut(file: Path) -> None:
    """Leaves the first half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwrite(file: Path) -> None:
    """Leaves nothing of a file but its length."""
    file.write_bytes(b"\0" * file.stat().st_size)
