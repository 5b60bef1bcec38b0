"""The learning experiments: their runs, their tables, and the page that is generated from them."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.learning import page, session, tables
from benchmarks.learning.experiments import (
    AS_TUNED,
    EXPERIMENTS,
    OF_THE_MODEL,
    SOLVED,
    Experiment,
    runs_of,
)
from benchmarks.learning.summary import groups
from distributed.storage import Location
from rllib_ext.run_folder import RESULT_FILE, SUMMARY_FILE
from tests.mnm.small_cases import random_transitions, small_agent

QUESTION = "Does it?"
SMALL = Experiment(QUESTION, ("Pendulum-v1",), ("mnm", "sac"), (0, 1, 2), 300, 100, 1.0, 300)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setitem(EXPERIMENTS, "small", SMALL)
    return SMALL


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


def table(returns: dict[tuple[str, int], list[float]], interval: int = 100) -> pd.DataFrame:
    rows = [
        {
            "experiment": "small",
            "env": "Pendulum-v1",
            "algo": algo,
            "variant": "tuned",
            "seed": seed,
            "env_steps": interval * (place + 1),
            "return_mean": value,
            "wall_seconds": 10.0 * (place + 1),
        }
        for (algo, seed), values in returns.items()
        for place, value in enumerate(values)
    ]
    digests = {run.plan.algo: run.digest for run in runs_of("small")}
    content = pd.DataFrame(rows).reindex(columns=tables.COLUMNS)
    return content.assign(settings=content["algo"].map(digests))


def test_every_experiment_has_valid_runs_of_their_own() -> None:
    for name, experiment in EXPERIMENTS.items():
        runs = runs_of(name)
        assert len({run.name for run in runs}) == len(runs)
        # Every variant, but those that change nothing of what a task is tuned to.
        groups_of = {(run.plan.env, run.plan.algo, run.digest) for run in runs}
        assert len(runs) == len(groups_of) * len(experiment.seeds)
        others = [run for other in experiment.references for run in runs_of(other)]
        tuned = others or runs
        assert {(run.plan.env, run.plan.algo, run.variant) for run in tuned} >= {
            (env, algo, AS_TUNED) for env in experiment.envs for algo in experiment.algos
        }
        for run in tuned:
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


def test_what_sac_does_not_read_makes_no_other_run(small: Experiment) -> None:
    """Settings of a model are in the section of a task that all algorithms share."""
    unread = {
        "dynamics_hidden_sizes": (8,),
        "dynamics_weight_decay": (0.0, 0.0),
        "ensemble_size": 3,
        "num_elites": 2,
        "rollout_schedule": (0, 1, 2, 2),
        "rollouts_per_step": 7,
        "synthetic_retention": 9,
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
    longer = Experiment(QUESTION, ("Pendulum-v1",), ("sac",), (0,), 400, 100, 1.0)
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
    content = table({("mnm", 0): [-900, -150], ("mnm", 1): [-900, -500, -400]})
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert not group.finished
    assert group.shared_step == 200
    assert group.mean_curve()["iqm"].tolist() == [-900, -325]
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, stop_when_solved=True))
    (group,) = groups("small", tmp_path)
    assert group.finished
    assert group.shared_step == 300
    assert group.mean_curve()["iqm"].tolist() == [-900, -325, -275]


def test_an_experiments_reference_is_shown_beside_it_up_to_its_steps(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = replace(
        small,
        steps=200,
        seeds=(0,),
        variants={"less": {"mnm": {"rollouts_per_step": 1}}},
        references=("small",),
    )
    monkeypatch.setitem(EXPERIMENTS, "parts", parts)
    returns = {("mnm", 0): [-900, -150, -100], ("sac", 0): [-900, -500, -400]}
    content = table({**returns, ("mnm", 1): [-1, -1, -1]})
    content["bound_log_return"], content["bound_estimate"] = 2.0, 1.0
    content.to_csv(tmp_path / "small.csv", index=False)
    assert groups("parts", tmp_path) == []
    own = content[(content["algo"] == "mnm") & (content["seed"] == 0)].assign(
        variant="less", return_mean=-300.0
    )
    runs = runs_of("parts", seeds=(0,))
    assert [(run.plan.algo, run.variant) for run in runs] == [("mnm", "less")]
    own["settings"] = runs[0].digest
    own.to_csv(tmp_path / "parts.csv", index=False)
    found = groups("parts", tmp_path)
    assert [(group.algo, group.variant) for group in found] == [
        ("mnm", AS_TUNED),
        ("sac", AS_TUNED),
        ("mnm", "less"),
    ]
    assert [group.returns.tolist() for group in found] == [[-150], [-500], [-300]]
    assert all(group.finished for group in found)
    text = page.text(tmp_path)
    assert "Runs as tuned are those of small, up to these steps." in text
    assert text.count("| Pendulum-v1 | mnm |") == 1  # the theory's table has it once
    page.draw(found, tmp_path / "parts.png")
    content["bound_estimate"] = -1e30  # nothing is drawn so far off, and yet a figure
    content.to_csv(tmp_path / "small.csv", index=False)
    page.draw_theory({"small": groups("small", tmp_path)}, tmp_path / "theory.png")
    assert (tmp_path / "theory.png").stat().st_size > 0


def test_runs_of_unequal_length_are_compared_at_the_steps_that_all_have_made(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {("mnm", seed): [-900, -300 - 10 * seed, -100] for seed in range(3)}
    returns |= {("sac", seed): [-800, -700 - 10 * seed] for seed in range(3)}
    returns["sac", 0] += [-1]
    table(returns, interval=102).to_csv(tmp_path / "small.csv", index=False)
    lines = page.text(tmp_path).splitlines()
    (heading,) = (line for line in lines if line.startswith("| Pendulum-v1 | runs"))
    assert "| return at 200 steps, IQM (95 %) |" in heading
    (mnm,) = (line for line in lines if line.startswith("| mnm | 3 |"))
    assert "| -310 (-320 to -300) |" in mnm
    (sac,) = (line for line in lines if line.startswith("| sac | 3, to 306, 204, 204 steps |"))
    assert "| -710 (-720 to -700) |" in sac


def test_the_page_recommends_what_solved_most_seeds_and_says_what_was_not_run(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = {("mnm", seed): [-900, -180, -170] for seed in range(3)}
    returns |= {("sac", seed): [-900, -190 - 20 * seed, -100] for seed in range(3)}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    first = page.text(tmp_path).splitlines()[:10]
    assert any(
        line.startswith(
            "| Pendulum-v1 | `mnm train --env Pendulum-v1 --algo mnm --steps 300` | 3 of 3 | 200 |"
        )
        and line.endswith("| sac (3) |")
        for line in first
    )
    assert "Hopper-v5 (not run)" in page.text(tmp_path)
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, tuned_as="Pendulum-v1"))
    monkeypatch.setitem(EXPERIMENTS, "usual", small)
    table(returns).to_csv(tmp_path / "usual.csv", index=False)
    usual, own = (line for line in page.text(tmp_path).splitlines()[:10] if " 3 of 3 " in line)
    assert "mnm train" in usual
    assert "make learn-small" in own
    monkeypatch.undo()
    monkeypatch.setitem(EXPERIMENTS, "small", small)
    fewer = table({key: value for key, value in returns.items() if key[0] == "sac" or key[1] < 2})
    fewer.to_csv(tmp_path / "small.csv", index=False)
    assert "`mnm train --env Pendulum-v1 --algo sac --steps 300` | 3 of 3 |" in page.text(tmp_path)
    few = table({key: value for key, value in returns.items() if key[1] < 2})
    few.to_csv(tmp_path / "small.csv", index=False)
    assert "| Pendulum-v1 | `mnm train" not in page.text(tmp_path)
    unfinished = table({key: value[:2] for key, value in returns.items()})
    unfinished.to_csv(tmp_path / "small.csv", index=False)
    assert "| Pendulum-v1 | `mnm train" not in page.text(tmp_path)


def test_the_page_shows_the_course_of_gap_and_optimism(small: Experiment, tmp_path: Path) -> None:
    content = table({("mnm", 0): [-900, -150, -300], ("mnm", 1): [-900, -500, -400]})
    content["bound_log_return"] = [1.0, 2.0, 3.0] * 2
    content["bound_estimate"] = [math.nan, 1.5, 1.0, math.nan, 0.5, 2.5]
    content["model_optimism"] = [math.nan, 0.25, -0.5] * 2
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert group.figure("bound_gap").to_dict() == {200: 1.0, 300: 1.25}
    row = "| Pendulum-v1 | mnm | +1, +1, +1.25 | +0.25, +0.25, -0.5 |  |  |"
    assert row in page.text(tmp_path).splitlines()


def test_notes_written_by_hand_stand_below_their_table(small: Experiment, tmp_path: Path) -> None:
    table({("sac", 0): [-900, -150, -300]}).to_csv(tmp_path / "small.csv", index=False)
    (tmp_path / page.NOTES).mkdir()
    (tmp_path / page.NOTES / "small.md").write_text("It does.\n")
    section = page.text(tmp_path).partition("## small")[2].partition("\n## ")[0]
    assert section.strip().endswith("It does.")
    (tmp_path / page.NOTES / "findings.md").write_text("It did not.\n")
    assert page.text(tmp_path).endswith("## What held the returns back\n\nIt did not.\n")


def test_settings_that_are_not_the_learners_count_in_the_digest() -> None:
    run = runs_of("held-mountain-car", seeds=(0,), only="/mbpo/")[0]
    settings = {**run.plan.settings, "termination": "learned"}
    other = replace(run, plan=replace(run.plan, settings=settings))
    assert run.plan.settings["termination"] == "mnm.terminations:mountain_car_continuous"
    assert run.plan.settings["target_entropy"] == 0.3
    assert other.digest != run.digest


def test_the_page_is_the_one_that_its_tables_make() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()


def test_figures_are_the_same_each_time(small: Experiment, tmp_path: Path) -> None:
    table({("mnm", 0): [-900, -150], ("mnm", 1): [-900, -500, -400]}).to_csv(
        tmp_path / "small.csv", index=False
    )
    found = groups("small", tmp_path)
    for name in ("a.png", "b.png"):
        page.draw(found, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
