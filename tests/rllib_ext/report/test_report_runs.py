"""Tests of reading runs, whatever state they are in, and of putting them into groups."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_ext.errors import UserError
from rllib_ext.report.runs import differing_settings, group_runs, load_runs
from rllib_ext.report.tables import group_table, learning_curves, run_table, time_table
from rllib_ext.run_folder import RETURN_COLUMN
from tests.rllib_ext.small_runs import write_run


def test_a_finished_run_says_what_it_came_to(tmp_path: Path) -> None:
    (run,) = load_runs([write_run(tmp_path / "run")])
    assert (run.steps, run.status, run.final_return) == (40, "finished", 4.5)
    assert run.curve(RETURN_COLUMN).steps.tolist() == [10, 20, 30, 40]
    assert run.seconds() == {
        "fit": 0,
        "update": 12,
        "imagine": 0,
        "ingest": 0,
        "publish": 0,
        "idle": 4,
    }
    assert run.checkpoint is None


def test_a_run_may_be_named_by_its_uri(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (run,) = load_runs([folder.as_uri(), folder])
    assert run.final_return == 4.5
    with pytest.raises(UserError, match="nowhere://run cannot be used"):
        load_runs(["nowhere://run"])


def test_a_run_may_end_at_a_return_that_is_no_number(tmp_path: Path) -> None:
    (run,) = load_runs([write_run(tmp_path / "run", [1.0, math.inf], steps=20)])
    assert run.status == "finished"
    assert math.isnan(run.final_return)


def test_an_unfinished_run_counts_as_far_as_it_came(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [1.0, math.nan, 3.0], finished=False)
    with (folder / "progress.csv").open("a") as file:
        file.write("40.0,4,9")  # it is being written, or its writer died
    (run,) = load_runs([folder])
    assert (run.steps, run.final_return) == (30, 3.0)
    assert run.status == "unfinished: 30 of 40 steps"
    assert run.curve(RETURN_COLUMN).steps.tolist() == [10, 30]


def test_a_run_without_a_result_is_one_all_the_same(tmp_path: Path) -> None:
    (run,) = load_runs([write_run(tmp_path / "run", [], finished=False)])
    assert run.status == "no result yet"
    assert math.isnan(run.final_return)
    assert sum(run.seconds().values()) == 0
    groups = group_runs([run])
    assert run_table(groups)["steps"].tolist() == [0]
    assert time_table(groups).empty
    assert all(table.empty for table in learning_curves(groups).values())
    assert group_table(run_table(groups))["final_return_iqm"].isna().all()


def test_a_run_that_met_its_return_ended_there(tmp_path: Path) -> None:
    (run,) = load_runs([write_run(tmp_path / "run", steps=100, stop_return=3.0)])
    assert run.status == "ended at the return to stop at"


def test_a_resumed_run_is_read_whole_and_left_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [1.0, 2.0, 3.0, 4.0], steps=60)
    os.rename(folder / "progress.csv", folder / "progress.part-0.csv")
    again = write_run(tmp_path / "again", [5.0, 6.0, 7.0, 8.0, 9.0, 10.0], finished=False)
    lines = (again / "progress.csv").read_text().splitlines(keepends=True)
    (folder / "progress.csv").write_text("".join([lines[0], *lines[4:6]]))  # from iteration 4 on
    before = sorted(os.listdir(folder))
    (run,) = load_runs([folder])
    assert run.curve(RETURN_COLUMN).values.tolist() == [1, 2, 3, 8, 9]
    assert run.status == "unfinished: 50 of 60 steps"  # the summary is of before
    assert run.final_return == 9
    assert sorted(os.listdir(folder)) == before


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "There is no run's folder"),
    "not a run": (
        lambda folder: (folder / "run.json").unlink(),
        "is not a run's folder: it has no run.json",
    ),
    "a checkpoint": (
        lambda folder: (folder / "task.json").write_text("{}"),
        "is a checkpoint: name the run's folder",
    ),
    "a plan that is no JSON": (
        lambda folder: (folder / "run.json").write_text("{"),
        "run.json cannot be read",
    ),
    "a plan of nothing known": (
        lambda folder: (folder / "run.json").write_text(
            (folder / "run.json").read_text().replace('"mnm"', '"ppo"')
        ),
        "is of an algorithm that is not known here: 'ppo'",
    ),
    "a progress of other columns": (
        lambda folder: (folder / "progress.csv").write_text("a,b\n1,2\n"),
        "progress.csv is damaged",
    ),
    "a progress with words for numbers": (
        lambda folder: (folder / "progress.csv").write_text(
            (folder / "progress.csv").read_text().replace("20.0,2,", "twenty,2,")
        ),
        "progress.csv is damaged: could not convert string to float",
    ),
    "a return that is no number": (
        lambda folder: (folder / "progress.csv").write_text(
            (folder / "progress.csv").read_text().replace("20.0,2,2.0", "20.0,2,two")
        ),
        "progress.csv is damaged: not all of its column evaluation/.* is numbers",
    ),
    "a progress that is no text": (
        lambda folder: (folder / "progress.csv").write_bytes(b"\xff\xfe\x00\n\x00"),
        "progress.csv is damaged",
    ),
    "a cut summary": (
        lambda folder: (folder / "summary.json").write_text('{"env_steps": 40'),
        "summary.json is damaged",
    ),
    "a summary of something else": (
        lambda folder: (folder / "summary.json").write_text("[]"),
        "summary.json is damaged",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_whole_run_gets_one_sentence(mistake: str, tmp_path: Path) -> None:
    make, sentence = MISTAKES[mistake]
    make(write_run(tmp_path / "run"))
    with pytest.raises(UserError, match=sentence) as caught:
        load_runs([tmp_path / "run"])
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_seeds_make_a_group_and_settings_set_groups_apart(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", seed=2),
        write_run(tmp_path / "b", seed=1, steps=80, evaluation_interval=20),
        write_run(tmp_path / "c", settings={"updates_to_data_ratio": 5}),
        write_run(tmp_path / "d", algo="sac"),
        # What is given as the preset has it makes no other group.
        write_run(tmp_path / "e", algo="sac", seed=1, settings={"hidden_sizes": [256, 256]}),
        write_run(tmp_path / "f", env="tests.line_tasks:Twin-v0"),
    ]
    groups = group_runs(load_runs([*folders, folders[0]]))
    assert [(group.label, [run.folder.last for run in group.runs]) for group in groups] == [
        ("mnm (updates_to_data_ratio=20)", ["b", "a"]),
        ("mnm (updates_to_data_ratio=5)", ["c"]),
        ("sac", ["d", "e"]),
        ("mnm", ["f"]),
    ]
    assert groups[0].interval == 20
    assert differing_settings(groups[:2]) == ["updates_to_data_ratio"]


def test_equal_numbers_make_one_group_however_they_are_written(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", seed=0, settings={"updates_to_data_ratio": 20}),
        write_run(tmp_path / "b", seed=1, settings={"updates_to_data_ratio": 20.0}),
        write_run(tmp_path / "c", seed=2, settings={"dynamics_weight_decay": [0, 0.0]}),
        write_run(tmp_path / "d", seed=3, settings={"dynamics_weight_decay": [0.0, 0]}),
    ]
    groups = group_runs(load_runs(folders))
    assert [[run.folder.last for run in group.runs] for group in groups] == [["a", "b"], ["c", "d"]]
    assert differing_settings(groups) == ["dynamics_weight_decay"]
    assert len({group.label for group in groups}) == 2


def test_labels_of_many_differences_are_numbers(tmp_path: Path) -> None:
    many = {"gamma": 0.5, "tau": 0.5, "actor_lr": 0.5, "critic_lr": 0.5, "alpha_lr": 0.5}
    runs = load_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", settings=many)])
    assert [group.label for group in group_runs(runs)] == ["mnm (variant 1)", "mnm (variant 2)"]


def test_groups_are_summed_up_over_their_runs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(seed), [0.0, 1.0, 5.0, float(seed)], seed=seed, stop_return=4.5)
        for seed in range(3)
    ]
    runs.append(write_run(tmp_path / "3", [0.0, 0.0, 1.0, 2.5], seed=3))
    groups = group_runs(load_runs(runs))
    (row,) = group_table(run_table(groups)).to_dict("records")
    assert row["runs"] == 4
    assert row["final_return_iqm"] == pytest.approx((1.5 + 2.5) / 2)  # 0.5 and 3 are left out
    assert row["final_return_low"] < row["final_return_iqm"] < row["final_return_high"]
    assert (row["threshold"], row["reached"], row["steps_to_threshold_median"]) == (4.5, 3, 30)
    (row,) = group_table(run_table(groups, threshold=6.0)).to_dict("records")
    assert (row["reached"], row["steps_to_threshold_median"]) == (0, math.inf)
    curve = learning_curves(groups)["mnm"]
    assert curve["iqm"].tolist() == pytest.approx([0, 1, 5, 1.5])
