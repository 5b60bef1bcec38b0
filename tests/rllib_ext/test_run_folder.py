"""Tests of a run's folder: refusing a used one, keeping a checkpoint, summary and pictures."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from matplotlib.figure import Figure

from distributed.storage import Location
from rllib_ext import run_folder
from rllib_ext.errors import UserError
from rllib_ext.run_folder import (
    BOUND_FILE,
    CURVE_FILE,
    ITERATION_COLUMN,
    PROGRESS_FILE,
    RESULT_FILE,
    RETURN_COLUMN,
    STEPS_COLUMN,
    SUMMARY_FILE,
    TRAINING_RETURN_COLUMN,
    draw_bound,
    draw_learning_curve,
    evaluated_returns,
    join_curves,
    keep_checkpoint,
    newest_checkpoint,
    prepare_resume,
    refuse_used_folder,
    remove_if_nothing_came,
    task_of,
    write_summary,
)
from tests.rllib_ext.small_checkpoints import cut, write_checkpoint

at = Location.of


def test_new_and_empty_folders_are_taken_and_left_alone(tmp_path: Path) -> None:
    refuse_used_folder(at(tmp_path / "new" / "run"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    refuse_used_folder(at(tmp_path / "empty"))
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("steps\n")
    with pytest.raises(UserError, match=r"already holds a run: name another --output\.$"):
        refuse_used_folder(at(tmp_path))


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file: name another --output"):
        refuse_used_folder(at(tmp_path / "run"))
    with pytest.raises(UserError, match="cannot be made"):
        refuse_used_folder(at(tmp_path / "run" / "below"))


def test_a_checkpoint_is_kept_whole_and_the_older_one_replaced(tmp_path: Path) -> None:
    for number in (1, 2):
        newest = tmp_path / f"checkpoint_{number}"
        (newest / "inner").mkdir(parents=True)
        (newest / f"only-in-{number}").write_text("")
        (newest / "inner" / "state").write_text(str(number))
        kept = Path(keep_checkpoint(at(tmp_path), at(newest)).path)
        assert kept == tmp_path / "checkpoint"
        assert sorted(os.listdir(kept)) == ["inner", f"only-in-{number}"]
        assert (kept / "inner" / "state").read_text() == str(number)
    assert not [file for file in os.listdir(tmp_path) if file.startswith(".")]


def test_a_kept_checkpoint_outlives_the_one_it_was_made_of(tmp_path: Path) -> None:
    newest = tmp_path / "checkpoint_1"
    newest.mkdir()
    (newest / "state").write_text("weights")
    kept = Path(keep_checkpoint(at(tmp_path), at(newest)).path)
    (newest / "state").unlink()
    assert (kept / "state").read_text() == "weights"


@pytest.mark.parametrize("gap", [math.nan, math.inf, -math.inf])
def test_the_summary_is_strict_json(tmp_path: Path, gap: float) -> None:
    write_summary(at(tmp_path), {"env": "Line-v0", "steps": 3, "return": 1.5, "gap": gap})
    text = (tmp_path / SUMMARY_FILE).read_text()
    assert json.loads(text) == {"env": "Line-v0", "steps": 3, "return": 1.5, "gap": None}


def write_progress(folder: Path, **columns: list[float]) -> None:
    frame = pd.DataFrame({ITERATION_COLUMN: [1, 2, 3], STEPS_COLUMN: [100, 200, 300], **columns})
    frame.to_csv(folder / "progress.csv", index=False)


@pytest.mark.parametrize(
    "columns",
    [
        {RETURN_COLUMN: [1.0, 2.0, 3.0], TRAINING_RETURN_COLUMN: [0.5, math.nan, 2.0]},
        {RETURN_COLUMN: [1.0, 2.0, 3.0]},
        {TRAINING_RETURN_COLUMN: [1.0, 2.0, 3.0]},
    ],
)
def test_the_learning_curve_is_a_picture(tmp_path: Path, columns: dict[str, list[float]]) -> None:
    write_progress(tmp_path, **columns)
    draw_learning_curve(at(tmp_path), "mnm on Line-v0, seed 0")
    picture = matplotlib.image.imread(tmp_path / CURVE_FILE)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 500
    assert picture[..., :3].std() > 0.01


def test_the_bound_is_drawn_only_where_there_is_one(tmp_path: Path) -> None:
    write_progress(tmp_path, **{RETURN_COLUMN: [1.0, 2.0, 3.0]})
    assert not draw_bound(at(tmp_path), "sac")
    write_progress(tmp_path, **{"bound/estimate": [math.nan] * 3})
    assert not draw_bound(at(tmp_path), "mnm")
    assert not (tmp_path / BOUND_FILE).exists()
    ends = {
        f"bound/{name}{end}": [math.nan, 1.0 + offset, 2.0 + offset]
        for name in ("estimate", "log_return")
        for end, offset in (("", 0.0), ("_low", -0.5), ("_high", 0.5))
    }
    write_progress(tmp_path, **ends)
    assert draw_bound(at(tmp_path), "mnm")
    assert matplotlib.image.imread(tmp_path / BOUND_FILE).std() > 0.01


def test_an_estimate_that_diverged_does_not_flatten_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(run_folder, "_save", lambda figure, file: figures.append(figure))
    ends = {
        f"bound/{name}{end}": [1.0 + offset, far, 2.0 + offset]
        for name, far in (("estimate", -1e17), ("log_return", 1.5))
        for end, offset in (("", 0.0), ("_low", -0.5), ("_high", 0.5))
    }
    write_progress(tmp_path, **ends)
    assert draw_bound(at(tmp_path), "mnm")
    (axes,) = figures[0].axes
    assert axes.get_ylim() == pytest.approx((0.4, 2.6))
    assert "1 estimate beyond" in axes.get_xlabel()


def test_the_newest_whole_checkpoint_is_found_wherever_it_lies(tmp_path: Path) -> None:
    assert newest_checkpoint(at(tmp_path)) is None
    write_checkpoint(tmp_path / "checkpoint_000000", iteration=4)
    assert newest_checkpoint(at(tmp_path)) == at(tmp_path / "checkpoint_000000")
    write_checkpoint(tmp_path / "checkpoint", iteration=5)
    assert newest_checkpoint(at(tmp_path)) == at(tmp_path / "checkpoint")
    # A killed run's newest one, half copied; and one whose task.json did not come at all.
    newest = write_checkpoint(tmp_path / "checkpoint_000002", iteration=7)
    write_checkpoint(tmp_path / "checkpoint_000001", iteration=6)
    cut(next(newest.rglob("agent.pt")))
    (write_checkpoint(tmp_path / "checkpoint_000003", iteration=8) / "task.json").unlink()
    assert newest_checkpoint(at(tmp_path)) == at(tmp_path / "checkpoint_000001")


def write_curve(folder: Path, iterations: list[int], made: str) -> None:
    rows = [{ITERATION_COLUMN: i, STEPS_COLUMN: 10 * i, "made": made} for i in iterations]
    pd.DataFrame(rows).to_csv(folder / PROGRESS_FILE, index=False)
    (folder / RESULT_FILE).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_run_is_made_ready_to_go_on_from_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", iteration=2)
    write_checkpoint(tmp_path / "checkpoint_000001", iteration=6)
    cut(next(write_checkpoint(tmp_path / "checkpoint_000002", iteration=7).rglob("agent.pt")))
    for name in ("experiment_state-1.json", "basic-variant-state-1.json", "error.txt", "run.json"):
        (tmp_path / name).write_text("")
    write_curve(tmp_path, [1, 2], "first")
    kept = prepare_resume(at(tmp_path))
    assert kept == at(tmp_path / "checkpoint")
    assert task_of(kept)["training_iteration"] == 6
    left = {"checkpoint", "run.json", "progress.part-0.csv", "result.part-0.json"}
    assert set(os.listdir(tmp_path)) == left
    # Killed before its first result, and again after some.
    assert prepare_resume(at(tmp_path)) == kept
    assert set(os.listdir(tmp_path)) == left
    write_curve(tmp_path, [7], "second")
    prepare_resume(at(tmp_path))
    assert set(os.listdir(tmp_path)) == left | {"progress.part-1.csv", "result.part-1.json"}


@pytest.mark.parametrize("name", [None, "checkpoint", PROGRESS_FILE, "transitions"])
def test_only_a_folder_that_nothing_came_of_is_removed(tmp_path: Path, name: str | None) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    if name is not None:
        (folder / name).write_text("")
    assert remove_if_nothing_came(at(folder)) == (name is None)
    assert folder.exists() == (name is not None)


def test_nothing_whole_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    cut(next(write_checkpoint(tmp_path / "checkpoint_000000").rglob("agent.pt")))
    with pytest.raises(UserError, match="holds no whole checkpoint to go on from"):
        prepare_resume(at(tmp_path))
    assert (tmp_path / "checkpoint_000000").is_dir()


def test_joined_curves_have_every_iteration_once_as_it_was_made_last(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    write_checkpoint(checkpoint)
    write_curve(tmp_path, [1, 2, 3, 4, 5], "first")
    for name in (PROGRESS_FILE, RESULT_FILE):  # the end of a killed run
        with (tmp_path / name).open("a") as file:
            file.write('{"training_iteration": 6' if name == RESULT_FILE else "6,6")
    prepare_resume(at(tmp_path))
    write_curve(tmp_path, [4, 5], "second")
    prepare_resume(at(tmp_path))
    write_curve(tmp_path, [5, 6, 7], "third")
    join_curves(at(tmp_path))
    table = pd.read_csv(tmp_path / PROGRESS_FILE)
    lines = [json.loads(line) for line in (tmp_path / RESULT_FILE).read_text().splitlines()]
    assert table.to_dict("records") == lines
    made = [(line[ITERATION_COLUMN], line["made"]) for line in lines]
    assert made == [
        *((i, "first") for i in (1, 2, 3)),
        (4, "second"),
        *((i, "third") for i in (5, 6, 7)),
    ]
    assert set(os.listdir(tmp_path)) == {"checkpoint", PROGRESS_FILE, RESULT_FILE}
    join_curves(at(tmp_path))
    assert pd.read_csv(tmp_path / PROGRESS_FILE).equals(table)


def test_a_run_without_results_has_no_curves_to_join(tmp_path: Path) -> None:
    join_curves(at(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_evaluations_of_a_run_that_goes_on_are_those_made_last(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    assert evaluated_returns(at(tmp_path)) == {}
    write_progress(tmp_path, **{RETURN_COLUMN: [1.0, math.nan, 3.0]})
    prepare_resume(at(tmp_path))
    assert evaluated_returns(at(tmp_path)) == {1: 1.0, 3: 3.0}
    write_curve(tmp_path, [3], "without an evaluation")
    assert evaluated_returns(at(tmp_path)) == {1: 1.0}
