"""Settings tuned to a task: one YAML file per environment, the same for `mnm train` and RLlib."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from mnm.settings import ALGORITHMS
from rllib_ext.config import MnMConfig


def tuned_settings(env: str, algo: str = "mnm") -> dict[str, Any]:
    """What is tuned for a task and an algorithm, by the names of `MnMConfig.training`.

    Args:
        env: Gymnasium id.
        algo: "mnm", "mnm-approx", "mbpo" or "sac".

    Returns:
        Settings; empty where nothing is tuned for the task.
    """
    file = resources.files(__package__) / f"{env}.yaml"
    if "/" in env or not file.is_file():
        return {}
    tables = yaml.safe_load(file.read_text())
    unknown = set(tables) - {"all", *ALGORITHMS}
    if unknown:
        raise ValueError(f"{env}.yaml has unknown sections {sorted(unknown)}.")
    return {**(tables.get("all") or {}), **(tables.get(algo) or {})}


def tuned_tasks() -> list[str]:
    """Gymnasium ids of the tasks that something is tuned for."""
    names = (file.name for file in resources.files(__package__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def tuned_config(env: str, algo: str = "mnm") -> MnMConfig:
    """A config for `env` with the settings tuned for it, those of the preset where none are."""
    config = MnMConfig().environment(env)
    return config.training(algo=algo, **tuned_settings(env, algo))
