"""The learner is killed in every phase: Tune starts the trial again from its last checkpoint."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune

from rllib_ext.checkpoint_files import LEARNER_FOLDER
from tests.faults.gates import (
    ACCOUNT_FILE,
    LEARNER,
    PHASES,
    GatedConfig,
    GatedMnM,
    Gates,
    check_account,
    wait_until,
)
from tests.mnm.small_cases import SMALL
from tests.rllib_ext.small_configs import LINE, TINY, tiny_config
from tests.rllib_ext.whole_algorithms import built

STEPS = "num_env_steps_sampled_lifetime"
RATIO = 0.5


class Book(tune.Callback):
    """Keeps the accounts of the checkpoints that Tune has, and of the last one before a failure."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self.failed_after: list[dict[str, Any]] = []

    def on_checkpoint(self, checkpoint: Any, **info: Any) -> None:
        file = Path(checkpoint.path) / LEARNER_FOLDER / ACCOUNT_FILE
        self.saved.append(json.loads(file.read_text()))

    def on_trial_recover(self, **info: Any) -> None:
        self.failed_after.append(self.saved[-1])


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("local_ray")
def test_a_trial_goes_on_from_its_last_checkpoint_whenever_its_learner_is_killed(
    tmp_path: Path,
) -> None:
    """One trial, whose learner is killed in one phase after the other."""
    gates = Gates(tmp_path / "gates")
    gates.folder.mkdir()
    config = (
        GatedConfig()
        .environment(LINE)
        .env_runners(num_env_runners=1)
        .learners(num_learners=1)
        .training(
            **{**TINY, "replay_capacity": 100_000, "updates_to_data_ratio": RATIO},
            algo="mnm",
            num_rollout_workers=1,
        )
        .reporting(min_sample_timesteps_per_iteration=40)
        .debugging(seed=0)
    )
    config.gates = gates
    book, enough = Book(), tmp_path / "enough"
    tuner = tune.Tuner(
        GatedMnM,
        param_space=config,
        run_config=tune.RunConfig(
            name="killed",
            storage_path=str(tmp_path),
            stop=lambda trial, result: enough.exists(),
            callbacks=[book],
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, num_to_keep=2, checkpoint_at_end=True
            ),
            failure_config=tune.FailureConfig(max_failures=len(PHASES)),
            verbose=0,
        ),
    )

    def kill_in_every_phase() -> None:
        try:
            for kills, phase in enumerate(PHASES):
                wait_until(lambda n=kills: len(gates.restored()) == n, "it is restored")
                saved = len(book.saved)
                wait_until(lambda n=saved: len(book.saved) > n, "it is saved")
                gates.kill_in(phase, LEARNER)
        finally:
            enough.touch()

    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(kill_in_every_phase)
        (result,) = tuner.fit()
        kills.result()
    restored = gates.restored()
    assert len(restored) == len(PHASES)
    assert restored == book.failed_after, "replay, optimizers, counters or random states differ"
    for account in book.saved:
        check_account(account, SMALL["num_random_steps"], RATIO)
    lines = (Path(result.path) / "result.json").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    steps = [line[STEPS] for line in results]
    iterations = [line["training_iteration"] for line in results]
    starts = [i for i, line in enumerate(results) if line["iterations_since_restore"] == 1]
    assert len(starts) == len(PHASES) + 1
    for start, account in zip(starts[1:], restored, strict=True):
        earlier = iterations[:start].index(iterations[start] - 1)
        assert steps[earlier] <= account["env_steps"] < steps[start]
    assert book.saved[-1]["env_steps"] > restored[-1]["env_steps"]
    # The last checkpoint has the turn that the learner was at when the last result came.
    updates = result.metrics["num_updates_lifetime"]
    assert restored[-1]["updates"] < updates <= book.saved[-1]["updates"]
    assert "learner's process is gone" in (Path(result.path) / "error.txt").read_text()


@pytest.mark.usefixtures("local_ray")
def test_an_algorithm_without_its_learner_says_so_whatever_is_asked_of_it(tmp_path: Path) -> None:
    """In a notebook nobody restores it."""
    config = tiny_config("sac", num_env_runners=1, num_learners=1)
    with built(config) as algo:
        algo.train()
        saved = algo.save_to_path(tmp_path / "checkpoint")
        (learner,) = algo.learner_group._worker_manager.actors().values()
        ray.kill(learner)
        for ask in (
            algo.train,
            algo.train,
            lambda: algo.save_to_path(tmp_path / "other"),
            lambda: algo.restore_from_path(saved),
        ):
            with pytest.raises(RuntimeError, match="learner's process is gone"):
                ask()
