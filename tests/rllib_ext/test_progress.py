"""Tests of what a run shows: plain lines for a file or a pipe, a live panel on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from rllib_ext import progress
from rllib_ext.progress import ProgressDisplay


def result(steps: int, updates: int = 0, **figures: float) -> dict[str, Any]:
    """An iteration's result as RLlib names it."""
    return {
        "num_env_steps_sampled_lifetime": float(steps),
        "num_updates_lifetime": updates,
        "weight_lag_max": 20,
        "env_runners": {"episode_return_mean": figures.get("training", float("nan"))},
        "evaluation": {"env_runners": {"episode_return_mean": figures.get("evaluation", 1.5)}},
        "learners": {
            "default_policy": {
                "model_holdout_rmse": figures.get("rmse", float("nan")),
                "classifier_accuracy": figures.get("accuracy", float("nan")),
            }
        },
    }


def shown(monkeypatch: pytest.MonkeyPatch, results: list[dict[str, Any]], terminal: bool) -> str:
    """What a display of `results` writes."""
    out = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda: Console(file=out, force_terminal=terminal, width=100)
    )
    display = ProgressDisplay("mnm on Line-v0, seed 0", 300)
    display.setup()
    for iteration, each in enumerate(results):
        display.on_trial_result(iteration, [], None, each)
    display.on_experiment_end([])
    display.stop()
    return out.getvalue()


def test_off_a_terminal_there_is_one_plain_line_an_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(
        monkeypatch,
        [
            result(100, 0, training=3.0),
            result(200, 100, training=4.0, evaluation=9.25, rmse=0.125, accuracy=0.75),
        ],
        terminal=False,
    )
    lines = text.splitlines()
    assert "\x1b" not in text
    assert lines[0] == "mnm on Line-v0, seed 0: 300 steps"
    assert len(lines) == 3
    assert lines[1].startswith("steps 100  return 1.5  training return 3.0")
    for part in (
        "steps 200",
        "return 9.2",
        "training return 4.0",
        "updates/s ",
        "model error 0.125",
        "classifier accuracy 0.75",
        "weight lag 20",
        "time left ",
    ):
        assert part in lines[2]


def test_what_is_not_known_yet_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {"num_env_steps_sampled_lifetime": 10.0}
    last = shown(monkeypatch, [bare], terminal=False).splitlines()[-1]
    assert last.startswith("steps 10")
    assert "nan" not in last
    assert "model error" not in last
    assert "classifier" not in last


def test_a_run_that_goes_on_from_a_checkpoint_has_no_negative_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(monkeypatch, [result(200, 100), result(150, 50)], terminal=False)
    assert "updates/s" not in text


def test_on_a_terminal_there_is_a_live_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(
        monkeypatch,
        [result(100), result(200, 100, evaluation=9.25, rmse=0.125, accuracy=0.75)],
        terminal=True,
    )
    assert "\x1b[" in text
    for part in ("mnm on Line-v0, seed 0", "200/300 steps", "67%", "9.2", "0.125", "0.75"):
        assert part in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") >= 1  # the cursor comes back


def test_stopping_twice_or_before_the_start_does_no_harm() -> None:
    display = ProgressDisplay("title", 10)
    display.stop()
    display.stop()
    assert display._live is None
