"""Tests of the learner's turn: what it ingests, does, publishes, cuts into parts and loses."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, OwnerDiedError

from distributed import learner_core
from distributed.learner_core import LearnerCore, cut_rollout_request
from distributed.wire import to_arrow
from mnm import DataRefused, RolloutRequest, Transitions
from mnm.policy import numpy_weights
from mnm.updates import ASK_EVERY
from tests.mnm.small_cases import random_transitions, small_agent

pytestmark = pytest.mark.usefixtures("local_ray")


def put(first: int, count: int) -> Any:
    """A reference to `count` rows, the first of which is row `first` of the run."""
    return ray.put(to_arrow(random_transitions(count, first=first)))


def put_all(counts: list[int]) -> list[Any]:
    return [put(sum(counts[:i]), count) for i, count in enumerate(counts)]


def test_a_turn_ingests_every_reference_in_order() -> None:
    core = LearnerCore(small_agent("sac"))
    counts = [7, 1, 12]
    report = core.turn(put_all(counts), [])
    assert report.env_steps == 20
    kept = core.agent.replay.transitions()
    whole = Transitions.concatenate(
        [random_transitions(count, first=sum(counts[:i])) for i, count in enumerate(counts)]
    )
    np.testing.assert_array_equal(kept.observations, whole.observations)
    np.testing.assert_array_equal(kept.episode_ids, whole.episode_ids)
    np.testing.assert_array_equal(kept.truncateds, whole.truncateds)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_the_updates_to_data_ratio_is_exact_after_every_turn(ratio: float) -> None:
    core = LearnerCore(small_agent("sac", updates_to_data_ratio=ratio, num_random_steps=20))
    steps = 0
    for count in (10, 5, 9, 1, 1, 10, 4):
        report = core.turn([put(steps, count)], [])
        steps += count
        assert report.updates == int(ratio * max(0, steps - 20))
    assert core.turn([], []).updates == int(ratio * (steps - 20))


def test_a_turn_that_is_asked_to_stop_leaves_its_updates_to_the_next() -> None:
    stopping = True
    core = LearnerCore(small_agent("sac", num_random_steps=0), should_stop=lambda: stopping)
    assert core.turn([put(0, 50)], []).updates == ASK_EVERY
    stopping = False
    assert core.turn([], []).updates == 50


def test_every_turn_publishes_the_weights_under_a_new_version() -> None:
    core = LearnerCore(small_agent("sac"))
    reports = [core.turn([put(0, 15)], []), core.turn([put(15, 15)], [])]
    assert [report.version for report in reports] == [1, 2]
    before, after = (ray.get(report.policy) for report in reports)
    present = numpy_weights(core.agent.networks.policy)
    for name, value in present.items():
        np.testing.assert_array_equal(after[name], value)
    assert not np.array_equal(before["layers.0.weight"], after["layers.0.weight"])


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_are_put_once_a_turn(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy always; the model only where somebody outside has to imagine."""
    core = LearnerCore(small_agent("mbpo"), workers)
    puts: list[Any] = []
    plain_put = ray.put
    references = put_all([20, 20])

    def counting_put(value: Any) -> Any:
        puts.append(value)
        return plain_put(value)

    monkeypatch.setattr(learner_core.ray, "put", counting_put)
    report = core.turn(references, [])
    policies = [value for value in puts if isinstance(value, dict) and "action_center" in value]
    models = [value for value in puts if isinstance(value, dict) and "action_center" not in value]
    requests = [value for value in puts if isinstance(value, RolloutRequest)]
    assert len(policies) == 1
    assert len(models) == (1 if workers else 0)
    assert len(requests) == len(report.rollout_requests) == workers
    assert len(puts) == len(policies) + len(models) + len(requests)
    assert (report.model is not None) == bool(workers)


def test_without_workers_the_learner_imagines_what_is_due() -> None:
    core = LearnerCore(small_agent("mbpo"), 0)
    report = core.turn([put(0, 20)], [])
    # rollouts_per_step x rollout_interval rows of 2 steps each, no task end imagined.
    assert report.synthetic_transitions == 3 * 10 * 2
    assert report.rollout_requests == []


def test_with_workers_the_parts_of_a_request_are_the_whole() -> None:
    inline, outside = small_agent("mbpo"), small_agent("mbpo")
    for agent in (inline, outside):
        agent.ingest(random_transitions(30))
    inline.fit_if_due()
    whole = inline.rollout_request()
    assert whole is not None
    report = LearnerCore(outside, 4).turn([], [])
    parts = ray.get(report.rollout_requests)
    assert len(parts) == 4
    np.testing.assert_array_equal(
        np.concatenate([part.start_observations for part in parts]), whole.start_observations
    )
    assert {part.length for part in parts} == {whole.length}
    assert len({part.seed for part in parts}) == 4
    assert outside.synthetic_transitions == 0


def test_a_turn_may_say_into_how_many_parts_requests_are_cut() -> None:
    core = LearnerCore(small_agent("mbpo"), 1)
    assert len(core.turn([put(0, 30)], [], rollout_parts=3).rollout_requests) == 3
    assert len(core.turn([put(30, 10)], []).rollout_requests) == 3


