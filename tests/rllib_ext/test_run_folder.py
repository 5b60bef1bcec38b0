"""Tests of a run's folder: refusing a used one, keeping a checkpoint, summary and pictures."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest

from rllib_ext.errors import UserError
from rllib_ext.run_folder import (
    BOUND_FILE,
    CURVE_FILE,
    RETURN_COLUMN,
    STEPS_COLUMN,
    SUMMARY_FILE,
    TRAINING_RETURN_COLUMN,
    draw_bound,
    draw_learning_curve,
    keep_checkpoint,
    refuse_used_folder,
    write_summary,
)


def test_new_and_empty_folders_are_taken_and_left_alone(tmp_path: Path) -> None:
    refuse_used_folder(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    refuse_used_folder(tmp_path / "empty")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("steps\n")
    with pytest.raises(UserError, match=r"already holds a run: name another --output\.$"):
        refuse_used_folder(tmp_path)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file: name another --output"):
        refuse_used_folder(tmp_path / "run")
    with pytest.raises(UserError, match="cannot be made"):
        refuse_used_folder(tmp_path / "run" / "below")


def test_a_checkpoint_is_kept_whole_and_the_older_one_replaced(tmp_path: Path) -> None:
    for number in (1, 2):
        newest = tmp_path / f"checkpoint_{number}"
        (newest / "inner").mkdir(parents=True)
        (newest / f"only-in-{number}").write_text("")
        (newest / "inner" / "state").write_text(str(number))
        kept = keep_checkpoint(tmp_path, newest)
        assert kept == tmp_path / "checkpoint"
        assert sorted(os.listdir(kept)) == ["inner", f"only-in-{number}"]
        assert (kept / "inner" / "state").read_text() == str(number)
    assert not [file for file in os.listdir(tmp_path) if file.startswith(".")]


def test_a_kept_checkpoint_outlives_the_one_it_was_made_of(tmp_path: Path) -> None:
    newest = tmp_path / "checkpoint_1"
    newest.mkdir()
    (newest / "state").write_text("weights")
    kept = keep_checkpoint(tmp_path, newest)
    (newest / "state").unlink()
    assert (kept / "state").read_text() == "weights"


def test_the_summary_is_strict_json(tmp_path: Path) -> None:
    write_summary(tmp_path, {"env": "Line-v0", "steps": 3, "return": 1.5, "gap": math.nan})
    text = (tmp_path / SUMMARY_FILE).read_text()
    assert "NaN" not in text
    assert json.loads(text) == {"env": "Line-v0", "steps": 3, "return": 1.5, "gap": None}


def write_progress(folder: Path, **columns: list[float]) -> None:
    frame = pd.DataFrame({STEPS_COLUMN: [100, 200, 300], **columns})
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
    draw_learning_curve(tmp_path, "mnm on Line-v0, seed 0")
    picture = matplotlib.image.imread(tmp_path / CURVE_FILE)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 500
    assert picture[..., :3].std() > 0.01


def test_the_bound_is_drawn_only_where_there_is_one(tmp_path: Path) -> None:
    write_progress(tmp_path, **{RETURN_COLUMN: [1.0, 2.0, 3.0]})
    assert not draw_bound(tmp_path, "sac")
    write_progress(tmp_path, **{"bound/estimate": [math.nan] * 3})
    assert not draw_bound(tmp_path, "mnm")
    assert not (tmp_path / BOUND_FILE).exists()
    ends = {
        f"bound/{name}{end}": [math.nan, 1.0 + offset, 2.0 + offset]
        for name in ("estimate", "log_return")
        for end, offset in (("", 0.0), ("_low", -0.5), ("_high", 0.5))
    }
    write_progress(tmp_path, **ends)
    assert draw_bound(tmp_path, "mnm")
    assert matplotlib.image.imread(tmp_path / BOUND_FILE).std() > 0.01
