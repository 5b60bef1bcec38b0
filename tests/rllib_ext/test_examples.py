"""Tests of the examples: each runs whole, at a tiny size, as a user would run it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
from typer.testing import CliRunner

from rllib_ext.examples import asha, grid_search, population_based_training, resume_tuner
from rllib_ext.examples.trials import EVALUATION_RETURN, run_script
from tests.rllib_ext.small_checkpoints import AGENT
from tests.rllib_ext.small_configs import LINE, TINY

STEPS = "num_env_steps_sampled_lifetime"
SET = [f"{name}={list(v) if isinstance(v, tuple) else v}" for name, v in TINY.items()]
INTERVAL = 40


@pytest.mark.parametrize("example", [asha, grid_search, population_based_training, resume_tuner])
def test_bad_input_ends_in_one_sentence(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["example", "--set", "gamma"])
    with pytest.raises(SystemExit) as ended:
        run_script(example.main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "--set gamma is not valid: write NAME=VALUE.\n"


@pytest.mark.usefixtures("local_ray")
def test_grid_search_trains_every_algorithm_with_every_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = grid_search.main(
        LINE, steps=80, interval=INTERVAL, algorithms="sac,mnm", seeds=2, set_=SET, storage=tmp_path
    )
    assert not results.errors
    tried = sorted((result.config["algo"], result.config["seed"]) for result in results)
    assert tried == [("mnm", 0), ("mnm", 1), ("sac", 0), ("sac", 1)]
    for result in results:
        assert result.metrics[STEPS] >= 80
        has_model = result.metrics["num_synthetic_transitions_lifetime"] > 0
        assert has_model == (result.config["algo"] == "mnm")
    best = results.get_best_result(EVALUATION_RETURN, "max")
    printed = capsys.readouterr().out
    assert f"best trial: algo={best.config['algo']}, seed={best.config['seed']}" in printed
    assert best.path in printed
    frames = {(r.config["algo"], r.config["seed"]): r.metrics_dataframe for r in results}
    returns = {trial: frame[EVALUATION_RETURN].iloc[-1] for trial, frame in frames.items()}
    for algo in ("sac", "mnm"):
        mean = (returns[algo, 0] + returns[algo, 1]) / 2
        assert f"algo={algo}: mean return {mean:.1f} of 2 trials" in printed


@pytest.mark.usefixtures("local_ray")
def test_asha_stops_the_worse_trials_early(tmp_path: Path) -> None:
    results = asha.main(
        "tests.line_tasks:Fading-v0",
        steps=240,
        interval=INTERVAL,
        samples=3,
        grace_period=60,
        concurrent=1,  # one after the other, so that every trial is worse than those before it
        set_=SET,
        storage=tmp_path,
    )
    assert not results.errors
    assert len({result.config["actor_lr"] for result in results}) == 3
    first, second, third = (result.metrics[STEPS] for result in results)
    assert first >= 240
    assert 60 <= second < 120
    assert 60 <= third < 120


@pytest.mark.usefixtures("local_ray")
def test_population_based_training_clones_the_better_trial_with_mutated_settings(
    tmp_path: Path,
) -> None:
    results = population_based_training.main(
        LINE,
        steps=160,
        interval=INTERVAL,
        population=2,
        perturbation_interval=80,
        set_=SET,
        storage=tmp_path,
    )
    assert not results.errors
    assert len(results) == 2
    for result in results:
        assert result.metrics[STEPS] >= 160
        assert result.metrics["updates_to_data_ratio"] == pytest.approx(1.0, abs=0.05)
    exchanges = (tmp_path / "population_based_training" / "pbt_global.txt").read_text()
    (exchange, *_) = [json.loads(line) for line in exchanges.splitlines()]
    old, new = exchange[-2:]
    changed = [n for n in population_based_training.MUTATIONS if old[n] != new[n]]
    assert changed
    (clone,) = [
        result
        for result in results
        if all(result.config[n] == new[n] for n in population_based_training.MUTATIONS)
    ]
    optimizers = torch.load(Path(clone.checkpoint.path) / AGENT, weights_only=True)["optimizers"]
    assert optimizers["policy"]["param_groups"][0]["lr"] == clone.config["actor_lr"]
    assert optimizers["critics"]["param_groups"][0]["lr"] == clone.config["critic_lr"]


@pytest.mark.parametrize(
    "example",
    [grid_search, asha, population_based_training, resume_tuner],
    ids=lambda m: m.__name__,
)
def test_an_example_is_a_script_with_help(example: ModuleType) -> None:
    app = typer.Typer()
    app.command()(example.main)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert all(option in shown.output for option in ("--env", "--steps", "--set", "--storage"))
    module = f"python -m {example.__name__}"
    assert module in (example.__doc__ or "")
