"""Tests of what `mnm train` makes of its words: settings, configs, stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rllib_ext.errors import UserError
from rllib_ext.train_command import (
    ReturnStopper,
    build_config,
    parse_assignments,
    read_settings_file,
)
from tests.rllib_ext.small_configs import LINE, TINY


def test_assignments_are_read_as_yaml_and_numbers() -> None:
    words = [
        "gamma=0.9",
        "batch_size=32",
        "actor_lr=1e-3",
        "hidden_sizes=[8, 8]",
        "classifier_reward_weight=auto",
        "terminal_reward=null",
        "termination=my_module:my_function",
    ]
    assert parse_assignments(words) == {
        "gamma": 0.9,
        "batch_size": 32,
        "actor_lr": 1e-3,
        "hidden_sizes": [8, 8],
        "classifier_reward_weight": "auto",
        "terminal_reward": None,
        "termination": "my_module:my_function",
    }


@pytest.mark.parametrize("word", ["gamma", "=0.9", "gamma=", "hidden_sizes=[8, 8"])
def test_what_is_no_assignment_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="is not valid") as caught:
        parse_assignments([word])
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_settings_file_may_be_yaml_or_json(tmp_path: Path, suffix: str) -> None:
    table = {"gamma": 0.9, "hidden_sizes": [8, 8]}
    file = tmp_path / f"settings.{suffix}"
    file.write_text(json.dumps(table) if suffix == "json" else "gamma: 0.9\nhidden_sizes: [8, 8]")
    assert read_settings_file(file) == table


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: .*No such file"),
        (b"\xff\xfe\x00\x01", "cannot be read"),
        (b"gamma: [", "cannot be read"),
        (b"- gamma", "holds no table of NAME: VALUE"),
        (b"", "holds no table of NAME: VALUE"),
    ],
)
def test_a_bad_settings_file_gets_one_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read_settings_file(file)
    assert "\n" not in str(caught.value)


def config_with(algo: str = "mnm", env: str = LINE, **changes: Any) -> Any:
    options = {
        "num_env_runners": 2,
        "num_rollout_workers": 1,
        "num_gpus": 0.0,
        "seed": 5,
        "evaluation_interval": 70,
        **changes,
    }
    return build_config(env, algo, TINY, **options)


def test_the_learner_is_an_actor_by_default_and_in_the_driver_without_any() -> None:
    assert config_with().num_learners == 1
    assert config_with(num_env_runners=0).num_learners == 1
    assert config_with(num_rollout_workers=0).num_learners == 1
    assert config_with(num_env_runners=0, num_rollout_workers=0).num_learners == 0


def test_a_config_has_what_was_asked_for() -> None:
    config = config_with("mbpo")
    assert config.settings().algo == "mbpo"
    assert config.settings().hidden_sizes == (16, 16)
    assert (config.num_env_runners, config.num_rollout_workers, config.seed) == (2, 1, 5)
    assert config.min_sample_timesteps_per_iteration == 70
    assert config.evaluation_interval == 1
    assert config.observation_space.shape == (3,)


def test_the_number_of_runners_may_grow() -> None:
    assert config_with().max_num_env_runners is None
    assert config_with(max_env_runners=4).max_num_env_runners == 4
    with pytest.raises(UserError, match="max_num_env_runners=1 is not valid"):
        config_with(max_env_runners=1)


def test_an_unknown_setting_is_named_with_its_neighbours() -> None:
    with pytest.raises(UserError, match=r"Unknown setting 'gama': .*did you mean gamma"):
        build_config(
            LINE,
            "mnm",
            {"gama": 0.9},
            num_env_runners=0,
            num_rollout_workers=0,
            num_gpus=0.0,
            seed=0,
            evaluation_interval=10,
        )


def result(steps: int, evaluated: float) -> dict[str, Any]:
    return {
        "num_env_steps_sampled_lifetime": steps,
        "num_offline_updates": 0,
        "evaluation": {"env_runners": {"episode_return_mean": evaluated}},
    }


def test_a_run_stops_at_its_steps() -> None:
    stop = ReturnStopper(100, None)
    assert [stop("trial", result(steps, 1e9)) for steps in (50, 99, 100, 150)] == [
        False,
        False,
        True,
        True,
    ]
    assert not stop.stop_all()


def test_a_run_without_steps_stops_after_its_offline_updates() -> None:
    stop = ReturnStopper(0, None, offline_updates=80)
    results = [{**result(0, 1.0), "num_offline_updates": updates} for updates in (40, 79, 80)]
    assert [stop("trial", each) for each in results] == [False, False, True]


def test_a_run_stops_at_the_second_good_evaluation_in_a_row() -> None:
    stop = ReturnStopper(10_000, 9.0)
    values = [9.5, 8.9, 9.0, float("nan"), 9.0, 9.0]
    assert [stop("trial", result(1, value)) for value in values] == [
        False,
        False,
        False,
        False,
        False,
        True,
    ]
