"""The learning experiments: their runs, their tables and what these say."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.learning import session, tables
from benchmarks.learning.experiments import AS_TUNED, EXPERIMENTS, SOLVED, Experiment
from benchmarks.learning.runs import DEFAULTS, OF_THE_MODEL, runs_of
from benchmarks.learning.summary import groups
from distributed.storage import Location
from mnm import Settings
from mnm.settings import PRESETS
from rllib_ext.run_folder import RESULT_FILE, SUMMARY_FILE
from tests.benchmarks.small_experiment import table
from tests.mnm.small_cases import random_transitions, small_agent


def result(steps: int, value: float, **learner: float) -> str:
    return json.dumps(
        {
            "num_env_steps_sampled_lifetime": steps,
            "num_updates_lifetime": 10 * steps,
            "time_total_s": 0.5 * steps,
            "evaluation": {"env_runners": {"episode_return_mean": value}},
            "learners": {"default_policy": learner},
        }
    )


def test_every_experiment_has_valid_runs_of_their_own() -> None:
    for name, experiment in EXPERIMENTS.items():
        runs = runs_of(name)
        assert len({run.name for run in runs}) == len(runs)
        # Every variant, but those that change nothing of what a task is tuned to.
        groups_of = {(run.plan.env, run.plan.algo, run.digest) for run in runs}
        assert len(runs) == len(groups_of) * len(experiment.seeds)
        others = [run for other in experiment.references for run in runs_of(other)]
        shown = [*others, *runs]
        assert {(run.plan.env, run.plan.algo, run.variant) for run in shown} >= {
            (env, algo, AS_TUNED) for env in experiment.envs for algo in experiment.algos
        }
        for run in shown:
            end = SOLVED[run.plan.env] if experiment.stop_when_solved else None
            assert run.plan.stop_return == end
            assert run.plan.evaluation_interval == experiment.evaluation_interval
            assert run.plan.steps >= experiment.steps
        assert {run.variant for run in runs} == set(experiment.variants)
        assert all(len(run.digest) == 8 for run in runs)  # its settings are valid
        assert all(run.plan.settings for run in runs if run.plan.algo == "mnm"), "no preset"


def test_other_settings_are_another_run(small: Experiment) -> None:
    (run,) = runs_of("small", seeds=(1,), only="/mnm/")
    assert run.plan.seed == 1
    run.plan.settings["updates_to_data_ratio"] = 3
    (unchanged,) = runs_of("small", seeds=(1,), only="/mnm/")
    assert run.digest != unchanged.digest


def test_a_changed_default_is_another_run_and_an_added_setting_is_none(
    small: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DEFAULTS.keys() == Settings().to_dict().keys()  # add new ones to defaults.json
    (run,) = runs_of("small", seeds=(1,), only="/mnm/")
    before = run.digest
    assert "logit_clip" not in run.plan.settings
    monkeypatch.setitem(PRESETS, "mnm", {**PRESETS["mnm"], "logit_clip": 3.0})
    assert run.digest != before
    monkeypatch.undo()
    unset = "classifier_input_noise"
    assert unset not in run.plan.settings
    monkeypatch.setitem(DEFAULTS, unset, 0.5)  # as if today's 0.0 were a new default
    assert run.digest != before


def test_what_sac_does_not_read_makes_no_other_run(small: Experiment) -> None:
    """Settings of a model are in the section of a task that all algorithms share."""
    unread = {
        "dynamics_hidden_sizes": (8,),
        "dynamics_weight_decay": (0.0, 0.0),
        "ensemble_size": 3,
        "num_elites": 2,
        "rollout_schedule": (0, 1, 2, 2),
        "rollouts_per_step": 7,
        "synthetic_retention": 251,
        "real_ratio": 0.3,
        "classifier_hidden_sizes": (8,),
        "logit_clip": 1.5,
        "log_ratio_weight": 0.7,
    }
    assert {name for name in unread if name.startswith(OF_THE_MODEL)} == set(unread)
    for algo, same in (("sac", True), ("mnm", False)):
        (run,) = runs_of("small", seeds=(0,), only=f"/{algo}/")
        before = run.digest
        run.plan.settings.update(unread)
        assert (run.digest == before) is same
    learned = []
    for changes in ({}, unread):
        agent = small_agent("sac", **changes)
        agent.ingest(random_transitions(40))
        agent.learn()
        assert agent.updates > 0
        learned.append(agent.networks.state_dict())
    for name, weights in learned[0].items():
        assert torch.equal(weights, learned[1][name]), name


def test_a_run_is_done_when_it_ended_at_the_plans_length(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = runs_of("small", seeds=(0,), only="/sac/")
    assert not session.is_done(run, tmp_path)
    run.plan.save(Location.of(run.folder(tmp_path)))
    assert not session.is_done(run, tmp_path)
    (run.folder(tmp_path) / SUMMARY_FILE).write_text("{}")
    assert session.is_done(run, tmp_path)
    longer = replace(small, algos=("sac",), seeds=(0,), steps=400)
    monkeypatch.setitem(EXPERIMENTS, "small", longer)
    assert not session.is_done(runs_of("small")[0], tmp_path)


def test_done_runs_are_not_made_again(small: Experiment, tmp_path: Path) -> None:
    runs = runs_of("small", seeds=(0,))
    for run in runs:
        run.plan.save(Location.of(run.folder(tmp_path)))
        (run.folder(tmp_path) / SUMMARY_FILE).write_text("{}")
    assert session.make(runs, tmp_path, lambda run: pytest.fail("made again"))


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    with session._held(tmp_path / "run") as first, session._held(tmp_path / "run") as second:
        assert first
        assert not second
    with session._held(tmp_path / "run") as third:
        assert third


def test_tables_hold_an_evaluation_a_row_and_replace_a_runs_old_ones(
    small: Experiment, tmp_path: Path
) -> None:
    mnm, sac = runs_of("small", seeds=(1,))
    for run in (mnm, sac):
        run.folder(tmp_path).mkdir(parents=True)
    file = mnm.folder(tmp_path) / RESULT_FILE
    lines = [
        result(100, math.nan),
        result(100, -900.0, q_value=1 / 3),
        result(200, -800.0),
        result(200, -700.0),
        result(250, math.nan),
    ]
    file.write_text("\n".join(lines) + '\n{"torn')
    (sac.folder(tmp_path) / RESULT_FILE).write_text(result(100, -1000.0) + "\n")
    for run in (sac, mnm):
        path = tables.update(run, tmp_path, tmp_path)
    file.write_text("\n".join([*lines, result(300, -600.0)]) + "\n")
    tables.update(mnm, tmp_path, tmp_path)
    rows = pd.read_csv(path)
    assert list(rows.columns) == tables.COLUMNS
    assert rows[["algo", "env_steps", "return_mean"]].values.tolist() == [
        ["mnm", 100, -900.0],
        ["mnm", 200, -700.0],
        ["mnm", 300, -600.0],
        ["sac", 100, -1000.0],
    ]
    assert rows["q_value"][0] == 0.333333
    assert rows["updates"].tolist() == [1000, 2000, 3000, 1000]
    assert set(rows["settings"]) == {mnm.digest, sac.digest}


def test_processes_that_share_a_table_lose_no_run(small: Experiment, tmp_path: Path) -> None:
    runs = runs_of("small", seeds=tuple(range(8)))
    for run in runs:
        run.folder(tmp_path).mkdir(parents=True)
        lines = [result(step, -1.0) for step in range(100, 2100, 100)]
        (run.folder(tmp_path) / RESULT_FILE).write_text("\n".join(lines) + "\n")
    with ThreadPoolExecutor(len(runs)) as pool:
        (path,) = set(pool.map(lambda run: tables.update(run, tmp_path, tmp_path), runs))
    rows = pd.read_csv(path)
    assert rows.groupby(["algo", "seed"])["env_steps"].count().tolist() == [20] * len(runs)


def test_groups_count_seeds_and_steps(small: Experiment, tmp_path: Path) -> None:
    content = table({("mnm", 0): [-900, -150, -300], ("mnm", 1): [-900, -500, -400]})
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert group.solved == 1
    assert group.reached[0] == 200
    assert math.isnan(group.reached[1])
    assert group.returns.tolist() == [-300, -400]
    assert group.finished
    assert group.interval()[0] == -350
    assert group.interval(200)[0] == -325
    assert group.shared_step == 300


def test_runs_with_other_settings_do_not_count(small: Experiment, tmp_path: Path) -> None:
    content = table({("mnm", 0): [-900, -150, -300], ("mnm", 1): [-900, -500, -400]})
    content.loc[content["seed"] == 1, "settings"] = "00000000"
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert list(group.curves) == [0]


def test_a_run_that_stopped_early_counts_on_only_where_solved_runs_stop(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = table({("mnm", 0): [-190, -150], ("mnm", 1): [-900, -500, -400]})
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert not group.finished
    assert group.shared_step == 200
    assert group.mean_curve()["iqm"].tolist() == [-545, -325]
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, stop_when_solved=True))
    (group,) = groups("small", tmp_path)
    assert group.finished
    assert group.shared_step == 300
    assert group.mean_curve()["iqm"].tolist() == [-545, -325, -275]


def test_a_run_that_was_stopped_after_one_good_evaluation_is_not_whole(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in a row end a run; one does not, and the next return may be another."""
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, stop_when_solved=True))
    for returns in ([-150], [-900, -150], [-150, -250]):
        content = table({("mnm", 0): list(returns)})
        content.to_csv(tmp_path / "small.csv", index=False)
        (group,) = groups("small", tmp_path)
        assert not group.finished
        assert group.shared_step == 100 * len(returns)
        assert group.solved == 1


def test_a_run_that_stopped_early_counts_on_to_the_last_point_of_the_others(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Iterations end past a multiple of the interval, by another number of steps in each run."""
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, stop_when_solved=True))
    content = table({("mnm", 0): [-190, -150], ("mnm", 1): [-900, -500, -400]})
    content.loc[content["env_steps"] == 200, "env_steps"] += 8
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    curve = group.mean_curve()
    assert curve["runs"].tolist() == [2, 2, 2]
    assert curve["iqm"].iloc[-1] == -275


def test_settings_that_are_not_the_learners_count_in_the_digest() -> None:
    run = runs_of("held-mountain-car", seeds=(0,), only="/mbpo/")[0]
    settings = {**run.plan.settings, "termination": "learned"}
    other = replace(run, plan=replace(run.plan, settings=settings))
    assert run.plan.settings["termination"] == "mnm.terminations:mountain_car_continuous"
    assert run.plan.settings["target_entropy"] == 0.3
    assert other.digest != run.digest
