"""Tests of evaluating a saved policy: its figures, and one sentence for every bad checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from ray.exceptions import RayTaskError

from rllib_ext.errors import UserError, root_cause
from rllib_ext.evaluation import evaluate_policy
from rllib_ext.saved_policy import load_policy
from tests.line_tasks import LOW
from tests.rllib_ext.small_checkpoints import AGENT, TASKS, cut, write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def test_an_evaluation_plays_whole_episodes_with_the_policys_mode(tmp_path: Path) -> None:
    length, start = 4, 0.1
    folder = write_checkpoint(tmp_path, length=length, start=start, limit=100.0)
    evaluation = evaluate_policy(folder, episodes=7, seed=5)
    assert evaluation.episodes == 7
    assert evaluation.length_mean == length
    # It moves by 0.1 LOW at each step; the start is the only thing that differs.
    moves = 0.1 * LOW * np.arange(1, length + 1)
    nearest, farthest = (np.exp(-((side + moves) ** 2)).sum() for side in (start, -start))
    assert farthest < evaluation.return_mean < nearest
    assert 0 < evaluation.return_std < nearest - farthest
    assert set(evaluation.to_dict()) >= {"return_mean", "return_std", "episodes"}
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_the_same_seed_gives_the_same_figures(checkpoint: Path) -> None:
    first, again, other = (evaluate_policy(checkpoint, 5, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_another_environment_of_the_same_widths_may_be_named(checkpoint: Path) -> None:
    evaluation = evaluate_policy(checkpoint, 3, env=f"{TASKS}:Negative-v0")
    assert evaluation.return_mean < 0


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "There is no checkpoint folder"),
    "a file": (
        lambda folder: (shutil.rmtree(folder), folder.write_text("")),
        "is no policy|is no checkpoint",
    ),
    "empty": (
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        "is not a checkpoint of mnm: it has no task.json",
    ),
    "cut task.json": (lambda folder: cut(folder / "task.json"), "is damaged: task.json"),
    "empty task.json": (
        lambda folder: (folder / "task.json").write_text(""),
        "is damaged: task.json",
    ),
    "task.json of something else": (
        lambda folder: (folder / "task.json").write_text("{}"),
        "is damaged: task.json",
    ),
    "task.json that is a list": (
        lambda folder: (folder / "task.json").write_text("[]"),
        "is damaged: task.json",
    ),
    "task.json that is no text": (
        lambda folder: (folder / "task.json").write_bytes(b"\xff\xfe\x00{"),
        "is damaged: task.json",
    ),
    "no agent.pt": (
        lambda folder: (folder / AGENT).unlink(),
        "is not whole: .*agent.pt is missing",
    ),
    "cut agent.pt": (lambda folder: cut(folder / AGENT), "is damaged: its networks cannot be read"),
    "agent.pt of something else": (
        lambda folder: torch.save({"networks": {}}, folder / AGENT),
        "is damaged: its networks cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_checkpoint_gets_one_sentence(damage: str, checkpoint: Path) -> None:
    do_damage, sentence = DAMAGES[damage]
    do_damage(checkpoint)
    with pytest.raises(UserError, match=sentence) as caught:
        evaluate_policy(checkpoint, 2)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_task_is_refused(checkpoint: Path) -> None:
    sentence = r"is of another task: its policy takes 3 observations .* has 4 and 2\.$"
    with pytest.raises(UserError, match=sentence):
        evaluate_policy(checkpoint, 2, env=f"{TASKS}:Plane-v0")


def test_an_unknown_environment_is_named(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="Cannot make the environment 'NoSuch-v0'"):
        evaluate_policy(checkpoint, 2, env="NoSuch-v0")


def test_a_runs_folder_points_to_its_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "run" / "checkpoint")
    with pytest.raises(UserError, match=r"is a run's folder: name .*run/checkpoint"):
        load_policy(tmp_path / "run")


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_a_film_shows_the_first_episode(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", length=6, limit=100.0)
    film = tmp_path / name
    evaluate_policy(folder, 1, video=film)
    frames = imageio.mimread(film)
    assert len(frames) == 7  # the start, and what follows each of six steps
    assert frames[0].shape[:2] == (16, 32)
    assert any((frame != frames[0]).any() for frame in frames)


def test_the_film_is_of_the_first_episode_that_counts(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", length=100, start=1.0)
    lengths = []
    for seed in range(4):
        film = tmp_path / f"{seed}.gif"
        lengths.append(evaluate_policy(folder, 1, seed, video=film).length_mean)
        assert len(imageio.mimread(film)) == lengths[-1] + 1
    assert len(set(lengths)) > 1  # they depend on the start


@pytest.mark.parametrize("name", ["film.nonsense", "no/such/folder/film.gif"])
def test_a_film_that_cannot_be_written_gets_one_sentence(checkpoint: Path, name: str) -> None:
    video = checkpoint / name
    with pytest.raises(UserError, match="No film could be written to") as caught:
        evaluate_policy(checkpoint, 1, video=video)
    assert "\n" not in str(caught.value)
    assert not video.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems draw without a screen")
@pytest.mark.parametrize(
    ("screen", "chosen", "found", "drawn_by"),
    [
        (None, None, "OSMesa", "osmesa"),
        (None, None, "EGL OSMesa", "egl"),
        (None, None, "", None),
        (None, "osmesa", "EGL", "osmesa"),
        (":0", None, "EGL", None),
    ],
)
def test_without_a_screen_mujoco_draws_by_what_is_there(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    screen: str | None,
    chosen: str | None,
    found: str,
    drawn_by: str | None,
) -> None:
    for name, value in (("DISPLAY", screen), ("WAYLAND_DISPLAY", None), ("MUJOCO_GL", chosen)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    monkeypatch.setattr("rllib_ext.evaluation.find_library", lambda name: name in found.split())
    evaluate_policy(checkpoint, 1, video=checkpoint / "film.gif")
    assert os.environ.get("MUJOCO_GL") == drawn_by


def test_the_root_cause_is_found_under_wrappings() -> None:
    cause = ValueError("the reason")
    outer = RuntimeError("outer")
    outer.__cause__ = RayTaskError("method", "Traceback", cause)
    assert root_cause(outer) is cause
    assert root_cause(cause) is cause
