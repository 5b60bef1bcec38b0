"""Tests of the settings tuned per task."""

from __future__ import annotations

from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml

from mnm import Settings
from mnm.settings import ALGORITHMS
from rllib_ext.setting_names import OWN_NAMES
from rllib_ext.tuned import tuned_config, tuned_settings
from tests.rllib_ext.small_configs import LINE

SETTINGS = [field.name for field in fields(Settings)]
TUNED = sorted(
    Path(file.name).stem
    for file in resources.files("rllib_ext.tuned").iterdir()
    if file.name.endswith(".yaml")
)


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("env", TUNED)
def test_tuned_files_hold_valid_settings(env: str, algo: Any) -> None:
    assert env in gym.registry
    settings = tuned_settings(env, algo)
    assert set(settings) <= {*SETTINGS, *OWN_NAMES} - {"algo"}
    config = tuned_config(env, algo)
    config.validate()
    resolved = config.settings()
    assert resolved.algo == algo
    for name, value in settings.items():
        found = getattr(resolved, name, getattr(config, name, None))
        assert (list(found) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize("env", TUNED)
def test_imagined_transitions_of_tuned_tasks_fit_an_ordinary_memory(env: str) -> None:
    made = gym.make(env)
    width = 2 * made.observation_space.shape[0] + made.action_space.shape[0] + 3
    made.close()
    for algo in ALGORITHMS:
        settings = tuned_config(env, algo).settings()
        rows = settings.rollouts_per_step * settings.synthetic_retention
        assert 4 * width * rows * max(settings.rollout_schedule[2:]) < 8e9, algo


def test_the_main_job_has_a_tuned_file() -> None:
    assert "InvertedPendulum-v5" in TUNED


def test_tuned_sections_are_laid_over_each_other() -> None:
    text = (resources.files("rllib_ext.tuned") / "InvertedPendulum-v5.yaml").read_text()
    tables = yaml.safe_load(text)
    assert set(tables) <= {"all", *ALGORITHMS}
    for algo in ALGORITHMS:
        expected = {**(tables.get("all") or {}), **(tables.get(algo) or {})}
        assert tuned_settings("InvertedPendulum-v5", algo) == expected


@pytest.mark.parametrize("env", ["NoSuch-v0", LINE, "folder/Task-v0", "../config"])
def test_nothing_is_tuned_for_other_tasks(env: str) -> None:
    assert tuned_settings(env) == {}
