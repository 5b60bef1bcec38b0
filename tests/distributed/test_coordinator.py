"""Tests of the coordinator with scripted actors: lag, random phase, waiting batches, failures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import RayActorError, RayTaskError

from distributed import failure
from distributed.coordinator import REQUESTS_PER_COLLECTOR, Coordinator
from distributed.failure import FAILURES_IN_A_ROW, Failed
from distributed.flow import Pace
from tests.distributed.scripted_flow import (
    Flow,
    ScriptedCoordinator,
    ScriptedManager,
    ScriptedPool,
    ScriptOver,
)


def everything_at_once(flow: Flow) -> None:
    """All open requests are answered at each wait."""
    for kind, request in flow.open_events():
        flow.happen(kind, request)


def slow_learner(turns_of_waiting: int) -> Any:
    """Collectors and workers answer at once, the learner only at every so many waits."""

    def advance(flow: Flow) -> None:
        for kind, request in flow.open_events():
            if kind != "turn" or flow.waits % turns_of_waiting == 0:
                flow.happen(kind, request)

    return advance


def assert_ledger_balances(flow: Flow) -> None:
    """Requested = returned + lost + open."""
    counts = flow.coordinator.counts
    under_way = flow.coordinator._steps_open()
    assert counts.steps_requested == counts.steps_returned + counts.steps_lost + under_way


@settings(deadline=None, max_examples=150)
@given(
    num_collectors=st.integers(1, 4),
    num_workers=st.integers(0, 2),
    steps=st.integers(1, 20),
    rounds_of_lag=st.integers(1, 5),
    random_requests=st.integers(0, 6),
    picks=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 3)), min_size=20, max_size=120),
)
def test_no_weights_are_older_than_the_lag_in_whatever_order_answers_come(
    num_collectors: int,
    num_workers: int,
    steps: int,
    rounds_of_lag: int,
    random_requests: int,
    picks: list[tuple[int, int]],
) -> None:
    """Even counting the steps that open requests may have made already."""
    lag = rounds_of_lag * num_collectors * steps
    script = iter(picks)

    def advance(flow: Flow) -> None:
        pick = next(script, None)
        if pick is None:
            raise ScriptOver
        events = flow.open_events()
        assert events, "nothing is open: the flow stands still for ever"
        kind, request = events[pick[0] % len(events)]
        # An autoreset row more or less: a request may bring fewer steps than it was asked for.
        flow.happen(kind, request, max(0, steps - pick[1]))

    flow = Flow(
        num_collectors,
        num_workers,
        steps,
        num_random_steps=random_requests * steps,
        max_weight_lag=lag,
        advance=advance,
        rollouts_every=2 * steps,
    )
    flow.run(turns=10_000)
    assert max(flow.ages, default=0) <= lag
    assert flow.coordinator.counts.weight_lag_max <= lag
    assert flow.coordinator.counts.steps_returned == flow.returned
    given_to_learner = [reference for turn in flow.batches_of_turns for reference in turn]
    assert len(given_to_learner) == len(set(given_to_learner))
    assert_ledger_balances(flow)


@pytest.mark.parametrize("num_collectors", [1, 3])
@pytest.mark.parametrize("advance", [everything_at_once, slow_learner(4)])
def test_the_random_phase_is_exact(num_collectors: int, advance: Any) -> None:
    flow = Flow(num_collectors, num_random_steps=60, advance=advance)
    flow.run(turns=20)
    random_ones = [r for r in flow.collectors.asked if r.arguments["policy"] is None]
    assert sum(r.arguments["vector_steps"] for r in random_ones) == 60
    assert flow.collectors.asked[: len(random_ones)] == random_ones
    assert len(flow.collectors.asked) > len(random_ones)


def test_a_random_phase_that_brings_fewer_rows_is_made_up_for() -> None:
    """Autoreset rows are missing from a batch: the phase counts rows, not steps asked for."""

    def advance(flow: Flow) -> None:
        for kind, request in flow.open_events():
            flow.happen(kind, request, flow.steps - 1)

    flow = Flow(1, num_random_steps=30, advance=advance)
    flow.run(turns=10)
    random_ones = [r for r in flow.collectors.asked if r.arguments["policy"] is None]
    assert len(random_ones) == 4  # 9 + 9 + 9 < 30


def test_policies_are_the_latest_published() -> None:
    flow = Flow(1, advance=everything_at_once, max_weight_lag=20)
    flow.run(turns=6)
    versions = [int(r.arguments["policy"][0].split("-")[1]) for r in flow.collectors.asked]
    assert versions == sorted(versions)
    assert versions[-1] >= 5


@pytest.mark.parametrize("num_collectors", [1, 2, 4])
def test_at_most_two_batches_of_each_collector_wait(num_collectors: int) -> None:
    most: list[int] = []

    def advance(flow: Flow) -> None:
        if flow.waits > 200:
            raise ScriptOver
        waiting = [reference.split("-")[1] for reference in flow.waiting()]
        most.append(max((waiting.count(index) for index in waiting), default=0))
        # The first collector answers at once, the others every third time, the learner rarely.
        for kind, request in flow.open_events():
            slow = 17 if kind == "turn" else 1 if request.actor_id == 1 else 3
            if flow.waits % slow == 0:
                flow.happen(kind, request)

    flow = Flow(num_collectors, advance=advance, max_weight_lag=10_000)
    flow.run(turns=1000)
    assert len(flow.batches_of_turns) > 5
    assert max(most) == REQUESTS_PER_COLLECTOR


def test_metrics_of_a_batch_are_given_only_once_the_learner_has_it() -> None:
    seen_early: list[str] = []

    def advance(flow: Flow) -> None:
        if flow.waits > 60:
            raise ScriptOver
        learned = {reference for turn in flow.batches_of_turns for reference in turn}
        seen_early.extend(set(flow.metrics_seen) - learned)
        slow_learner(3)(flow)

    flow = Flow(2, advance=advance, max_weight_lag=1000)
    flow.run(turns=1000)
    assert not seen_early
    learned = [reference for turn in flow.batches_of_turns for reference in turn]
    assert flow.metrics_seen == learned
    assert len(learned) > 10


def test_the_learner_has_one_call_under_way_and_takes_all_that_waits() -> None:
    def advance(flow: Flow) -> None:
        assert len(flow.learner.open) <= 1
        slow_learner(5)(flow)

    flow = Flow(3, advance=advance, max_weight_lag=1000)
    reports = flow.run(turns=8)
    assert reports == 8
    assert len(flow.learner.asked) == 9  # it is at the next one when a report is handed out
    assert max(len(turn) for turn in flow.batches_of_turns) > 1


def test_imagined_batches_travel_to_the_learner_once() -> None:
    flow = Flow(2, 2, advance=everything_at_once)
    flow.run(turns=12)
    imagined = [reference for turn in flow.synthetic_of_turns for reference in turn]
    assert len(imagined) == len(set(imagined)) > 4
    requests = [r.arguments["request"][0] for r in flow.workers.asked]
    assert len(requests) == len(set(requests))


def test_newer_rollout_requests_replace_those_still_waiting() -> None:
    """One worker of two is slow for ever: the queue does not grow and the lag holds."""

    def advance(flow: Flow) -> None:
        if flow.waits > 80:
            raise ScriptOver
        for kind, request in flow.open_events():
            if kind != "imagine":
                flow.happen(kind, request)

    flow = Flow(1, 2, advance=advance, max_weight_lag=50)
    flow.workers.unhealthy.add(1)
    flow.run(turns=10_000)
    pool = flow.coordinator.pool
    assert pool is not None
    assert len(pool.published_at) <= 3
    # The wheel stands still rather than let the open request's weights grow too old.
    assert flow.returned + flow.steps_open - min(pool.published_at) <= 50


def test_a_dead_collectors_open_request_is_released() -> None:
    def advance(flow: Flow) -> None:
        if flow.waits == 3:
            flow.collectors.die(1)
        if flow.waits == 20:
            flow.collectors.unhealthy.clear()  # RLlib has restarted it
        everything_at_once(flow)

    flow = Flow(2, advance=advance, max_weight_lag=40)
    reports = flow.run(turns=40)
    assert reports == 40
    assert flow.coordinator.counts.worker_failures == 1
    asked_of_first = [r for r in flow.collectors.asked if r.actor_id == 1]
    assert len(asked_of_first) > 5
    assert_ledger_balances(flow)
    under_way = [ref for request in flow.learner.open for ref in request.arguments["real"]]
    assert flow.ingested + sum(flow.rows[ref] for ref in under_way) == flow.returned


def test_a_request_that_vanishes_with_its_collector_is_released() -> None:
    """Whoever calls the runners may notice a death first; the manager then drops our request."""

    def advance(flow: Flow) -> None:
        if flow.waits == 3:
            flow.collectors.drop(1)
        if flow.waits == 10:
            flow.collectors.unhealthy.clear()
        if flow.waits > 60:
            raise ScriptOver
        everything_at_once(flow)

    flow = Flow(2, advance=advance, max_weight_lag=40)
    flow.run(turns=1000)
    assert flow.returned > 300, "the vanished request holds up the flow"
    assert any(r.actor_id == 1 for r in flow.collectors.asked[-4:])
    assert_ledger_balances(flow)


def test_a_request_that_vanishes_with_a_collector_that_is_back_at_once_is_released() -> None:
    def advance(flow: Flow) -> None:
        if flow.waits == 3:
            flow.collectors.drop(1)
            flow.collectors.unhealthy.clear()
        everything_at_once(flow)

    flow = Flow(2, advance=advance)
    assert flow.run(turns=20) == 20
    assert flow.coordinator.counts.worker_failures == 1
    assert flow.coordinator.counts.steps_lost == 2 * flow.steps
    assert_ledger_balances(flow)


def test_lost_batches_do_not_hold_up_the_flow() -> None:
    """What died with its maker is no age of any weights."""

    def advance(flow: Flow) -> None:
        if flow.waits > 200:
            raise ScriptOver
        everything_at_once(flow)

    flow = Flow(
        2, advance=advance, max_weight_lag=40, lose=lambda reference: int(reference[8:]) % 3 == 0
    )
    flow.run(turns=1000)
    assert flow.lost > 20
    assert_ledger_balances(flow)
    assert flow.returned > 1000
    assert flow.coordinator.counts.weight_lag_max <= 40


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


def test_errors_in_a_row_of_collectors_own_code_end_the_run() -> None:
    def advance(flow: Flow) -> None:
        for request in list(flow.collectors.open):
            flow.collectors.complete(request, Failed(KeyError("broken environment")))
        flow.collectors.unhealthy.clear()

    flow = Flow(1, advance=advance)
    with pytest.raises(KeyError, match="broken environment"):
        flow.run(turns=5)
    assert flow.coordinator.counts.worker_failures == FAILURES_IN_A_ROW == 3


@pytest.mark.parametrize("kind", ["with batches between", "of dead processes"])
def test_other_failures_do_not_end_the_run(kind: str) -> None:
    def advance(flow: Flow) -> None:
        fails = flow.waits % 3 == 0
        for request in list(flow.collectors.open):
            if fails:
                dead = kind == "of dead processes"
                error = RayActorError() if dead else Failed(KeyError("now and then"))
                flow.collectors.complete(request, error)
            else:
                flow.happen("collect", request)
        flow.collectors.unhealthy.clear()
        for request in list(flow.learner.open):
            flow.happen("turn", request)

    flow = Flow(1, advance=advance)
    assert flow.run(turns=20) == 20
    assert flow.coordinator.counts.worker_failures >= 5
    assert_ledger_balances(flow)


def test_finish_learning_leaves_the_learner_at_rest() -> None:
    flow = Flow(2, advance=slow_learner(3), max_weight_lag=1000)
    flow.run(turns=3)
    assert flow.learner.open
    flow.coordinator.finish_learning()
    assert not flow.learner.open
    assert flow.metrics_seen == [ref for turn in flow.batches_of_turns for ref in turn]


def test_restarted_rollout_workers_are_brought_back_and_counted() -> None:
    flow = Flow(1, 2, advance=everything_at_once)
    flow.workers.unhealthy.add(1)
    flow.coordinator.probe()
    assert flow.workers.healthy_actor_ids() == [0, 1]
    assert flow.coordinator.counts.worker_restarts == 1


def test_rollout_workers_that_were_just_asked_are_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(failure.time, "monotonic", lambda: now)
    flow = Flow(1, 2, advance=everything_at_once)
    flow.coordinator.probe()
    flow.workers.unhealthy.add(1)
    flow.coordinator.probe()
    assert flow.workers.healthy_actor_ids() == [0]
    now = failure.PROBE_EVERY_S
    flow.coordinator.probe()
    assert flow.workers.healthy_actor_ids() == [0, 1]
    assert flow.coordinator.counts.worker_restarts == 1


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
