"""Tests of the watch over collectors: who hangs, and whether any that are dead come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import ray

from distributed import collector_watch
from distributed import coordinator as coordinator_module
from distributed.elasticity import ElasticActors
from tests.distributed.scripted_flow import Flow, ScriptOver

TIMEOUT_S = 15.0


@dataclass
class Clock:
    """The driver's clock, and whom it had killed."""

    now: float = 0.0
    killed: list[int] = field(default_factory=list)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still unless a test moves it."""
    made = Clock()
    monkeypatch.setattr(coordinator_module.time, "perf_counter", lambda: made.now)
    return made


def watched(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    advance: Callable[[Flow], None],
    timeout_s: float | None = TIMEOUT_S,
) -> Flow:
    """Two collectors; Ray has one that is killed back at once."""
    flow = Flow(2, advance=advance, max_weight_lag=1000)
    group = flow.coordinator.collectors
    group.pace = replace(group.pace, request_timeout_s=timeout_s)

    def kill(actor: int, no_restart: bool) -> None:
        assert not no_restart
        clock.killed.append(actor)
        flow.collectors.die(actor)
        flow.collectors.unhealthy.clear()

    monkeypatch.setattr(ray, "kill", kill)
    return flow


def first_hangs(clock: Clock, until: int) -> Callable[[Flow], None]:
    """A second passes at each wait; the first collector answers none before that many."""

    def advance(flow: Flow) -> None:
        clock.now += 1.0
        for kind, request in flow.open_events():
            if not (kind == "collect" and request.actor_id == 1 and flow.waits < until):
                flow.happen(kind, request)

    return advance


def test_a_collector_that_hangs_is_restarted(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flow = watched(clock, monkeypatch, first_hangs(clock, until=40))
    flow.run(turns=80)
    counts = flow.coordinator.counts
    assert clock.killed == [1, 1]  # at 16 s and, still hanging, again
    assert counts.worker_failures == 2
    assert counts.steps_lost == 2 * 2 * flow.steps
    under_way = flow.coordinator.collectors.steps_open
    assert counts.steps_requested == counts.steps_returned + counts.steps_lost + under_way
    assert 1 in {request.actor_id for request in flow.collectors.asked[-2:]}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "Collector 1 has not answered" in warnings[0]
    assert "sample_timeout_s=15 seconds" in warnings[0]


def test_without_a_timeout_none_is_restarted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = watched(clock, monkeypatch, first_hangs(clock, until=1000), timeout_s=None)
    flow.run(turns=300)
    assert clock.now > 10 * TIMEOUT_S
    assert not clock.killed


@pytest.mark.parametrize("answered_meanwhile", [True, False])
def test_a_pause_of_the_driver_is_held_against_nobody(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, answered_meanwhile: bool
) -> None:
    """An evaluation, a checkpoint, or a person who thinks between two calls of `train`."""
    flow = watched(clock, monkeypatch, first_hangs(clock, until=0))
    for _ in range(10):
        assert flow.run(turns=1) == 1
        clock.now += 100 * TIMEOUT_S
        if answered_meanwhile:
            for kind, request in flow.open_events():
                flow.happen(kind, request)
    assert not clock.killed
    assert flow.coordinator.counts.steps_lost == 0


def test_an_answer_that_is_there_after_a_long_wait_is_taken(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole process may have been stopped in the midst of a wait."""

    def advance(flow: Flow) -> None:
        clock.now += 100 * TIMEOUT_S
        for kind, request in flow.open_events():
            flow.happen(kind, request)

    flow = watched(clock, monkeypatch, advance)
    assert flow.run(turns=20) > 5
    assert not clock.killed


def test_a_process_that_was_stopped_gives_collectors_the_time_to_answer(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(flow: Flow) -> None:
        clock.now += 100 * TIMEOUT_S if flow.waits == 3 else 1.0
        for kind, request in flow.open_events():
            if flow.waits != 3:
                flow.happen(kind, request)

    flow = watched(clock, monkeypatch, advance)
    assert flow.run(turns=20) > 5
    assert not clock.killed


def both_die(flow: Flow) -> None:
    """At the third wait; the learner and whoever lives answer at once."""
    if flow.waits > 30:
        raise ScriptOver
    for kind, request in flow.open_events():
        flow.happen(kind, request)
    if flow.waits == 3:
        flow.collectors.die(1)
        flow.collectors.die(2)


def raise_at_once(group: str, actors: object) -> None:
    raise RuntimeError(f"All {group} are dead")


def test_a_run_whose_collectors_stay_away_for_good_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_watch, "raise_if_none_returns", raise_at_once)
    flow = Flow(2, advance=both_die)
    with pytest.raises(RuntimeError, match="All collectors are dead"):
        flow.run(turns=100)
    assert flow.waits < 6


@pytest.mark.parametrize(("most", "ends"), [(2, True), (3, False)])
def test_collectors_beside_the_reserved_ones_may_take_their_place(
    most: int, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_watch, "raise_if_none_returns", raise_at_once)
    flow = Flow(2, advance=both_die)
    flow.coordinator.collectors.elastic = ElasticActors(
        flow.collectors,  # type: ignore[arg-type]
        lambda number: number,
        most,
    )
    if not ends:
        flow.run(turns=100)
        assert flow.waits > 30
        return
    with pytest.raises(RuntimeError, match="All collectors are dead"):
        flow.run(turns=100)
