"""Tests of MnM as an RLlib Algorithm with two runners, a remote learner and a rollout worker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from mnm import Transitions
from rllib_ext import MnM
from rllib_ext.errors import CheckpointFailed
from tests.mnm.small_cases import assert_same_rows, same_tensors
from tests.rllib_ext.small_checkpoints import AGENT, overwrite
from tests.rllib_ext.small_configs import evaluating, tiny_config
from tests.rllib_ext.whole_algorithms import (
    built,
    check_result,
    replay_of,
    save_trained,
    steps_trained,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="module")
def saved(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A checkpoint made without actors and what it was made of."""
    return save_trained(tmp_path_factory.mktemp("saved") / "checkpoint")


@pytest.fixture(scope="module")
def remote(local_ray: None) -> Iterator[tuple[MnM, list[dict[str, Any]]]]:
    """The algorithm and its results until the pool's first transitions have come in."""
    config = tiny_config("mnm", num_env_runners=2, num_learners=1, num_rollout_workers=1)
    with built(evaluating(config)) as algo:
        results = [algo.train(), algo.train()]
        while not results[-1]["num_synthetic_transitions_lifetime"] and len(results) < 12:
            results.append(algo.train())
        yield algo, results


Remote = tuple[MnM, list[dict[str, Any]]]


def test_it_trains_with_remote_actors(remote: Remote) -> None:
    algo, results = remote
    check_result(results[-1], ratio=1.0)
    assert results[-1]["num_synthetic_transitions_lifetime"] > 0
    steps = [result["num_env_steps_sampled_lifetime"] for result in results]
    assert steps == sorted(set(steps))
    assert results[-1]["worker_failures"] == 0
    # The learner may have been at its next turn when the last result came.
    algo.coordinator.finish_learning()
    assert len(replay_of(algo)) == algo.coordinator.latest.env_steps >= steps_trained(results[-1])
    collectors = {int(i) >> 40 for i in np.unique(replay_of(algo).episode_ids)}
    assert collectors == {1, 2}


