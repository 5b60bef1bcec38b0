"""Tests of the rollout pool: the learner's own answers, wherever they are given and given again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from distributed import rollout_pool
from distributed.learner_core import cut_rollout_request
from distributed.rollout_pool import Imagined, RolloutPool
from distributed.rollout_worker import RolloutWorker
from distributed.wire import from_arrow
from mnm import Agent, RolloutRequest, Transitions
from mnm.policy import numpy_weights
from mnm.rollouts import answer_rollout_request
from mnm.terminations import never_terminates
from tests.distributed.scripted_flow import ScriptedManager, ScriptedPool
from tests.mnm.small_cases import SPACES, assert_same_rows, random_transitions, small_agent

pytestmark = pytest.mark.usefixtures("local_ray")

# What Ray's fault handling reads of RLlib's config.
FAULTS = SimpleNamespace(
    restart_failed_env_runners=True,
    max_num_env_runner_restarts=1000,
    delay_between_env_runner_restarts_s=0,
)
PATIENCE_S = 60.0


def fitted_agent(algo: str = "mbpo", seed: int = 0) -> Agent:
    agent = small_agent(algo, seed=seed)
    agent.ingest(random_transitions(60))
    agent.fit_if_due()
    return agent


def weights_of(agent: Agent) -> tuple[Any, Any]:
    networks = agent.networks
    assert networks.dynamics is not None
    return ray.put(numpy_weights(networks.policy)), ray.put(numpy_weights(networks.dynamics))


def request_of(agent: Agent) -> RolloutRequest:
    request = agent.rollout_request()
    assert request is not None
    return request


@pytest.mark.parametrize("algo", ["mbpo", "mnm-approx", "mnm"])
def test_a_worker_answers_as_the_learner_would(algo: str) -> None:
    """Its networks start from other weights; those published make it the learner's equal."""
    agent = fitted_agent(algo)
    request = request_of(agent)
    worker = RolloutWorker(FAULTS, SPACES, agent.settings, never_terminates)
    (reference,), rows = worker.imagine(weights_of(agent), [ray.put(request)])
    answer = from_arrow(ray.get(reference))
    assert rows == len(answer) == len(request.start_observations) * request.length
    assert_same_rows(answer, agent.imagine(request))


def test_a_worker_takes_over_newer_weights() -> None:
    first, second = fitted_agent(), fitted_agent(seed=1)
    request = request_of(first)
    worker = RolloutWorker(FAULTS, SPACES, first.settings, never_terminates)
    for agent in (first, second, first):
        (reference,), _ = worker.imagine(weights_of(agent), [ray.put(request)])
        assert_same_rows(from_arrow(ray.get(reference)), agent.imagine(request))


def test_weights_are_fetched_only_when_they_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = fitted_agent()
    worker = RolloutWorker(FAULTS, SPACES, agent.settings, never_terminates)
    weights, request = weights_of(agent), [ray.put(request_of(agent))]
    fetched: list[Any] = []
    plain_get = ray.get
    monkeypatch.setattr(ray, "get", lambda what: fetched.append(what) or plain_get(what))
    worker.imagine(weights, request)
    worker.imagine(weights, request)
    assert fetched == [*weights, *request, *request]


