"""Tests of a checkpoint's files: whole ones, half ones, links between them, buckets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from distributed.replay_files import ReplayFiles
from rllib_ext import MnM
from rllib_ext.errors import CheckpointFailed
from rllib_ext.run_folder import is_whole_checkpoint
from tests.mnm.small_cases import assert_same_rows, same_tensors
from tests.rllib_ext.small_checkpoints import AGENT, REPLAY, cut, overwrite
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import ask_learner, built, replay_of, weights_of

pytestmark = pytest.mark.usefixtures("local_ray")

PART = f"{REPLAY}/real/part-000000.parquet"


@pytest.fixture(scope="module")
def algo(local_ray: None) -> Iterator[MnM]:
    with built(tiny_config("mnm")) as algo:
        algo.train()
        yield algo


@pytest.fixture(scope="module")
def saved(algo: MnM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    algo.save_to_path(folder)
    return folder


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no task.json": ("task.json", Path.unlink, "is not a whole checkpoint .* task.json is missing"),
    "cut task.json": ("task.json", cut, "is damaged: task.json cannot be read"),
    "no agent.pt": (AGENT, Path.unlink, "is not whole: .*/agent.pt is missing"),
    "cut agent.pt": (AGENT, cut, "is not whole: .*/agent.pt has .* bytes instead of"),
    "other bytes in agent.pt": (AGENT, overwrite, "could not be .* restored"),
    "no part of the replay": (PART, Path.unlink, "is not whole: .*part-000000.parquet is missing"),
    "cut part of the replay": (PART, cut, "is not whole: .*part-000000.parquet has .* bytes"),
    "other bytes in the replay": (PART, overwrite, "part-000000.parquet cannot be read"),
    "no pickle of RLlib's": ("algorithm_state.pkl", Path.unlink, "algorithm_state.pkl is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_not_whole_is_refused(
    damage: str, algo: MnM, saved: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    assert is_whole_checkpoint(copy)
    file, do_damage, sentence = DAMAGES[damage]
    do_damage(copy / file)
    seems_whole = damage.startswith("other bytes")
    with pytest.raises(CheckpointFailed if seems_whole else ValueError, match=sentence):
        algo.restore_from_path(str(copy))
    assert is_whole_checkpoint(copy) == seems_whole


def test_an_unfinished_save_is_no_checkpoint(
    algo: MnM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    assert not is_whole_checkpoint(folder)
    algo.save_to_path(folder)
    assert is_whole_checkpoint(folder)

    def fail(*words: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(ReplayFiles, "save", fail)
    with pytest.raises(CheckpointFailed, match=r"could not be saved .*No space left"):
        algo.save_to_path(folder)
    assert not is_whole_checkpoint(folder)


def test_a_checkpoint_links_the_full_parts_of_the_one_before(
    local_ray: None, tmp_path: Path
) -> None:
    with built(tiny_config("mbpo")) as algo:
        ask_learner(algo, lambda learner: setattr(learner._replay_files, "part_rows", 30))
        for name in "ab":
            algo.train()
            algo.save_to_path(tmp_path / name)
        rows = replay_of(algo)
        first, second = (
            {
                file.name: file.stat().st_ino
                for file in (tmp_path / name / REPLAY / "real").iterdir()
            }
            for name in "ab"
        )
        assert len(second) > len(first) > 1
        same = [name for name in sorted(first) if second[name] == first[name]]
        assert same == sorted(first)[:-1]
        shutil.rmtree(tmp_path / "a")
        algo.train()
        algo.restore_from_path(str(tmp_path / "b"))
        assert_same_rows(replay_of(algo), rows)


@pytest.mark.parametrize("num_learners", [0, 1])
def test_stopping_leaves_no_temporary_files(
    num_learners: int, local_ray: None, tmp_path: Path
) -> None:
    with built(tiny_config("sac", num_learners=num_learners)) as algo:
        algo.save_to_path(tmp_path / "checkpoint")
        folder = ask_learner(algo, lambda learner: learner._replay_files._cache.path)
        assert folder.is_dir()
    assert not folder.exists()


def test_a_bucket_holds_a_checkpoint(algo: MnM, tmp_path: Path) -> None:
    """A filesystem that is not the local one, here below a root of its own."""
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    algo.train()
    algo.save_to_path("some/checkpoint", filesystem=bucket)
    assert is_whole_checkpoint(tmp_path / "some" / "checkpoint")
    weights, rows = weights_of(algo), replay_of(algo)
    algo.train()
    algo.restore_from_path("some/checkpoint", filesystem=bucket)
    assert same_tensors(weights_of(algo), weights)
    assert_same_rows(replay_of(algo), rows)


@pytest.mark.parametrize(("normalise", "is_restored"), [(False, True), (True, False)])
def test_a_checkpoint_from_before_a_setting_has_its_default(
    normalise: bool, is_restored: bool, saved: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(saved, older)
    task = json.loads((older / "task.json").read_text())
    assert task.pop("normalise_observations") is False
    (older / "task.json").write_text(json.dumps(task))
    with built(tiny_config("mnm", normalise_observations=normalise)) as other:
        if is_restored:
            other.restore_from_path(str(older))
            assert other.iteration == task["training_iteration"]
        else:
            with pytest.raises(ValueError, match="with normalise_observations=False, this"):
                other.restore_from_path(str(older))


def test_a_checkpoint_from_before_the_model_had_two_rewards_is_refused_in_one_sentence(
    saved: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(saved, older)
    task = json.loads((older / "task.json").read_text())
    assert task.pop("predicted_rewards") == 2
    (older / "task.json").write_text(json.dumps(task))
    with (
        built(tiny_config("mnm")) as other,
        pytest.raises(ValueError, match=r"with predicted_rewards=1, this .* and the version, it"),
    ):
        other.restore_from_path(str(older))


def test_a_clone_learns_with_its_own_settings_and_leaves_the_donor_alone(
    saved: Path, tmp_path: Path
) -> None:
    """What Population Based Training does between two trials."""

    def contents() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in saved.rglob("*") if file.is_file()}

    before = contents()
    mutated = tiny_config("mnm", actor_lr=7e-3, replay_capacity=30, updates_to_data_ratio=0.5)
    with built(mutated) as clone:
        clone.restore_from_path(str(saved))
        updates = clone.train()["num_updates_lifetime"]
        clone.save_to_path(tmp_path / "clone")
        shutil.rmtree(tmp_path / "clone")
        optimizers = ask_learner(clone, lambda learner: learner.core.agent.joint_update.optimizers)
        assert optimizers["policy"].param_groups[0]["lr"] == 7e-3
        assert updates > 0
        assert len(replay_of(clone)) == 30
    assert contents() == before
