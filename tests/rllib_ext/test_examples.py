"""Tests of the examples: each runs whole, at a tiny size, as a user would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import torch
import typer
from typer.testing import CliRunner

from rllib_ext.examples import asha, grid_search, population_based_training, resume_tuner
from rllib_ext.examples.trials import EVALUATION_RETURN
from tests.rllib_ext.small_checkpoints import AGENT, REPLAY
from tests.rllib_ext.small_configs import LINE, TINY

STEPS = "num_env_steps_sampled_lifetime"
ROOT = Path(__file__).resolve().parents[2]
SET = [f"{name}={list(v) if isinstance(v, tuple) else v}" for name, v in TINY.items()]
INTERVAL = 40
KILL_TIMEOUT_S = 120.0


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
    assert f"best: algo={best.config['algo']}, seed={best.config['seed']}" in printed
    assert best.path in printed


@pytest.mark.usefixtures("local_ray")
def test_asha_stops_the_worse_trials_early(tmp_path: Path) -> None:
    results = asha.main(
        LINE,
        steps=240,
        interval=INTERVAL,
        samples=3,
        grace_period=60,
        concurrent=1,  # so that the order, and with it who is stopped, repeats
        set_=SET,
        storage=tmp_path,
    )
    assert not results.errors
    assert len({result.config["actor_lr"] for result in results}) == 3
    steps = sorted(result.metrics[STEPS] for result in results)
    assert 60 <= steps[0] < 240 <= steps[-1]


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


def test_a_killed_experiment_goes_on_from_its_last_checkpoints(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The whole driver is killed, its Ray with it; another process goes on."""
    steps = 1200
    killed = run_until_checkpoints_then_kill(
        tmp_path, env=LINE, steps=steps, interval=INTERVAL, seeds=1, set_=SET
    )
    request.getfixturevalue("local_ray")
    before = {path.parent.name: rows(path) for path in killed}
    results = resume_tuner.main(steps=steps, storage=tmp_path)
    assert not results.errors
    assert len(results) == len(before) == 1
    for result in results:
        lines = rows(Path(result.path) / "result.json")
        old = before[Path(result.path).name]
        assert lines[: len(old)] == old
        resumed = lines[len(old) :]
        assert resumed[0]["training_iteration"] > 1, "started anew"
        assert resumed[0]["iterations_since_restore"] == 1
        # The step before the first new one is one that had been made before the kill.
        last = next(
            line
            for line in old
            if line["training_iteration"] == resumed[0]["training_iteration"] - 1
        )
        assert last[STEPS] < resumed[0][STEPS] <= last[STEPS] + 2 * INTERVAL
        assert resumed[-1][STEPS] >= steps
        assert resumed[-1]["updates_to_data_ratio"] == pytest.approx(1.0, abs=0.05)
        manifest = json.loads((Path(result.checkpoint.path) / REPLAY / "manifest.json").read_text())
        trained = result.metrics["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"]
        assert manifest["real"]["total"] == trained
        assert trained >= steps


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


def rows(file: Path) -> list[dict[str, Any]]:
    """The results in a trial's `result.json`, without a line that was cut by the kill."""
    lines = []
    for line in file.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def run_until_checkpoints_then_kill(storage: Path, **options: Any) -> list[Path]:
    """Runs `resume_tuner` in a process with its own Ray, and kills it between two results.

    Returns:
        The `result.json` of each trial.
    """
    code = (
        "import ray; ray.init(address='local', num_cpus=2, include_dashboard=False, "
        "object_store_memory=100_000_000, _node_ip_address='127.0.0.1'); "
        "from pathlib import Path; from rllib_ext.examples import resume_tuner; "
        f"resume_tuner.main(storage=Path({str(storage)!r}), **{options!r})"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    log = storage / "killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=storage,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while True:
            files = list(storage.glob(f"{resume_tuner.NAME}/MnM*/result.json"))
            if files and all(len(rows(file)) >= 4 for file in files):
                break
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        for orphan in alive:
            orphan.kill()
    return files