@pytest.mark.parametrize(
    ("rows", "parts", "sizes"),
    [
        (10, 1, [10]),
        (10, 3, [4, 4, 2]),
        (12, 4, [3, 3, 3, 3]),
        (2, 5, [1, 1]),
        (9, 4, [3, 3, 3]),
    ],
)
def test_cutting_leaves_out_nothing(rows: int, parts: int, sizes: list[int]) -> None:
    starts = np.arange(rows, dtype=np.float32)[:, None]
    cut = cut_rollout_request(RolloutRequest(starts, 3, 2**62), parts)
    assert [len(part.start_observations) for part in cut] == sizes
    np.testing.assert_array_equal(np.concatenate([part.start_observations for part in cut]), starts)
    assert all(0 <= part.seed < 2**63 for part in cut)


def test_imagined_batches_are_ingested_and_counted_apart() -> None:
    core = LearnerCore(small_agent("mbpo"), 1)
    core.turn([put(0, 30)], [])
    report = core.turn([], put_all([8, 4]))
    assert report.synthetic_transitions == 12
    assert report.env_steps == 30


def test_statistics_and_times_are_reported() -> None:
    core = LearnerCore(small_agent("mnm"))
    report = core.turn([put(0, 40)], [])
    assert {"model_holdout_rmse", "classifier_accuracy"} <= set(report.statistics)
    assert np.isfinite(list(report.statistics.values())).all()
    assert {"ingest", "fit", "imagine", "update", "publish"} <= set(report.seconds)
    assert all(seconds >= 0 for seconds in report.seconds.values())


def test_work_on_offline_data_is_time_of_the_next_turn_and_not_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def takes(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Files:
        rows, warnings = 0, ()

        def __init__(self, paths: Any, spaces: Any) -> None:
            takes(5)

        def check(self, accept: Any) -> None:
            takes(10)

        def batches(self) -> tuple[()]:
            return ()

    monkeypatch.setattr(learner_core, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(learner_core, "OfflineData", Files)
    monkeypatch.setattr(learner_core, "train_offline", lambda agent, count, stop: takes(count))
    core = LearnerCore(small_agent("sac"))
    nothing = {"ingest": 0.0, "fit": 0.0, "imagine": 0.0, "update": 0.0, "publish": 0.0}
    takes(1)
    core.ingest_offline(["data"])
    takes(2)
    core.train_offline(100)
    core.train_offline(200)
    takes(4)
    report = core.turn([], [])
    assert report.seconds == {**nothing, "ingest": 15, "update": 300}
    assert report.idle_s == 1 + 2 + 4
    takes(8)
    assert core.train_offline(0) == {}
    report = core.turn([], [])
    assert report.seconds == nothing
    assert report.idle_s == 8


def test_values_that_are_not_finite_are_refused_with_their_step() -> None:
    core = LearnerCore(small_agent("sac"))
    core.turn([put(0, 10)], [])
    broken = random_transitions(5, first=10)
    broken.rewards[3] = np.nan
    with pytest.raises(DataRefused, match=r"not finite in rewards at real step 13"):
        core.turn([ray.put(to_arrow(broken))], [])
    assert core.agent.env_steps == len(core.agent.replay) == 10


def test_a_log_that_cannot_be_written_is_no_fault_of_the_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk may be mended, and the run go on from its last checkpoint."""
    core = LearnerCore(small_agent("sac"))
    core.log_transitions(str(tmp_path), "run", 5)

    def fail(*words: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("distributed.transition_log._write_table", fail)
    core.turn([put(0, 10)], [])  # a thread writes
    with pytest.raises(Exception, match="No space left") as caught:
        core.turn([put(10, 10)], [])
    assert not isinstance(caught.value, DataRefused)


def test_offline_data_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"There are no offline data at .*nothing"):
        LearnerCore(small_agent("sac")).ingest_offline([str(tmp_path / "nothing")])


@ray.remote(num_cpus=0)
class Maker:
    """Puts batches into the store, which it owns."""

    def make(self, first: int, count: int) -> list[Any]:
        return [put(first, count)]


def test_a_batch_whose_maker_died_is_counted_as_lost() -> None:
    maker = Maker.remote()
    (doomed,) = ray.get(maker.make.remote(10, 10))
    ray.kill(maker)
    wait_until_lost(doomed)
    core = LearnerCore(small_agent("mbpo", num_random_steps=1000), 1)
    report = core.turn([put(0, 10), doomed, put(20, 5)], [doomed])
    assert report.lost_real == [1]
    assert report.env_steps == len(core.agent.replay) == 15
    assert report.synthetic_transitions == 0


def wait_until_lost(reference: Any) -> None:
    """Ray clears away what a dead process owned a moment after its death."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            ray.get(reference, timeout=5.0)
        except (OwnerDiedError, ObjectLostError):
            return
        except GetTimeoutError:
            continue
        time.sleep(0.05)
    pytest.fail("the batch outlived its maker")
