"""Tests of `mnm train` ended by signals, and of going on with --resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from distributed.storage import Location
from rllib_ext.checkpoint_files import AGENT_FILE, LEARNER_FOLDER
from rllib_ext.run_folder import RETURN_COLUMN, STEPS_COLUMN, is_whole_checkpoint, task_of
from rllib_ext.run_plan import RunPlan
from tests.cluster.commands import LINE, ROOT, Mnm, assert_one_sentence
from tests.mnm.small_cases import flat_tensors, same_tensors

PENDULUM = "InvertedPendulum-v5"
ENDLESS = 1_000_000


def options(folder: Path, settings: Path, env: str) -> list[str]:
    """Words for a run without any remote actor but the trial's: one that repeats bit for bit."""
    return [
        *("--env", env, "--config", str(settings), "--output", str(folder)),
        *("--num-env-runners", "0", "--num-rollout-workers", "0", "--evaluation-interval", "50"),
    ]


def start(folder: Path, settings: Path, *words: Any, env: str = LINE) -> subprocess.Popen[str]:
    """`mnm train` in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "cluster.cli", "train"),
            *(*options(folder, settings, env), *map(str, words)),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_steps(process: subprocess.Popen[str]) -> None:
    """Until the first result is shown."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("steps "):
            return
    raise AssertionError(process.communicate()[1])


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Sends a signal and returns what the process said on its way out; none of Ray's stays."""
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    if number == signal.SIGKILL:  # Ray's agents outlive a driver that is killed so
        signal_all(below, number)
    _, errors = process.communicate()
    _, left = psutil.wait_procs(below, timeout=30)
    assert not left
    return errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("local_ray")
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_had_been(
    number: signal.Signals, mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(folder, tiny, "--steps", ENDLESS, env=PENDULUM)
    wait_for_steps(process)
    errors = end(process, number)
    assert process.returncode == 128 + number
    saved = task_of(folder / "checkpoint")
    steps = saved["env_steps"]
    assert is_whole_checkpoint(folder / "checkpoint")
    (line,) = errors.splitlines()
    assert line == (
        f"mnm: stopped; {steps} real steps are saved in {folder}. Go on with: "
        f"mnm train --resume {folder}"
    )
    before = pd.read_csv(folder / "progress.csv")
    assert before[STEPS_COLUMN].iloc[-1] == steps

    end_at = 50 * (steps // 50 + 3)
    assert mnm("train", "--resume", folder, "--steps", end_at).code == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert end_at <= summary["env_steps"] < end_at + 10
    assert summary["updates_to_data_ratio"] == before["updates_to_data_ratio"].iloc[-1]
    curve = pd.read_csv(folder / "progress.csv")
    assert list(curve[STEPS_COLUMN])[: len(before)] == list(before[STEPS_COLUMN])
    assert list(curve["training_iteration"]) == list(range(1, len(curve) + 1))
    assert curve["time_total_s"].is_monotonic_increasing
    # Iterations end at the next multiple of their interval again.
    assert (curve[STEPS_COLUMN].iloc[len(before) :] % 50 < 10).all()
    assert (curve["env_runners/num_episodes_dropped_lifetime"] == 0).all()
    assert_one_sentence(mnm("train", "--resume", folder))

    whole = tmp_path / "whole"
    assert mnm("train", *options(whole, tiny, PENDULUM), "--steps", end_at).code == 0
    assert same_tensors(agent_of(folder), agent_of(whole))
    evaluated = [RETURN_COLUMN, STEPS_COLUMN]
    uninterrupted = pd.read_csv(whole / "progress.csv")[evaluated]
    assert curve[evaluated].dropna().reset_index(drop=True).equals(uninterrupted)


def agent_of(run: Path) -> dict[str, torch.Tensor]:
    """All that is learned, with the optimizers' state, the counters and the random state."""
    file = run / "checkpoint" / LEARNER_FOLDER / AGENT_FILE
    return flat_tensors(torch.load(file, weights_only=True))


@pytest.mark.usefixtures("local_ray")
def test_a_run_killed_in_the_middle_of_a_checkpoint_goes_on_from_the_last_whole_one(
    mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(folder, tiny, "--steps", 2000)  # 20 checkpoints, the last 2 are kept
    wait_for_steps(process)
    hold_in_the_middle_of_a_checkpoint(process, folder)
    end(process, signal.SIGKILL)
    newest = max(task_of(path)["training_iteration"] for path in checkpoints(folder, whole=True))
    assert mnm("train", "--resume", folder, "--steps", 2000).code == 0
    curve = pd.read_csv(folder / "progress.csv")
    resumed = curve[curve["iterations_since_restore"] == 1]["training_iteration"]
    assert list(resumed) == [1, newest + 1]
    assert 2000 <= json.loads((folder / "summary.json").read_text())["env_steps"] < 2050


def hold_in_the_middle_of_a_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    """Stops the run and its Ray where the newest checkpoint is not whole and two others are."""
    while True:
        assert process.poll() is None
        run = psutil.Process(process.pid)
        family = [run, *run.children(recursive=True)]
        signal_all(family, signal.SIGSTOP)
        whole = checkpoints(folder, whole=True)
        if len(whole) >= 2 and max(checkpoints(folder, whole=False), default=whole[0]) > max(whole):
            return
        signal_all(family, signal.SIGCONT)
        time.sleep(0.002)


def checkpoints(folder: Path, whole: bool) -> list[Path]:
    """Those of a run that are whole, or those that are not, oldest first."""
    found = sorted(folder.glob("checkpoint_*"))
    return [path for path in found if is_whole_checkpoint(path) == whole]


def test_what_is_no_run_cannot_be_resumed(mnm: Mnm, tmp_path: Path) -> None:
    done = mnm("train", "--resume", tmp_path / "none")
    assert_one_sentence(done)
    assert "is not a run's folder" in done.err


def test_options_that_make_it_another_run_are_refused(mnm: Mnm, tiny: Path, tmp_path: Path) -> None:
    plan = RunPlan(LINE, "mnm", {}, steps=100, num_env_runners=0, num_rollout_workers=0)
    plan.save(Location.of(tmp_path))
    for words in (("--seed", 3), ("--set", "gamma=0.5"), ("--config", tiny), ("--output", "new")):
        done = mnm("train", "--resume", tmp_path, *words)
        assert_one_sentence(done)
        assert f"{words[0]} cannot change when a run is resumed" in done.err
    done = mnm("train", "--resume", tmp_path, "--steps", 200)
    assert_one_sentence(done)
    assert "holds no whole checkpoint to go on from" in done.err