def test_no_row_and_no_weight_crosses_the_driver(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver fetches of collectors, learner and pool are references and small figures."""
    algo, _ = remote
    coordinator = algo.coordinator
    fetched: list[Any] = []
    plain_get = ray.get

    def noting_get(what: Any, **options: Any) -> Any:
        value = plain_get(what, **options)
        fetched.append(value)
        return value

    monkeypatch.setattr(ray, "get", noting_get)
    before = coordinator.counts.steps_returned
    for _ in range(6):
        algo.training_step()
        waiting = coordinator.collectors.waiting
        assert all(isinstance(batch.reference, ray.ObjectRef) for batch in waiting)
    monkeypatch.undo()
    assert coordinator.counts.steps_returned > before
    parts = [part for value in fetched for part in walk(value)]
    assert len(parts) > 20
    assert any(isinstance(part, ray.ObjectRef) for part in parts)
    rows = pa.RecordBatch, pa.Table, Transitions, torch.Tensor
    assert not [part for part in parts if isinstance(part, rows)]
    assert all(part.size <= 1 for part in parts if isinstance(part, np.ndarray))


def walk(value: Any) -> Iterator[Any]:
    """A value and all that it holds."""
    yield value
    if isinstance(value, dict):
        for part in value.values():
            yield from walk(part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from walk(part)
    elif hasattr(value, "__dict__"):
        yield from walk(vars(value))


def test_a_turn_is_one_call_of_the_learner(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    algo, _ = remote
    manager = algo.learner_group._worker_manager
    calls: list[str] = []
    plain = manager.foreach_actor_async

    def noting(func: Any, *arguments: Any, **options: Any) -> int:
        calls.append(func.__name__)
        return plain(func, *arguments, **options)

    monkeypatch.setattr(manager, "foreach_actor_async", noting)
    monkeypatch.setattr(manager, "foreach_actor", lambda *arguments, **options: calls.append("?"))
    versions = []
    for _ in range(5):
        algo.training_step()
        versions.append(algo.coordinator.latest.version)
    monkeypatch.undo()
    assert versions == list(range(versions[0], versions[0] + 5))
    # The first call may have gone out before; the last may still be under way.
    assert set(calls) == {"take_turn"}
    assert 4 <= len(calls) <= 6


def test_runners_act_with_the_published_weights(remote: Remote) -> None:
    algo, _ = remote
    own = {n: v for n, v in weights_of(algo).items() if n.startswith("policy.")}
    module = algo.get_module().policy.state_dict()
    assert all(torch.equal(own[f"policy.{name}"], value) for name, value in module.items())
    assert algo.get_module().inference_only


def test_a_restore_may_have_another_number_of_actors(remote: Remote, tmp_path: Path) -> None:
    algo, _ = remote
    algo.save_to_path(tmp_path / "checkpoint")
    weights, rows = weights_of(algo), replay_of(algo)
    config = evaluating(tiny_config("mnm", num_env_runners=1, num_learners=1))
    restored = MnM.from_checkpoint(str(tmp_path / "checkpoint"), config=config)
    try:
        assert restored.env_runner_group.num_healthy_remote_workers() == 1
        assert restored.pool is None
        assert same_tensors(weights_of(restored), weights)
        assert_same_rows(replay_of(restored), rows)
        iteration = algo.iteration
        after = restored.train()
        assert after["training_iteration"] == iteration + 1
        # An iteration ends at a multiple of its interval: this one may have been short.
        assert after["num_env_steps_sampled_lifetime"] > len(rows)
        check_result(after, ratio=1.0)
    finally:
        restored.stop()


def test_a_remote_learner_refuses_what_does_not_fit_and_can_be_used_again(
    remote: Remote, saved: dict[str, Any], tmp_path: Path
) -> None:
    algo, _ = remote
    copy = tmp_path / "copy"
    shutil.copytree(saved["path"], copy)
    task = json.loads((copy / "task.json").read_text())
    (copy / "task.json").write_text(json.dumps({**task, "algo": "mbpo"}))
    with pytest.raises(ValueError, match="algo='mbpo', this algorithm has algo='mnm'"):
        algo.restore_from_path(str(copy))
    check_result(algo.train(), ratio=1.0)
    overwrite(copy / AGENT)
    (copy / "task.json").write_text(json.dumps(task))
    with pytest.raises(CheckpointFailed, match=r"could not be .* restored"):
        algo.restore_from_path(str(copy))
    before = algo.coordinator.counts.steps_returned
    for _ in range(8):
        algo.training_step()
    assert algo.coordinator.counts.steps_returned > before, "the flow stands still"
    algo.restore_from_path(str(saved["path"]))
    assert same_tensors(weights_of(algo), saved["weights"])
    check_result(algo.train(), ratio=1.0)


def test_a_state_is_taken_and_set_while_the_learner_rests(remote: Remote) -> None:
    """Between two calls of `train` it is at its next turn."""
    algo, _ = remote
    algo.train()
    state = algo.get_state()
    counters = state["learner_group"]["learner"]["agent"]["counters"]
    assert state["flow"]["counts"]["steps_returned"] >= counters["env_steps"]
    assert algo._reporting.env_steps == counters["env_steps"]
    for _ in range(3):
        algo.train()
    algo.coordinator.adapt()
    for imagines in (True, False):
        state["flow"]["imagines"] = imagines
        algo.set_state(state)
        assert algo.coordinator.latest.env_steps == counters["env_steps"]
        assert not algo.coordinator._learning.at_work
        # A request that the pool had is asked again; else none is due.
        assert algo.coordinator.imagines is imagines


def test_a_driver_that_collects_and_learns_trains_on_what_the_pool_imagined() -> None:
    """The defaults of RLlib, and a rollout worker beside them."""
    with built(evaluating(tiny_config("mbpo", num_rollout_workers=1))) as algo:
        # More steps than the lag allows before the worker, however slow to start, has answered.
        results = [algo.train() for _ in range(12)]
        check_result(results[-1], ratio=1.0)
        assert results[-1]["num_synthetic_transitions_lifetime"] > 0
