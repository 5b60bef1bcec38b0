"""Tests of a run's plan: the config it makes, its file, and what may change on resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from ray.air._internal.json import SafeFallbackEncoder
from typer.testing import CliRunner

from distributed.storage import Location
from rllib_ext.config import MnMConfig
from rllib_ext.errors import UserError
from rllib_ext.run_plan import PLAN_FILE, RESUMABLE, RunPlan
from rllib_ext.train_command import train
from tests.rllib_ext.small_configs import LINE, TINY

at = Location.of


def plan(**changes: Any) -> RunPlan:
    options: dict[str, Any] = {
        "env": LINE,
        "algo": "mnm",
        "settings": TINY,
        "steps": 100,
        "num_env_runners": 2,
        "num_rollout_workers": 1,
        "seed": 5,
        "evaluation_interval": 70,
        **changes,
    }
    return RunPlan(**options)


def config_of(**changes: Any) -> MnMConfig:
    return plan(**changes).config(at("run"))


def test_the_learner_is_an_actor_by_default_and_in_the_driver_without_any() -> None:
    assert config_of().num_learners == 1
    assert config_of(num_env_runners=0).num_learners == 1
    assert config_of(num_rollout_workers=0).num_learners == 1
    assert config_of(num_env_runners=0, num_rollout_workers=0).num_learners == 0


def test_a_config_has_what_was_asked_for(tmp_path: Path) -> None:
    config = plan(algo="mbpo", log_transitions=True).config(at(tmp_path / "run-1"))
    assert config.settings().algo == "mbpo"
    assert config.settings().hidden_sizes == (16, 16)
    assert (config.num_env_runners, config.num_rollout_workers, config.seed) == (2, 1, 5)
    assert config.min_sample_timesteps_per_iteration == 70
    assert config.evaluation_interval == 1
    assert config.observation_space.shape == (3,)
    assert str(config.output) == str(tmp_path / "run-1" / "transitions")
    assert config.output_run == "run-1"


def test_the_numbers_of_actors_may_grow() -> None:
    assert config_of().max_num_env_runners is None
    config = config_of(max_env_runners=4, max_rollout_workers=3)
    assert (config.max_num_env_runners, config.max_num_rollout_workers) == (4, 3)
    with pytest.raises(UserError, match="max_num_env_runners=1 is not valid"):
        config_of(max_env_runners=1)


def test_actors_are_placed_as_the_plan_says() -> None:
    assert config_of().placement_strategy == "PACK"
    assert config_of(placement="spread").placement_strategy == "SPREAD"
    beside = config_of(placement="roles", num_gpus_per_rollout_worker=0.1)
    assert beside.custom_resources_per_env_runner == {"collector": 1}
    assert beside.custom_resources_per_rollout_worker == {"learner": 0.001}
    with pytest.raises(UserError, match="Unknown placement 'here': use one of pack, spread, roles"):
        config_of(placement="here")


def test_an_unknown_setting_is_named_with_its_neighbours() -> None:
    with pytest.raises(UserError, match=r"Unknown setting 'gama': .*did you mean gamma"):
        config_of(settings={"gama": 0.9})


def test_a_saved_plan_comes_back_and_makes_the_same_config(tmp_path: Path) -> None:
    saved = plan(stop_return=9.5, wandb="project")
    saved.save(at(tmp_path / "run"))
    loaded = RunPlan.load(at(tmp_path / "run"))
    assert loaded == RunPlan(**json.loads((tmp_path / "run" / PLAN_FILE).read_text()))
    assert (loaded.stop_return, loaded.wandb, loaded.steps) == (9.5, "project", 100)
    assert loaded.config(at(tmp_path)).settings() == saved.config(at(tmp_path)).settings()


KEYED, SHOWN = "s3://KEY:SECRET@bucket/log?region=a", "s3://bucket/log?region=a"


def test_the_file_has_no_key_of_a_uri(tmp_path: Path) -> None:
    saved = plan(offline_data=["a", KEYED])
    saved.save(at(tmp_path))
    assert "SECRET" not in (tmp_path / PLAN_FILE).read_text()
    assert saved.offline_data == ["a", KEYED]
    resumed = RunPlan.load(at(tmp_path)).resumed({"offline_data": ["a", KEYED], "steps": 200})
    assert (resumed.offline_data, resumed.steps) == (["a", SHOWN], 200)
    table = json.loads((tmp_path / PLAN_FILE).read_text())  # as older versions wrote it
    (tmp_path / PLAN_FILE).write_text(json.dumps({**table, "offline_data": [KEYED]}))
    assert RunPlan.load(at(tmp_path)).offline_data == [SHOWN]


def test_offline_data_are_looked_at_before_a_run_and_not_again() -> None:
    missing = plan(offline_data=["no/such/data"])
    with pytest.raises(UserError, match="no offline data at no/such/data"):
        missing.config(at("run"))
    config = missing.config(at("run"), resumes=True)
    assert config.offline_paths == [str(Path("no/such/data").absolute())]


def test_a_run_is_resumed_without_its_offline_data(tmp_path: Path) -> None:
    plan(offline_data=["no/such/data"]).save(at(tmp_path))
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, ["--resume", str(tmp_path)])
    assert "holds no whole checkpoint to go on from" in str(result.exception)  # looked for after


def test_what_shows_a_config_has_no_key() -> None:
    """Tune's `params.json` and `result.json`, and the trackers."""
    keyed = plan(offline_data=["a", KEYED])
    config = keyed.config(at("run"), resumes=True).offline_data(output=KEYED)
    for settings in (config.to_dict(), config.copy().to_dict()):
        assert "SECRET" not in json.dumps(settings, cls=SafeFallbackEncoder)
        assert "SECRET" not in repr(settings)
    config.validate()
    assert config.offline_paths[1] == KEYED
    assert Location.of(config.output).name == KEYED


