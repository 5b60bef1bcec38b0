"""Collectors and rollout workers are killed in every phase: the run goes on, its books balance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from rllib_ext.checkpoint_files import checkpoint_fault
from tests.faults.gates import (
    COLLECTOR,
    PHASES,
    WORKER,
    GatedConfig,
    GatedMnM,
    Gates,
    account,
    check_account,
    check_ledger,
)
from tests.mnm.small_cases import SMALL
from tests.rllib_ext.small_configs import LINE, TINY
from tests.rllib_ext.whole_algorithms import ask_learner, built

pytestmark = pytest.mark.usefixtures("local_ray")

RATIO = 0.5
ITERATIONS = 3000  # of a few milliseconds each, before a run that does not get there is given up


@pytest.fixture(scope="module")
def algo(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedMnM]:
    """One run for all kills: two collectors, a rollout worker and a learner as actors."""
    config = (
        GatedConfig()
        .environment(LINE)
        .env_runners(num_env_runners=2)
        .learners(num_learners=1)
        .training(
            **{**TINY, "replay_capacity": 100_000, "updates_to_data_ratio": RATIO},
            algo="mnm",
            num_rollout_workers=1,
        )
        .reporting(min_sample_timesteps_per_iteration=40)
        .debugging(seed=0)
    )
    config.gates = Gates(tmp_path_factory.mktemp("gates"))
    with built(config) as made:
        yield made


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("victim", [COLLECTOR, WORKER])
def test_the_run_goes_on_and_its_books_balance(
    algo: GatedMnM, victim: str, phase: str, tmp_path: Path
) -> None:
    before = replace(algo.coordinator.counts)
    with algo.config.gates.killing_in(phase, victim) as killed:
        if phase == "checkpointing":
            while not killed():
                algo.save_to_path(tmp_path)
            assert checkpoint_fault(LocalFileSystem(), str(tmp_path)) is None
        train_until(algo, lambda result: killed())
    came_back = before.worker_restarts + 1
    result = train_until(algo, lambda result: result["worker_restarts"] >= came_back)
    wanted = result["num_env_steps_sampled_lifetime"] + 200
    train_until(algo, lambda result: result["num_env_steps_sampled_lifetime"] >= wanted)
    check_ledger(algo)
    check_account(ask_learner(algo, account), SMALL["num_random_steps"], RATIO)
    counts = algo.coordinator.counts
    assert counts.worker_restarts == came_back
    assert counts.worker_failures == before.worker_failures + (victim == COLLECTOR)
    if (victim, phase) == (COLLECTOR, "collecting"):
        assert counts.steps_lost > before.steps_lost
    if victim == WORKER:
        assert counts.steps_lost == before.steps_lost
        imagined = result["num_synthetic_transitions_lifetime"]
        train_until(algo, lambda result: result["num_synthetic_transitions_lifetime"] > imagined)
    assert counts.weight_lag_max <= algo.config.resolved_max_weight_lag()


def train_until(algo: GatedMnM, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Trains iteration by iteration; returns the result that met the condition."""
    for _ in range(ITERATIONS):
        result = algo.train()
        if met(result):
            return result
    raise AssertionError(f"Not met after {ITERATIONS} iterations.")


@pytest.mark.parametrize("victim", [COLLECTOR, WORKER])
def test_a_run_that_nobody_comes_back_to_ends(victim: str, tmp_path: Path) -> None:
    config = (
        GatedConfig()
        .environment(LINE)
        .env_runners(num_env_runners=1)
        .learners(num_learners=1)
        .training(**TINY, algo="mbpo", num_rollout_workers=1)
        .reporting(min_sample_timesteps_per_iteration=40)
        .fault_tolerance(restart_failed_env_runners=False)
    )
    config.gates = Gates(tmp_path)
    group = "collectors" if victim == COLLECTOR else "rollout workers"
    with built(config) as made:
        imagined = "num_synthetic_transitions_lifetime"
        train_until(made, lambda result: result[imagined] > 0)  # all actors run
        config.gates.kill(victim)
        with pytest.raises(RuntimeError, match=f"All {group} are dead and Ray restarts none"):
            train_until(made, lambda result: False)
        # What was learned is not lost.
        made.save_to_path(tmp_path / "checkpoint")
        assert checkpoint_fault(LocalFileSystem(), str(tmp_path / "checkpoint")) is None