@pytest.fixture(scope="module")
def pool(local_ray: None) -> Iterator[RolloutPool]:
    made = RolloutPool(FAULTS, 2, SPACES, fitted_agent().settings, never_terminates)
    assert len(made.manager.foreach_actor(lambda worker: worker.ping())) == 2
    yield made
    made.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    """Until something that other processes do has happened."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def take(pool: RolloutPool, count: int) -> list[Imagined]:
    answers: list[Imagined] = []

    def come_in() -> bool:
        answers.extend(pool.take())
        return len(answers) >= count

    wait_for(come_in)
    return answers


def rows_of(answers: list[Imagined]) -> Transitions:
    """All rows, in the order of the start states of `sorted_starts`."""
    batches = [from_arrow(ray.get(answer.reference)) for answer in answers]
    return Transitions.concatenate(sorted(batches, key=lambda batch: batch.observations[0, 0]))


def inline(agent: Agent, parts: list[RolloutRequest]) -> Transitions:
    """What the learner itself would have imagined for all parts."""
    networks = agent.networks
    assert networks.dynamics is not None
    answers = [
        answer_rollout_request(part, networks.policy, networks.dynamics, agent.settings, "cpu")
        for part in parts
    ]
    return Transitions.concatenate(sorted(answers, key=lambda batch: batch.observations[0, 0]))


def test_the_pool_answers_all_parts_as_the_learner_would(pool: RolloutPool) -> None:
    agent = fitted_agent()
    parts = cut_rollout_request(request_of(agent), 5)
    pool.submit([ray.put(part) for part in parts], weights_of(agent), published_at=60)
    assert pool.published_at == [60] * 5
    answers = take(pool, 5)
    assert_same_rows(rows_of(answers), inline(agent, parts))
    assert [answer.published_at for answer in answers] == [60] * 5
    assert sum(answer.rows for answer in answers) == len(inline(agent, parts))
    assert pool.published_at == []


@ray.remote(num_cpus=0)
class Gate:
    """Holds requests back until a test opens it."""

    def __init__(self) -> None:
        self.opened = False

    def open(self) -> None:
        self.opened = True

    async def request(self, request: RolloutRequest) -> RolloutRequest:
        import asyncio

        while not self.opened:
            await asyncio.sleep(0.01)
        return request


def test_newer_requests_replace_those_that_wait(pool: RolloutPool) -> None:
    agent = fitted_agent()
    weights, gate = weights_of(agent), Gate.remote()
    parts = cut_rollout_request(request_of(agent), 3)
    held = [gate.request.remote(part) for part in parts]
    pool.submit(held, weights, published_at=10)  # two run, one waits
    pool.submit([ray.put(part) for part in parts[:1]], weights, published_at=20)
    assert sorted(pool.published_at) == [10, 10, 20]
    ray.get(gate.open.remote())
    answers = take(pool, 3)
    assert sorted(answer.published_at for answer in answers) == [10, 10, 20]
    assert pool.published_at == []
    ray.kill(gate)


def test_a_request_whose_worker_is_killed_is_redone_elsewhere(pool: RolloutPool) -> None:
    agent = fitted_agent()
    gate = Gate.remote()
    parts = cut_rollout_request(request_of(agent), 2)
    pool.submit([gate.request.remote(part) for part in parts], weights_of(agent), published_at=60)
    victim, survivor = pool.manager.actor_ids()
    ray.kill(pool.manager.actors()[victim], no_restart=False)

    answers: list[Imagined] = []

    def noticed() -> bool:
        answers.extend(pool.take())
        return not pool.manager.is_actor_healthy(victim)

    wait_for(noticed)
    assert pool.manager.is_actor_healthy(survivor)
    assert not answers
    assert pool.published_at == [60, 60], "the lost request still counts for the weight lag"
    ray.get(gate.open.remote())
    answers += take(pool, 2)
    assert pool.manager.healthy_actor_ids() == [survivor]
    assert_same_rows(rows_of(answers), inline(agent, parts))
    ray.kill(gate)

    restarts: list[int] = []
    wait_for(lambda: restarts.append(pool.probe()) or sum(restarts) == 1)
    assert pool.manager.healthy_actor_ids() == [victim, survivor]
    parts = cut_rollout_request(request_of(agent_after(agent)), 4)
    pool.submit([ray.put(part) for part in parts], weights_of(agent), published_at=90)
    assert_same_rows(rows_of(take(pool, 4)), inline(agent, parts))


def scripted_pool(num_workers: int) -> tuple[RolloutPool, ScriptedManager]:
    manager = ScriptedManager(list(range(num_workers)))
    return ScriptedPool(manager), manager


def test_a_request_that_kills_every_worker_ends_the_run() -> None:
    made, manager = scripted_pool(2)
    made.submit(["a request"], ("policy", "model"), published_at=5)  # type: ignore[arg-type, list-item]
    deaths = 0

    def kill_again_and_again() -> None:
        nonlocal deaths
        while deaths < 20:
            (request,) = manager.open
            manager.die(request.actor_id)
            deaths += 1
            manager.unhealthy.clear()  # Ray has restarted it
            assert made.take() == []

    with pytest.raises(RuntimeError, match=r"died 6 times .* num_rollout_workers=0"):
        kill_again_and_again()
    assert deaths == 3 * 2


def test_workers_that_die_now_and_then_do_not_end_the_run() -> None:
    made, manager = scripted_pool(1)
    for _ in range(20):
        made.submit(["a request"], ("policy", "model"), published_at=5)  # type: ignore[arg-type, list-item]
        for _ in range(2):
            manager.die(0)
            manager.unhealthy.clear()
            assert made.take() == []
        manager.complete(manager.open[0], (["rows"], 3))
        assert [answer.rows for answer in made.take()] == [3]


@pytest.mark.parametrize(
    ("allowed", "restarts"), [({}, 1000), ({"restart_failed_env_runners": False}, 0)]
)
def test_workers_are_restarted_as_often_as_runners_may_be(
    allowed: dict[str, Any], restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(**options: Any) -> Any:
        asked.append(options["max_restarts"])
        raise StopIteration

    monkeypatch.setattr(ray, "remote", note)
    config = SimpleNamespace(**{**vars(FAULTS), **allowed})
    with pytest.raises(StopIteration):
        RolloutPool(config, 1, SPACES, fitted_agent().settings, never_terminates)
    assert asked == [restarts]


def test_a_pool_without_a_worker_that_comes_back_ends_the_run() -> None:
    config = SimpleNamespace(**{**vars(FAULTS), "restart_failed_env_runners": False})
    made = RolloutPool(config, 1, SPACES, fitted_agent().settings, never_terminates)
    (worker,) = made.manager.actors().values()
    ray.get(worker.ping.remote())
    assert made.probe() == 0
    ray.kill(worker)
    agent = fitted_agent()
    made.submit([ray.put(request_of(agent))], weights_of(agent), published_at=60)

    def noticed() -> bool:
        made.take()
        return not made.manager.num_healthy_actors()

    wait_for(noticed)
    with pytest.raises(RuntimeError, match="All rollout workers are dead"):
        made.probe()
    made.stop()


def test_workers_whose_own_code_fails_again_and_again_end_the_run(pool: RolloutPool) -> None:
    wait_for(lambda: pool.probe() >= 0 and len(pool.manager.healthy_actor_ids()) == 2)
    agent = fitted_agent()
    pool.submit([ray.put("no request")], weights_of(agent), published_at=5)
    with pytest.raises(AttributeError, match="'str' object"):
        take(pool, 1)
    assert len(pool.manager.healthy_actor_ids()) == 2, "the processes live"


def agent_after(agent: Agent) -> Agent:
    """The agent once its next rollouts are due."""
    agent.ingest(random_transitions(30, first=60))
    return agent


def test_a_worker_that_hangs_is_restarted_and_its_request_redone(
    pool: RolloutPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: pool.probe() >= 0 and len(pool.manager.healthy_actor_ids()) == 2)
    agent = fitted_agent()
    gate = Gate.remote()
    (part,) = cut_rollout_request(request_of(agent), 1)
    pool.submit([gate.request.remote(part)], weights_of(agent), published_at=5)
    monkeypatch.setattr(rollout_pool, "LONGEST_REQUEST_S", 0.0)
    pool.probe()
    monkeypatch.undo()
    answers: list[Imagined] = []

    def moved_on() -> bool:
        answers.extend(pool.take())
        return len(pool.manager.healthy_actor_ids()) == 1

    wait_for(moved_on)
    ray.get(gate.open.remote())
    assert_same_rows(rows_of(answers + take(pool, 1)), inline(agent, [part]))
    ray.kill(gate)
