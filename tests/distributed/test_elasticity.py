"""Tests of the changing number of actors: the rule, who joins and leaves when, and the flow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import RayActorError

from distributed import coordinator as coordinator_module
from distributed import elasticity
from distributed.elasticity import CALM_WINDOWS, WINDOW_S, ElasticActors, Load, SizeRule
from tests.distributed.scripted_flow import Flow, ScriptedManager, ScriptedRule, ScriptOver

SHORT = Load(WINDOW_S, waited_s=0.5 * WINDOW_S, busy_s=WINDOW_S)
IDLE = Load(WINDOW_S)


def decisions(rule: SizeRule, loads: list[Load], serving: int, pending: int = 0) -> list[int]:
    return [rule.decide(load, serving, pending) for load in loads]


# The rule


def test_a_window_of_waiting_asks_for_one_more() -> None:
    rule = SizeRule(1, 3)
    third = Load(WINDOW_S / 3, waited_s=WINDOW_S / 10, busy_s=WINDOW_S / 3)
    assert decisions(rule, [third] * 3, serving=1) == [0, 0, 1]
    assert decisions(rule, [third] * 3, serving=2) == [0, 0, 1], "a new window"


@pytest.mark.parametrize(("serving", "pending"), [(3, 0), (1, 1)])
def test_none_is_asked_for_above_the_most_or_while_one_is_pending(
    serving: int, pending: int
) -> None:
    assert decisions(SizeRule(1, 3), [SHORT] * 5, serving, pending) == [0] * 5


def test_dropped_work_is_a_shortage_too() -> None:
    dropping = Load(WINDOW_S, busy_s=WINDOW_S, asked=10, dropped=3)
    assert decisions(SizeRule(1, 2), [dropping], serving=1) == [1]
    hardly = Load(WINDOW_S, busy_s=WINDOW_S, asked=100, dropped=3)
    assert decisions(SizeRule(1, 2), [hardly], serving=1) == [0]


def test_one_fewer_after_windows_of_calm_in_a_row() -> None:
    rule = SizeRule(1, 3)
    waits_a_little = Load(WINDOW_S, waited_s=0.05 * WINDOW_S)
    assert decisions(rule, [IDLE] * (CALM_WINDOWS - 1), serving=2) == [0] * (CALM_WINDOWS - 1)
    assert decisions(rule, [waits_a_little], serving=2) == [0]
    assert decisions(rule, [IDLE] * CALM_WINDOWS, serving=2) == [0] * (CALM_WINDOWS - 1) + [-1]


def test_the_reserved_ones_stay() -> None:
    assert decisions(SizeRule(2, 3), [IDLE] * 20, serving=2) == [0] * 20


@pytest.mark.parametrize(("busy", "released"), [(0.7, True), (0.9, False)])
def test_none_is_released_that_the_others_could_not_stand_in_for(
    busy: float, released: bool
) -> None:
    load = Load(WINDOW_S, busy_s=busy * WINDOW_S)  # of two: one would be at work for as long
    assert (-1 in decisions(SizeRule(1, 3), [load] * 10, serving=2)) == released


def test_one_that_never_came_is_given_up_once_nobody_waits() -> None:
    """Whatever work the others have."""
    full = Load(WINDOW_S, busy_s=WINDOW_S)
    assert -1 in decisions(SizeRule(1, 3), [full] * CALM_WINDOWS, serving=1, pending=1)


@settings(deadline=None)
@given(demand=st.floats(0.0, 6.0), serving=st.integers(1, 4))
def test_under_a_steady_demand_the_number_settles(demand: float, serving: int) -> None:
    """The demand is in actors that are always at work."""
    rule, changes = SizeRule(1, 4), []
    for window in range(40 * CALM_WINDOWS):
        share = min(1.0, demand / serving)
        waited = max(0.0, 1.0 - serving / demand) if demand else 0.0
        load = Load(WINDOW_S, waited * WINDOW_S, share * serving * WINDOW_S)
        change = rule.decide(load, serving, 0)
        serving += change
        if change:
            changes.append(window)
    assert 1 <= serving <= 4
    assert len(changes) <= 3
    assert serving >= min(4, 0.9 * demand - 1e-9)
    assert serving == 1 or demand > 0.8 * (serving - 1) - 1e-9


# The actors beside the reserved ones


@dataclass
class FakeActor:
    """An actor that runs when a test says so."""

    number: int
    state: str = "pending"

    @property
    def ping(self) -> Any:
        return self

    def remote(self) -> FakeActor:
        return self


@dataclass
class FakeRay:
    """Takes the place of `ray`; knows only the actors of a test."""

    started: list[FakeActor] = field(default_factory=list)
    killed: list[Any] = field(default_factory=list)

    def start(self, number: int) -> FakeActor:
        self.started.append(FakeActor(number))
        return self.started[-1]

    def wait(self, answers: list[FakeActor], timeout: float) -> tuple[list[FakeActor], Any]:
        assert timeout == 0, "nobody waits for an actor that has no resources"
        return [actor for actor in answers if actor.state != "pending"], None

    def get(self, actor: FakeActor) -> str:
        if actor.state == "failed":
            raise RayActorError
        return "pong"

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    for name in ("wait", "get", "kill"):
        monkeypatch.setattr(elasticity.ray, name, getattr(fake, name))
    return fake


def elastic_pair(fake: FakeRay) -> tuple[ElasticActors, ScriptedManager]:
    """Two reserved actors, and four at the most."""
    manager = ScriptedManager([1, 2])
    return ElasticActors(manager, fake.start, 4), manager


def grown(fake: FakeRay) -> tuple[ElasticActors, ScriptedManager]:
    """The same with a third that runs."""
    elastic, manager = elastic_pair(fake)
    elastic.adapt(SHORT, set())
    fake.started[-1].state = "running"
    elastic.adapt(Load(), set())
    assert manager.actor_ids() == [1, 2, 3]
    return elastic, manager


def test_one_that_does_not_run_is_kept_aside(fake_ray: FakeRay) -> None:
    elastic, manager = elastic_pair(fake_ray)
    for _ in range(5):
        elastic.adapt(SHORT, set())
    assert [actor.number for actor in fake_ray.started] == [3]
    assert (elastic.num_pending, elastic.num_serving) == (1, 2)
    assert manager.actor_ids() == [1, 2]
    fake_ray.started[0].state = "running"
    elastic.adapt(Load(), set())
    assert (elastic.num_pending, elastic.num_serving) == (0, 3)
    assert manager.actor_ids() == [1, 2, 3]


def test_one_that_cannot_start_is_forgotten_and_may_be_asked_for_again(
    fake_ray: FakeRay, caplog: pytest.LogCaptureFixture
) -> None:
    elastic, manager = elastic_pair(fake_ray)
    elastic.adapt(SHORT, set())
    fake_ray.started[0].state = "failed"
    elastic.adapt(Load(), set())
    assert (elastic.num_pending, manager.actor_ids()) == (0, [1, 2])
    assert "did not start" in caplog.text
    elastic.adapt(SHORT, set())
    assert [actor.number for actor in fake_ray.started] == [3, 4], "a number is used once"


def test_a_lost_one_leaves_and_a_reserved_one_stays(fake_ray: FakeRay) -> None:
    elastic, manager = grown(fake_ray)
    manager.unhealthy = {1, 3}
    elastic.adapt(Load(), {1, 3})
    assert manager.actor_ids() == [1, 2]
    assert manager.unhealthy == {1}, "Ray restarts it"


def test_one_is_released_once_the_learner_has_its_work(fake_ray: FakeRay) -> None:
    elastic, manager = grown(fake_ray)
    for _ in range(CALM_WINDOWS):
        elastic.adapt(IDLE, {3})
    assert elastic.retiring == {3}
    assert elastic.num_serving == 2
    elastic.adapt(Load(), {3})
    assert manager.actor_ids() == [1, 2, 3]
    elastic.adapt(Load(), set())
    assert manager.actor_ids() == [1, 2]
    assert fake_ray.killed == [3]
    assert not elastic.retiring


def test_one_on_its_way_out_is_taken_back_before_another_is_started(fake_ray: FakeRay) -> None:
    elastic, manager = grown(fake_ray)
    for _ in range(CALM_WINDOWS):
        elastic.adapt(IDLE, {3})
    elastic.adapt(SHORT, {3})
    assert not elastic.retiring
    assert len(fake_ray.started) == 1
    assert manager.actor_ids() == [1, 2, 3]


def test_one_that_is_no_longer_wanted_is_cancelled_before_it_runs(fake_ray: FakeRay) -> None:
    elastic, _ = elastic_pair(fake_ray)
    elastic.adapt(SHORT, set())
    for _ in range(CALM_WINDOWS):
        elastic.adapt(IDLE, set())
    assert fake_ray.killed == fake_ray.started
    assert elastic.num_pending == 0


def test_stopping_ends_those_that_do_not_run(fake_ray: FakeRay) -> None:
    elastic, _ = elastic_pair(fake_ray)
    elastic.adapt(SHORT, set())
    elastic.stop()
    assert fake_ray.killed == fake_ray.started


# In the flow


def make_elastic(flow: Flow, fake: FakeRay) -> tuple[ScriptedRule, ScriptedRule]:
    """Lets collectors and rollout workers grow to three; returns the two wishes."""
    pool, wishes = flow.coordinator.pool, (ScriptedRule(), ScriptedRule())
    assert pool is not None
    flow.coordinator.collectors.elastic = ElasticActors(flow.collectors, fake.start, 3)
    pool.elastic = ElasticActors(flow.workers, fake.start, 3)
    flow.coordinator.collectors.elastic.rule, pool.elastic.rule = wishes  # type: ignore[assignment]
    return wishes


@settings(deadline=None, max_examples=100)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["answer"] * 6 + ["grow", "shrink", "start", "die"]),
            st.integers(0, 1000),
        ),
        min_size=40,
        max_size=160,
    )
)
def test_the_books_balance_whoever_comes_goes_and_dies(events: list[tuple[str, int]]) -> None:
    """And what actors that leave have made reaches the learner, and no weights grow too old."""
    fake, script = FakeRay(), iter(events)
    died: tuple[set[int], set[int]] = (set(), set())

    def was_released(group: int, reference: str) -> bool:
        """Its maker is gone, and not by dying: the batch should have been waited for."""
        maker = int(reference.split("-")[1])
        return maker not in (flow.collectors, flow.workers)[group].ids and maker not in died[group]

    def advance(flow: Flow) -> None:
        kind, pick = next(script, ("over", 0))
        if kind == "over":
            raise ScriptOver
        group = pick % 2
        manager = (flow.collectors, flow.workers)[group]
        if kind in ("grow", "shrink"):
            wishes[group].change = 1 if kind == "grow" else -1
        elif kind == "start":
            for actor in fake.started:
                actor.state = "running"
        elif kind == "die":
            victim = manager.ids[pick // 2 % len(manager.ids)]
            died[group].add(victim)
            manager.die(victim)
        else:
            flow.collectors.unhealthy -= {1}  # reserved: RLlib and the pool bring them back
            flow.coordinator.probe()
        answers = flow.open_events()
        if answers:
            answer, request = answers[pick % len(answers)]
            if answer == "turn":
                real, synthetic = request.arguments["real"], request.arguments["synthetic"]
                assert not [reference for reference in real if was_released(0, reference)]
                assert not [reference for reference in synthetic if was_released(1, reference)]
            flow.happen(answer, request)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("wait", "get", "kill"):
            patch.setattr(elasticity.ray, name, getattr(fake, name))
        flow = Flow(1, 1, max_weight_lag=60, advance=advance, rollouts_every=10)
        wishes = make_elastic(flow, fake)
        flow.run(turns=1000)
    counts = flow.coordinator.counts
    under_way = flow.coordinator.collectors.steps_open
    assert counts.steps_requested == counts.steps_returned + counts.steps_lost + under_way
    assert max(flow.ages, default=0) <= 60
    given_to_learner = [reference for turn in flow.batches_of_turns for reference in turn]
    assert len(given_to_learner) == len(set(given_to_learner))


def test_requests_are_cut_for_the_workers_there_are(fake_ray: FakeRay) -> None:
    def advance(flow: Flow) -> None:
        for actor in fake_ray.started:
            actor.state = "running"
        if flow.waits == 20:
            wishes[1].change = 1
        if flow.waits == 60:
            wishes[1].change = -1
        if flow.waits > 100:
            raise ScriptOver
        for kind, request in flow.open_events():
            flow.happen(kind, request)

    flow = Flow(1, 1, advance=advance, rollouts_every=10)
    wishes = make_elastic(flow, fake_ray)
    flow.run(turns=1000)
    parts = [int(r.arguments["request"][0].split("-")[2]) for r in flow.workers.asked]
    first, last = parts.index(1), len(parts) - parts[::-1].index(1)
    assert first > 5
    assert {request.actor_id for request in flow.workers.asked} == {0, 1}
    assert len(parts) - last > 5
    assert set(parts[last:]) == {0}
    counts = flow.coordinator.actor_counts()
    assert counts == {
        "num_healthy_collectors": 1,
        "num_pending_collectors": 0,
        "num_healthy_rollout_workers": 1,
        "num_pending_rollout_workers": 0,
    }


def test_who_has_left_is_not_shown_among_the_workers_any_more(fake_ray: FakeRay) -> None:
    shown = []

    def advance(flow: Flow) -> None:
        for actor in fake_ray.started:
            actor.state = "running"
        if flow.waits in (20, 60):
            for wish in wishes:
                wish.change = 1 if flow.waits == 20 else -1
        if flow.waits > 100:
            raise ScriptOver
        for kind, request in flow.open_events():
            flow.happen(kind, request)
        shown.append(set(flow.coordinator.handed_over))

    flow = Flow(1, 1, advance=advance, rollouts_every=10)
    wishes = make_elastic(flow, fake_ray)
    flow.run(turns=1000)
    reserved = {("collector", 1), ("rollout_worker", 0)}
    assert {("collector", 2), ("rollout_worker", 1)} | reserved in shown
    assert shown[-1] == reserved


@pytest.mark.parametrize("slow", ["collect", "imagine", "turn"])
def test_whom_the_learner_waits_for(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes at each wait; one of the three answers at every tenth only."""

    def advance(flow: Flow) -> None:
        clock[0] += 1.0
        if flow.waits > 300:
            raise ScriptOver
        for kind, request in flow.open_events():
            if kind != slow or flow.waits % 10 == 0:
                flow.happen(kind, request)

    clock = [0.0]
    monkeypatch.setattr(coordinator_module.time, "perf_counter", lambda: clock[0])
    flow = Flow(1, 1, max_weight_lag=50, advance=advance, rollouts_every=10)
    with suppress(ScriptOver):
        while True:
            flow.coordinator.turn()
    collecting, imagining = flow.coordinator.collectors.load, flow.coordinator.pool.load
    waits = {"collect": collecting.shortage, "imagine": imagining.waited_s / imagining.seconds}
    assert collecting.seconds == imagining.seconds > 250
    for kind, share in waits.items():
        assert (share > 0.3) == (kind == slow), waits
    if slow == "imagine":
        assert imagining.busy_s > 0.9 * imagining.seconds
    if slow == "turn":
        assert collecting.busy_s < 0.5 * collecting.seconds
    counts = flow.coordinator.counts
    assert counts.waited_for_steps_s == collecting.waited_s
    assert (counts.waited_for_lag_s > 0.3 * imagining.seconds) == (slow == "imagine")
