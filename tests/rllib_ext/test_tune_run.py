"""Tests of when a run on Tune stops, and what it does after a failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayTaskError

from distributed.vector_env import EnvironmentFailed
from mnm import DataRefused
from rllib_ext.errors import CheckpointFailed
from rllib_ext.run_plan import RunPlan
from rllib_ext.tune_run import Recovery, ReturnStopper


def plan(**changes: Any) -> RunPlan:
    return RunPlan(
        "Line-v0", "mnm", {}, **{"steps": 10, **changes}, num_env_runners=2, num_rollout_workers=1
    )


def result(steps: int, evaluated: float, iteration: int = 1) -> dict[str, Any]:
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": steps,
        "num_offline_updates": 0,
        "evaluation": {"env_runners": {"episode_return_mean": evaluated}},
    }


def test_a_run_stops_at_its_steps() -> None:
    stop = ReturnStopper(plan(steps=100))
    assert [stop("trial", result(steps, 1e9)) for steps in (50, 99, 100, 150)] == [
        False,
        False,
        True,
        True,
    ]
    assert not stop.stop_all()


def test_a_run_without_steps_stops_after_its_offline_updates() -> None:
    stop = ReturnStopper(plan(steps=0, offline_updates=80))
    results = [{**result(0, 1.0), "num_offline_updates": updates} for updates in (40, 79, 80)]
    assert [stop("trial", each) for each in results] == [False, False, True]


@pytest.mark.parametrize(
    ("so_far", "evaluated"),
    [
        pytest.param({}, {1: 9.5, 2: 8.9, 3: 9.0, 4: 9.0}, id="in a row"),
        pytest.param({1: 9.0, 2: 8.0, 3: 9.0}, {4: 9.0}, id="the first before it was resumed"),
        pytest.param(
            {1: 9.0, 2: 9.0, 3: 9.0}, {2: 8.0, 3: 9.0, 4: 9.0}, id="resumed from further back"
        ),
        pytest.param(
            {}, {1: 9.0, 2: math.nan, 3: math.nan, 4: 9.0}, id="some without an evaluation"
        ),
    ],
)
def test_a_run_stops_at_the_second_good_evaluation_in_a_row(
    so_far: Mapping[int, float], evaluated: Mapping[int, float]
) -> None:
    stop = ReturnStopper(plan(steps=10_000, stop_return=9.0), so_far)
    stopped = [stop("trial", result(1, value, each)) for each, value in evaluated.items()]
    assert stopped == [False] * (len(evaluated) - 1) + [True]


def test_an_evaluation_that_comes_again_after_a_failure_counts_once() -> None:
    stop = ReturnStopper(plan(steps=10_000, stop_return=9.0))
    iterations = [1, 2, 2, 3]  # from the checkpoint of the first
    values = [8.0, 9.0, 9.0, 9.0]
    stopped = [stop("trial", result(1, *each)) for each in zip(values, iterations, strict=True)]
    assert stopped == [False, False, False, True]


def failed_trial(folder: Path, error: Exception, saved: bool = True) -> Any:
    file = folder / "error.pkl"
    file.write_bytes(cloudpickle.dumps(error))
    return SimpleNamespace(
        pickled_error_file=str(file),
        max_failures=3,
        has_checkpoint=lambda: saved,
        run_metadata=SimpleNamespace(num_failures=1),
    )


def recover(trial: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """Has the callback decide, and returns the one line that it prints."""
    Recovery().on_trial_recover(1, [trial], trial)
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.splitlines()
    return line


def wrapped(cause: Exception) -> Exception:
    """What Tune has of an error that the learner raised in its process, and the trial in its."""
    for _ in range(2):
        cause = RayTaskError("method", f"Traceback: {cause}", cause).as_instanceof_cause()
    return cause


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The learner's process is gone"),
        ValueError("Expected parameter loc to satisfy the constraint Real()"),
        CheckpointFailed("The learner's state could not be saved or restored: disk full"),
        OSError("[Errno 28] No space left on device"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda error: error, wrapped], ids=["as it is", "wrapped"])
def test_a_failed_run_says_that_it_goes_on(
    error: Exception, wrap: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = failed_trial(tmp_path, wrap(error))
    line = recover(trial, capsys)
    assert trial.max_failures == 3
    assert f"({error}) and goes on from its last checkpoint" in line
    assert line.endswith("(1 of 3 failures).")


def test_a_run_that_fails_before_its_first_checkpoint_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = recover(failed_trial(tmp_path, OSError("disk full"), saved=False), capsys)
    assert "and goes on from where it began (1 of 3 failures)." in line


@pytest.mark.parametrize(
    "error",
    [DataRefused("The reward is NaN"), EnvironmentFailed("The environment failed 3 times")],
)
@pytest.mark.parametrize("wrap", [lambda error: error, wrapped], ids=["as it is", "wrapped"])
def test_bad_data_are_not_tried_a_third_time(
    error: Exception, wrap: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = failed_trial(tmp_path, wrap(error))
    line = recover(trial, capsys)
    assert trial.max_failures == 0
    assert f"({error})" in line
    assert "is tried once more, and its next failure" in line


@pytest.mark.parametrize(
    ("error", "most"), [(ValueError("replay_capacity is too large"), 0), (OSError("disk full"), 3)]
)
def test_settings_that_an_actor_cannot_be_made_with_are_not_tried_a_third_time(
    error: Exception, most: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = failed_trial(tmp_path, ActorDiedError(RayTaskError("__init__", "Traceback", error)))
    assert f"({error})" in recover(trial, capsys)
    assert trial.max_failures == most