def test_a_plan_of_a_later_version_leaves_out_what_is_unknown(tmp_path: Path) -> None:
    plan().save(at(tmp_path))
    table = json.loads((tmp_path / PLAN_FILE).read_text())
    (tmp_path / PLAN_FILE).write_text(json.dumps({**table, "colour": "red"}))
    assert RunPlan.load(at(tmp_path)).steps == 100


@pytest.mark.parametrize("content", ["{", "[1]", '{"env": "Line-v0"}'])
def test_a_damaged_plan_gets_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / PLAN_FILE).write_text(content)
    with pytest.raises(UserError, match=r"run\.json cannot be read: .*\.$") as caught:
        RunPlan.load(at(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run's folder: it has no run\.json"):
        RunPlan.load(at(tmp_path))


def test_steps_actors_and_the_stop_may_change_on_resuming() -> None:
    new = {
        "steps": 200,
        "num_env_runners": 1,
        "num_rollout_workers": 2,
        "max_env_runners": 4,
        "max_rollout_workers": 3,
        "num_gpus": 0.5,
        "num_gpus_per_rollout_worker": 0.1,
        "placement": "spread",
        "stop_return": 3.0,
    }
    assert set(new) == set(RESUMABLE)
    resumed = plan().resumed(new)
    assert {name: getattr(resumed, name) for name in new} == new
    assert (resumed.env, resumed.seed, resumed.settings) == (LINE, 5, TINY)


def test_what_makes_it_another_run_may_not_but_be_said_again() -> None:
    assert plan().resumed({"env": LINE, "seed": 5}) == plan()
    for name, value in (
        ("env", "Hopper-v5"),
        ("seed", 6),
        ("set_", ["gamma=0.5"]),
        ("output", "a"),
    ):
        with pytest.raises(UserError, match=f"--{name.strip('_')} cannot change .*--steps"):
            plan().resumed({name: value})
