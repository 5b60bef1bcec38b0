"""Tests of the learner's turns in the flow: as an actor, and in the driver with the collector."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import RayTaskError

from distributed.coordinator import Coordinator
from distributed.flow import Pace
from tests.distributed.scripted_flow import (
    Flow,
    ScriptedCoordinator,
    ScriptedManager,
    ScriptedPool,
    ScriptOver,
    everything_at_once,
    slow_learner,
)


def test_the_learner_has_one_call_under_way_and_takes_all_that_waits() -> None:
    def advance(flow: Flow) -> None:
        assert len(flow.learner.open) <= 1
        slow_learner(5)(flow)

    flow = Flow(3, advance=advance, max_weight_lag=1000)
    reports = flow.run(turns=8)
    assert reports == 8
    assert len(flow.learner.asked) == 9  # it is at the next one when a report is handed out
    assert max(len(turn) for turn in flow.batches_of_turns) > 1


def test_a_learner_error_is_raised_at_once() -> None:
    def advance(flow: Flow) -> None:
        if flow.version == 3:
            for request in flow.learner.open:
                flow.learner.complete(request, task_error(ValueError("not finite at step 7")))
                return
        everything_at_once(flow)

    flow = Flow(2, advance=advance)
    with pytest.raises(RayTaskError, match="not finite at step 7"):
        flow.run(turns=100)
    assert flow.version == 3


def test_a_learner_that_is_gone_is_named() -> None:
    flow = Flow(1, advance=everything_at_once)
    flow.run(turns=2)
    flow.learner.unhealthy.add(0)
    with pytest.raises(RuntimeError, match="learner's process is gone"):
        flow.run(turns=5)


@pytest.mark.parametrize("noticed_by", ["its turn", "somebody else"])
def test_a_learner_that_dies_is_named_whatever_is_asked_of_it(noticed_by: str) -> None:
    def advance(flow: Flow) -> None:
        if flow.waits > 100:
            raise ScriptOver
        if flow.version == 3:
            if noticed_by == "its turn":
                flow.learner.die(0)
            else:
                flow.learner.drop(0)
        everything_at_once(flow)

    flow = Flow(2, advance=advance)
    coordinator = flow.coordinator
    for ask in (
        lambda: [coordinator.turn() for _ in range(10)],
        coordinator.turn,
        coordinator.finish_learning,
        coordinator.start,
        coordinator.turn,
    ):
        with pytest.raises(RuntimeError, match="learner's process is gone"):
            ask()
    assert flow.version == 3


def test_finish_learning_leaves_the_learner_at_rest() -> None:
    flow = Flow(2, advance=slow_learner(3), max_weight_lag=1000)
    flow.run(turns=3)
    assert flow.learner.open
    flow.coordinator.finish_learning()
    assert not flow.learner.open
    assert flow.metrics_seen == [ref for turn in flow.batches_of_turns for ref in turn]


class InProcess:
    """Collector and learner of the deterministic mode, in one object that notes the order."""

    def __init__(self, num_workers: int = 0) -> None:
        self.flow = Flow(0, num_workers)
        self.calls: list[Any] = []

    def collect(
        self, policy: Any, vector_steps: int, first_step: int
    ) -> tuple[list[str], int, str]:
        self.calls.append(("collect", policy))
        reference = f"batch-0-{len(self.flow.rows)}"
        self.flow.rows[reference] = vector_steps
        self.flow.returned += vector_steps
        return [reference], vector_steps, reference

    def turn(self, real: Any, synthetic: Any, rollout_parts: int | None = None) -> Any:
        self.calls.append(("turn", real))
        return self.flow.report(real, synthetic, rollout_parts)


def test_without_actors_collecting_and_learning_take_turns() -> None:
    both = InProcess()
    seen: list[str] = []
    coordinator = Coordinator(
        ScriptedManager([]), both, None, both, None, Pace(10, 10, 20, 100), seen.extend
    )
    coordinator.start()
    for _ in range(4):
        report = coordinator.turn()
        assert report is not None
    assert (
        both.calls
        == [
            ("turn", []),
            ("collect", None),
            ("turn", ["batch-0-0"]),
            ("collect", None),
            ("turn", ["batch-0-1"]),
            ("collect", ["policy-4"]),
            ("turn", ["batch-0-2"]),
            ("collect", ["policy-5"]),
            ("turn", ["batch-0-3"]),
        ][: len(both.calls)]
    )
    assert seen == [f"batch-0-{index}" for index in range(4)]
    assert coordinator.counts.weight_lag_max == 10


def test_a_learner_in_this_process_that_raised_is_at_rest() -> None:
    """A restore needs it so."""
    both = InProcess()
    coordinator = Coordinator(
        ScriptedManager([]), both, None, both, None, Pace(10, 10, 20, 100), lambda metrics: None
    )
    coordinator.start()

    def raises(real: Any, synthetic: Any) -> Any:
        raise ValueError("not finite at step 7")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(both, "turn", raises)
        with pytest.raises(ValueError, match="not finite at step 7"):
            coordinator.turn()
        with pytest.raises(ValueError, match="not finite at step 7"):
            coordinator.turn()
    assert coordinator.finish_learning() is None
    assert coordinator.turn() is not None


def in_process_with_pool(advance: Any, max_weight_lag: int) -> tuple[Flow, Coordinator]:
    """Collector and learner in this process, and one rollout worker."""
    both = InProcess(num_workers=1)
    flow = both.flow
    coordinator = ScriptedCoordinator(
        flow.collectors,
        both,
        None,
        both,
        ScriptedPool(flow.workers),
        Pace(10, 10, 20, max_weight_lag),
        flow.metrics_seen.extend,
    )
    coordinator.flow, flow.coordinator, flow.advance = flow, coordinator, advance
    coordinator.start()
    return flow, coordinator


def test_a_learner_in_this_process_is_given_what_the_pool_imagined() -> None:
    """Its turns follow one another without a wait."""
    flow, coordinator = in_process_with_pool(everything_at_once, max_weight_lag=1000)
    for _ in range(30):
        assert coordinator.turn() is not None
        everything_at_once(flow)
    imagined = [reference for turn in flow.synthetic_of_turns for reference in turn]
    assert len(imagined) == len(set(imagined)) > 5


def test_a_collector_in_this_process_waits_for_the_pool_rather_than_exceed_the_lag() -> None:
    def advance(flow: Flow) -> None:
        if flow.waits % 4 == 0:
            everything_at_once(flow)

    flow, coordinator = in_process_with_pool(advance, max_weight_lag=50)
    pool = coordinator.pool
    assert pool is not None
    for _ in range(60):
        assert coordinator.turn() is not None
        oldest = min(pool.published_at, default=flow.returned)
        assert flow.returned - oldest <= 50
    assert flow.returned > 300
    assert max(flow.ages) <= 50
    assert flow.waits > 10, "nobody was waited for"
    assert coordinator.counts.weight_lag_max <= 50


def task_error(cause: Exception) -> RayTaskError:
    """What arrives where an actor's method raised `cause`."""
    return RayTaskError("method", f"Traceback: {cause}", cause)
