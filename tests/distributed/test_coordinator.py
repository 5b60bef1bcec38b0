"""Tests of the coordinator with scripted actors: lag, random phase, waiting batches, failures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import RayActorError

from distributed import failure
from distributed.collector_group import REQUESTS_PER_COLLECTOR
from distributed.coordinator import ASK_EVERY_S
from distributed.failure import FAILURES_IN_A_ROW, Failed
from tests.distributed.scripted_flow import (
    Flow,
    ScriptOver,
    everything_at_once,
    slow_learner,
)


def assert_ledger_balances(flow: Flow) -> None:
    """Requested = returned + lost + open."""
    counts = flow.coordinator.counts
    under_way = flow.coordinator.collectors.steps_open
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


def test_batches_that_wait_at_a_restore_never_reach_the_learner() -> None:
    def collect_only(flow: Flow) -> None:
        if flow.waits > 10:
            raise ScriptOver
        for kind, request in flow.open_events():
            if kind == "collect":
                flow.happen(kind, request)

    flow = Flow(2, 2, advance=collect_only, max_weight_lag=10_000)
    flow.run(turns=1000)
    before = flow.waiting()
    assert len(before) > 1
    flow.coordinator.start()
    flow.waits, flow.advance = 0, everything_at_once
    flow.run(turns=6)
    learned = {reference for turn in flow.batches_of_turns for reference in turn}
    assert len(learned) > 4
    assert not learned & set(before)
    counts = flow.coordinator.counts
    assert counts.steps_requested == counts.steps_returned + counts.steps_lost + flow.steps_open


def test_at_a_restore_the_pool_begins_anew() -> None:
    def all_but_imagine(flow: Flow) -> None:
        if flow.waits > 60:
            raise ScriptOver
        for kind, request in flow.open_events():
            if kind != "imagine":
                flow.happen(kind, request)

    flow = Flow(2, 2, advance=all_but_imagine, max_weight_lag=10_000)
    flow.run(turns=1000)
    pool = flow.coordinator.pool
    assert pool is not None
    before = list(flow.workers.open)
    assert len(before) == 2
    assert flow.coordinator.imagines
    flow._next_rollout = 10**9
    flow.coordinator.start()
    assert pool.published_at == []
    assert not flow.coordinator.imagines
    flow._next_rollout = 0
    flow.coordinator.start()
    version = flow.version
    assert flow.coordinator.imagines, "what the publishing turn asked for"
    counts = flow.coordinator.counts
    counts.weight_lag_max = 0
    for request in before:  # answered late
        flow.happen("imagine", request)
    late = {answer.value[0][0] for answer in flow.workers._answers}
    asked = len(flow.workers.asked)
    flow.waits, flow.advance = 0, everything_at_once
    flow.run(turns=6)
    imagined = {reference for turn in flow.synthetic_of_turns for reference in turn}
    assert len(late) == 2
    assert imagined
    assert not imagined & late
    first = {request.arguments["request"][0] for request in flow.workers.asked[asked : asked + 2]}
    assert first == {f"request-{version}-{part}" for part in range(2)}
    assert counts.weight_lag_max < 200, "ages of weights from before are none of this flow"


def test_a_turn_that_waits_ends_when_the_run_is_to_stop() -> None:
    """A collector may take a minute for a request; who stopped the run waits for its checkpoint."""
    flow = Flow(2)
    flow.coordinator.should_stop = lambda: flow.waits >= 3
    assert flow.coordinator.turn() is None
    assert flow.waits == 3
    assert 0 < flow.longest_wait <= ASK_EVERY_S


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
