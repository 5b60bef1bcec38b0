"""Tests of logging and of offline data through the Algorithm: counts, restores, refusals."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ray import tune

from distributed import learner_core
from distributed.transition_log import TransitionLog
from distributed.wire import from_arrow, to_arrow
from mnm import DataRefused, Transitions
from mnm.settings import ALGORITHMS
from mnm.transitions import COLUMNS
from rllib_ext import MnM, MnMConfig
from rllib_ext.learner_group import ask_learner
from tests.mnm.small_cases import SMALL, random_transitions, same_tensors
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import built, replay_of, weights_of

pytestmark = pytest.mark.usefixtures("local_ray")

RANDOM_STEPS = SMALL["num_random_steps"]


def logged(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder) if folder.exists() else pd.DataFrame()


def assert_logged(frame: pd.DataFrame, rows: Transitions) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(np.stack(frame[name].to_numpy()), getattr(rows, name))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A log of another run: sixty rows of a task of the same widths."""
    log = TransitionLog(tmp_path / "data", "earlier")
    log.append(to_arrow(random_transitions(60, observation_dim=3)))
    log.close()
    return tmp_path / "data"


# Logging


@pytest.mark.parametrize("num_learners", [0, 1])
def test_every_real_row_is_logged_once_in_the_order_of_the_replay(
    num_learners: int, tmp_path: Path
) -> None:
    config = tiny_config("mbpo", num_learners=num_learners, num_env_runners=num_learners)
    with built(config.offline_data(output=tmp_path, output_max_rows_per_file=30)) as algo:
        for _ in range(2):
            algo.train()
        algo.coordinator.finish_learning()
        rows = replay_of(algo)
        ingested = algo.coordinator.latest.env_steps
        run = Path(algo.logdir).name
        with pytest.raises(ZeroDivisionError):  # it lives, and ends its log all the same
            ask_learner(algo.learner_group, lambda learner: learner.core.version / 0)
    frame = logged(tmp_path)
    assert len(frame) == len(rows) == ingested >= 80
    assert_logged(frame, rows)
    assert set(frame["run"]) == {run}
    assert len(list(tmp_path.rglob("*.parquet"))) > 2


def test_logging_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    weights = []
    for output in (None, tmp_path):
        with built(tiny_config("mnm").offline_data(output=output)) as algo:
            algo.train()
            weights.append(weights_of(algo))
    assert same_tensors(*weights)


@pytest.mark.parametrize("where", ["the same process", "another"])
def test_a_restore_takes_back_what_came_after_the_checkpoint(where: str, tmp_path: Path) -> None:
    log, path = tmp_path / "log", str(tmp_path / "checkpoint")
    config = tiny_config("sac").offline_data(output=log, output_run="one")
    with built(config) as algo:
        algo.train()
        algo.save_to_path(path)
        assert_logged(logged(log), replay_of(algo))  # a checkpoint writes what there is
        steps = len(replay_of(algo))
        algo.train()
        if where == "the same process":
            algo.restore_from_path(path)
            algo.train()
            rows = replay_of(algo)
    if where == "another":
        assert len(logged(log)) > steps
        before = logged(log)
        MnM.from_checkpoint(path).stop()
        pd.testing.assert_frame_equal(logged(log), before)  # only looked at
        again = MnM.from_checkpoint(path)
        again.train()
        rows = replay_of(again)
        again.stop()
    assert_logged(logged(log), rows)
    assert set(logged(log)["run"]) == {"one"}


def test_another_run_from_the_same_checkpoint_leaves_the_first_ones_log(tmp_path: Path) -> None:
    log, path = tmp_path / "log", str(tmp_path / "checkpoint")
    config = tiny_config("sac").offline_data(output=log, output_run="one")
    with built(config) as algo:
        algo.train()
        algo.save_to_path(path)
        steps = len(replay_of(algo))
    other = MnM.from_checkpoint(path, config=config.copy().offline_data(output_run="two"))
    other.train()
    rows = replay_of(other)
    other.stop()
    frame = logged(log)
    assert len(frame[frame["run"] == "one"]) == steps
    assert_logged(frame[frame["run"] == "two"], rows[steps:])


