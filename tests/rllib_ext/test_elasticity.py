"""Tests of actors that come, die and go while a whole algorithm runs, and between save and restore.

The rule is scripted; everything else is real.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from distributed.elasticity import ElasticActors
from rllib_ext import MnM, MnMConfig
from tests.distributed.scripted_flow import ScriptedRule
from tests.mnm.small_cases import SMALL, assert_same_rows
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import built, replay_of

pytestmark = pytest.mark.usefixtures("local_ray")

PATIENCE_S = 120.0


def elastic_config() -> MnMConfig:
    """One runner and one rollout worker, two of each at the most."""
    config = tiny_config(
        num_env_runners=1, num_learners=1, num_rollout_workers=1, max_num_rollout_workers=2
    )
    return config.env_runners(max_num_env_runners=2)


def script_rules(algo: MnM) -> None:
    for group in (runners_of(algo), workers_of(algo)):
        group.rule = ScriptedRule()  # type: ignore[assignment]


def runners_of(algo: MnM) -> ElasticActors:
    group = algo.coordinator.collectors.elastic
    assert group is not None
    return group


def workers_of(algo: MnM) -> ElasticActors:
    assert algo.pool is not None
    assert algo.pool.elastic is not None
    return algo.pool.elastic


def wish(group: ElasticActors, change: int) -> None:
    group.rule.change = change  # type: ignore[attr-defined]


def train_until(algo: MnM, condition: Callable[[], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        result = algo.train()
        if condition():
            return result
        assert time.monotonic() < deadline, "it did not happen"


def size_is(group: ElasticActors, size: int) -> Callable[[], bool]:
    return lambda: group.manager.num_actors() == group.manager.num_healthy_actors() == size


def check_books(algo: MnM) -> None:
    """Every step that was asked for is accounted for, and the ratio is exact."""
    algo.coordinator.finish_learning()
    counts, latest = algo.coordinator.counts, algo.coordinator.latest
    under_way = algo.coordinator.collectors.steps_open
    assert counts.steps_requested == counts.steps_returned + counts.steps_lost + under_way
    waiting = sum(batch.steps for batch in algo.coordinator.collectors.waiting)
    assert counts.steps_returned == latest.env_steps + waiting
    assert latest.updates == latest.env_steps - SMALL["num_random_steps"] > 0
    assert counts.weight_lag_max <= algo.config.resolved_max_weight_lag()


def makers(algo: MnM) -> set[int]:
    """Indices of the runners whose rows are in the replay."""
    return {int(episode) >> 40 for episode in np.unique(replay_of(algo).episode_ids)}


@ray.remote(num_cpus=1, max_retries=0)
def grow_both() -> dict[str, int]:
    """As under Tune: every child would be put into the placement group."""
    with built(elastic_config()) as algo:
        script_rules(algo)
        wish(runners_of(algo), 1)
        wish(workers_of(algo), 1)
        train_until(algo, lambda: size_is(runners_of(algo), 2)() and size_is(workers_of(algo), 2)())
        return algo.coordinator.actor_counts()


def test_under_tune_they_run_outside_what_the_trial_reserved() -> None:
    bundles = MnM.default_resource_request(elastic_config()).bundles
    assert len(bundles) == 4
    group = placement_group(bundles)
    inside = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    try:
        counts = ray.get(grow_both.options(scheduling_strategy=inside).remote())
    finally:
        remove_placement_group(group)
    assert counts["num_healthy_collectors"] == counts["num_healthy_rollout_workers"] == 2


@pytest.fixture(scope="module")
def algo(local_ray: None) -> Iterator[MnM]:
    with built(elastic_config()) as algo:
        script_rules(algo)
        yield algo


def test_one_that_finds_no_place_is_not_waited_for(algo: MnM) -> None:
    free = ray.cluster_resources()["CPU"] - 3  # runner, learner and rollout worker
    deadline = time.monotonic() + PATIENCE_S
    while ray.available_resources()["CPU"] != free:  # Ray learns late of what came and went
        assert time.monotonic() < deadline
        time.sleep(0.1)
    rest = placement_group([{"CPU": free}])
    ray.get(rest.ready())
    try:
        group = runners_of(algo)
        wish(group, 1)
        results = [algo.train() for _ in range(4)]
        assert results[-1]["num_pending_collectors"] == 1
        assert results[-1]["num_healthy_collectors"] == 1
        assert results[-1]["num_env_steps_sampled_lifetime"] >= 160
        (actor, _) = group._pending[0]
        wish(group, -1)
        algo.train()
        assert algo.coordinator.actor_counts()["num_pending_collectors"] == 0
        with pytest.raises(RayActorError):
            ray.get(actor.ping.remote(), timeout=60)
    finally:
        remove_placement_group(rest)
    check_books(algo)


def test_a_runner_joins_dies_and_leaves_while_training_goes_on(algo: MnM) -> None:
    group = runners_of(algo)
    wish(group, 1)
    result = train_until(algo, size_is(group, 2))
    assert result["num_healthy_collectors"] == 2
    number = group._started
    train_until(algo, lambda: makers(algo) == {1, number})
    check_books(algo)
    failures = algo.coordinator.counts.worker_failures
    victim = group.manager.actors()[max(group.manager.actor_ids())]
    os.kill(ray.get(victim.apply.remote(lambda runner: os.getpid())), signal.SIGKILL)
    result = train_until(algo, size_is(group, 1))
    assert algo.coordinator.counts.worker_failures == failures + 1
    assert result["num_healthy_collectors"] == 1
    check_books(algo)
    wish(group, 1)
    train_until(algo, size_is(group, 2))
    train_until(algo, lambda: group._started in makers(algo))
    lost = algo.coordinator.counts.steps_lost
    wish(group, -1)
    train_until(algo, size_is(group, 1))
    algo.train()
    assert algo.coordinator.counts.steps_lost == lost, "what it had made is not lost"
    check_books(algo)


def test_a_rollout_worker_joins_and_leaves(algo: MnM) -> None:
    group, asked = workers_of(algo), set()
    wish(group, 1)
    train_until(algo, size_is(group, 2))
    extra = max(group.manager.actor_ids())

    def extra_has_worked() -> bool:
        asked.update(algo.pool._running)
        return extra in asked

    train_until(algo, extra_has_worked)
    assert algo.pool.size == 2
    wish(group, -1)
    result = train_until(algo, size_is(group, 1))
    assert result["num_healthy_rollout_workers"] == 1
    before = result["num_synthetic_transitions_lifetime"]
    train_until(algo, lambda: algo.coordinator.latest.synthetic_transitions > before)
    check_books(algo)


@pytest.mark.parametrize(("runners", "learners", "workers"), [(1, 1, 2), (0, 0, 0)])
def test_a_checkpoint_of_a_grown_run_is_restored_with_other_actors(
    algo: MnM, tmp_path: Path, runners: int, learners: int, workers: int
) -> None:
    wish(runners_of(algo), 1)
    train_until(algo, size_is(runners_of(algo), 2))
    algo.save_to_path(tmp_path / "checkpoint")
    rows, iteration = replay_of(algo), algo.iteration
    config = tiny_config(
        num_env_runners=runners, num_learners=learners, num_rollout_workers=workers
    )
    restored = MnM.from_checkpoint(str(tmp_path / "checkpoint"), config=config)
    try:
        assert_same_rows(replay_of(restored), rows)
        results = [restored.train() for _ in range(2)]
        assert results[-1]["training_iteration"] == iteration + 2
        assert results[-1]["num_healthy_collectors"] == runners
        assert results[-1]["num_healthy_rollout_workers"] == workers
        synthetic = results[0]["num_synthetic_transitions_lifetime"]
        train_until(restored, lambda: restored.coordinator.latest.synthetic_transitions > synthetic)
        check_books(restored)
    finally:
        restored.stop()
    check_books(algo)
