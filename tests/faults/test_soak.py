"""A soak: twenty kills spread at random over a run, which learns its task all the same."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rllib_ext.tuned import tuned_settings
from tests.faults.gates import (
    COLLECTOR,
    WORKER,
    GatedConfig,
    GatedMnM,
    Gates,
    account,
    check_account,
    check_ledger,
)
from tests.rllib_ext.whole_algorithms import ask_learner, built

ACTORS = (COLLECTOR, "collector 2", WORKER)
ENV = "InvertedPendulum-v5"
KILLS = 20
STEPS_OF_KILLS = 1600  # real steps over which they are spread
MOST_STEPS = 5000
RETURN = 950.0  # of at most 1,000, as the mean of ten deterministic episodes


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("local_ray")
def test_twenty_kills_change_neither_the_books_nor_what_is_learned(tmp_path: Path) -> None:
    settings = tuned_settings(ENV, "mnm")
    config = (
        GatedConfig()
        .environment(ENV)
        .env_runners(num_env_runners=2)
        .learners(num_learners=1)
        .training(algo="mnm", num_rollout_workers=1, **settings)
        .evaluation(evaluation_interval=1, evaluation_duration=10)
        .reporting(min_sample_timesteps_per_iteration=250)
        .debugging(seed=0)
    )
    config.gates = Gates(tmp_path)
    returns = []
    with built(config) as algo, ThreadPoolExecutor(1) as thread:
        over = threading.Event()
        kills = thread.submit(kill_at_random, algo, over)
        try:
            steps = 0
            while (
                not kills.done()
                or steps < STEPS_OF_KILLS
                or (max(returns, default=0.0) < RETURN and steps < MOST_STEPS)
            ):
                result = algo.train()
                steps = result["num_env_steps_sampled_lifetime"]
                returns.append(result["evaluation"]["env_runners"]["episode_return_mean"])
        finally:
            over.set()
        killed = kills.result()
        assert len(killed) == KILLS
        assert max(returns) >= RETURN
        check_ledger(algo)
        ratio = settings["updates_to_data_ratio"]
        check_account(ask_learner(algo, account), settings["num_random_steps"], ratio)
        counts = algo.coordinator.counts
        # Fewer than kills: some come before the driver has seen the victim back from the last one.
        assert 1 <= counts.worker_failures <= KILLS
        assert 1 <= counts.worker_restarts <= KILLS
        assert counts.weight_lag_max <= config.resolved_max_weight_lag()


def kill_at_random(algo: GatedMnM, over: threading.Event) -> list[str]:
    """Kills collectors and the rollout worker at random moments of the run, until it is over.

    Returns:
        Who was killed.
    """
    gates, generator = algo.config.gates, random.Random(0)
    moments = sorted(generator.sample(range(100, STEPS_OF_KILLS), KILLS))
    killed: list[str] = []
    for moment in moments:
        while algo.coordinator.counts.steps_returned < moment:
            if over.wait(0.01):
                return killed
        while not (running := [actor for actor in ACTORS if gates.process(actor)]):
            if over.wait(0.01):
                return killed
        actor = generator.choice(running)
        gates.kill(actor)
        killed.append(actor)
    return killed