def test_rows_before_a_refused_one_are_logged(tmp_path: Path) -> None:
    config = tiny_config("sac", env="tests.line_tasks:BrokenAfterAWhile-v0")
    config.reporting(min_sample_timesteps_per_iteration=200)
    with (
        built(config.offline_data(output=tmp_path)) as algo,
        pytest.raises(ValueError, match="not finite"),
    ):
        algo.train()
    assert len(logged(tmp_path)) == 100


def test_trials_log_side_by_side(tmp_path: Path) -> None:
    config = tiny_config("sac").offline_data(output=tmp_path / "log")
    config.debugging(seed=tune.grid_search([1, 2]))
    results = tune.Tuner(
        MnM,
        param_space=config,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0
        ),
    ).fit()
    steps = {
        Path(result.path).name: result.metrics["num_env_steps_sampled_lifetime"]
        for result in results
    }
    assert logged(tmp_path / "log").groupby("run", observed=True).size().to_dict() == steps
    assert len(steps) == 2


# Offline data


def test_a_warm_start_counts_offline_rows_apart(data: Path) -> None:
    with built(tiny_config("mnm").offline_data(input_=data)) as algo:
        result = algo.train()
        rows = replay_of(algo)
    steps = result["num_env_steps_sampled_lifetime"]
    assert result["num_offline_transitions"] == 60
    assert result["num_offline_updates"] == 0
    assert steps >= 40
    assert result["num_updates_lifetime"] == steps - RANDOM_STEPS
    assert result["updates_to_data_ratio"] == 1.0
    assert len(rows) == 60 + steps
    np.testing.assert_array_equal(
        rows.observations[:60], random_transitions(60, observation_dim=3).observations
    )
    assert (rows.episode_ids[:60] < 0).all()
    assert (rows.episode_ids[60:] >= 0).all()


@pytest.mark.parametrize("algo_name", ALGORITHMS)
def test_offline_updates_come_before_the_first_step(algo_name: str, data: Path) -> None:
    config = tiny_config(algo_name, num_random_steps=0).offline_data(
        input_=[data], offline_updates=100
    )
    config.evaluation(evaluation_interval=1, evaluation_duration=2)
    with built(config) as algo:
        results = [algo.train() for _ in range(4)]
    assert [result["num_offline_updates"] for result in results] == [40, 80, 100, 100]
    steps = [result["num_env_steps_sampled_lifetime"] for result in results]
    assert steps == [0, 0, 0, steps[3]]
    assert steps[3] >= 40
    assert [result["num_updates_lifetime"] for result in results] == steps
    assert math.isnan(results[0]["env_runners"]["episode_return_mean"])
    for result in results:
        assert math.isfinite(result["evaluation"]["env_runners"]["episode_return_mean"])
    learner = results[0]["learners"]["default_policy"]
    assert math.isfinite(learner["critic_loss"])
    if algo_name != "sac":
        assert math.isfinite(learner["model_holdout_rmse"])
        assert results[0]["num_synthetic_transitions_lifetime"] > 0
    if algo_name == "mnm":
        assert math.isfinite(results[0]["bound"]["estimate"])


def test_offline_training_is_the_learners_time_and_what_is_between_is_idle(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    train_offline = learner_core.train_offline

    def slow(*arguments: Any) -> dict[str, float]:
        nonlocal now
        now += 100
        return train_offline(*arguments)

    monkeypatch.setattr(learner_core, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(learner_core, "train_offline", slow)
    config = tiny_config("sac").offline_data(input_=data, offline_updates=80)
    results = []
    with built(config) as algo:
        for _ in range(2):
            now += 10
            results.append(algo.train())
    assert [result["num_offline_updates"] for result in results] == [40, 80]
    learner = [result["learners"]["default_policy"] for result in results]
    assert [figures["seconds_update"] for figures in learner] == [100, 100]
    assert [result["learner_idle_s"] for result in results] == [10, 20]


def test_offline_updates_are_taken_up_again_without_the_files(data: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "checkpoint")
    config = tiny_config("mnm").offline_data(input_=data, offline_updates=80)
    with built(config) as algo:
        algo.train()
        algo.save_to_path(path)
        algo.train()
        weights = weights_of(algo)
    shutil.rmtree(data)
    again = MnM.from_checkpoint(path)
    result = again.train()
    assert (result["num_offline_updates"], result["num_offline_transitions"]) == (80, 60)
    assert len(replay_of(again)) == 60
    assert same_tensors(weights_of(again), weights)
    again.stop()


@pytest.mark.parametrize("num_learners", [0, 1])
def test_a_bad_file_ends_the_run_before_it_begins(
    num_learners: int, data: Path, tmp_path: Path
) -> None:
    bad = random_transitions(10, observation_dim=3)
    bad.rewards[4] = np.nan
    log = TransitionLog(data, "later")
    log.append(to_arrow(bad))
    log.close()
    output = tmp_path / "output"
    config = tiny_config("sac", num_learners=num_learners).offline_data(input_=data, output=output)
    sentence = r"run=later/part-000000-0-10\.parquet: column rewards, row 4"
    with built(config) as algo, pytest.raises(DataRefused, match=sentence):
        algo.train()
    assert logged(output).empty


def test_offline_data_of_another_task_are_refused(data: Path) -> None:
    config = tiny_config("sac", env="tests.line_tasks:Plane-v0").offline_data(input_=data)
    with built(config) as algo, pytest.raises(ValueError, match="column observations has 3 values"):
        algo.train()


def test_rows_of_a_log_are_read_back_by_the_next_run(tmp_path: Path) -> None:
    with built(tiny_config("sac").offline_data(output=tmp_path)) as algo:
        algo.train()
        rows = replay_of(algo)
    with built(tiny_config("sac").offline_data(input_=tmp_path)) as algo:
        algo.train()
        again = replay_of(algo)[: len(rows)]
    for name in COLUMNS:
        if name != "episode_ids":
            np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
    assert from_arrow(to_arrow(again)).episode_ids.max() < 0


# Config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"input_read_method": "read_json"}, "input_read_method has no effect on MnM"),
        ({"output_config": {}}, "output_config has no effect on MnM"),
        ({"offline_updates": 5}, "offline_updates need transitions"),
        ({"input_": ["a"], "offline_updates": -1}, "offline_updates=-1 is not valid"),
        ({"input_": ["a"], "offline_updates": 1.5}, r"offline_updates=1.5 is not valid"),
        ({"input_": ""}, r"input_=\[''\] is not valid"),
        ({"output_max_rows_per_file": 0}, "output_max_rows_per_file=0 is not valid"),
    ],
)
def test_bad_offline_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny_config("sac").offline_data(**settings).validate()


def test_offline_settings_from_a_dictionary_are_checked_too() -> None:
    config = tiny_config("sac")
    config.update_from_dict({"input_read_episodes": True})
    with pytest.raises(ValueError, match="input_read_episodes has no effect on MnM"):
        config.validate()
    config = tiny_config("sac")
    config.update_from_dict({"output": 5})
    with pytest.raises(ValueError, match="output=5 is not valid: name a folder, or a URI of one"):
        config.validate()


def test_relative_paths_are_taken_from_where_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = MnMConfig().offline_data(
        input_=["data", "s3://bucket/data", "minari:line/tests-v0"], output="log"
    )
    assert config.offline_paths == [
        str(tmp_path / "data"),
        "s3://bucket/data",
        "minari:line/tests-v0",
    ]
    assert config.output == str(tmp_path / "log")
    assert not config.is_offline
    assert MnMConfig().offline_paths == []
