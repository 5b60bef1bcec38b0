"""Model rollouts: imagined transitions a second, in the learner and through the pool of workers."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import ray

from benchmarks.learner import arithmetic_rate
from benchmarks.learner_device import ACTION_DIM, OBSERVATION_DIM, ready_agent
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, compare
from distributed.learner_core import cut_rollout_request
from distributed.rollout_pool import RolloutPool
from distributed.wire import from_arrow
from mnm import Agent, RolloutRequest, Settings
from mnm.policy import numpy_weights
from mnm.terminations import never_terminates
from rllib_ext import MnMConfig

LENGTHS = (1, 5, 15)
STARTS = (10_000, 100_000)
THROUGH_POOL = 100_000  # transitions


def rollout_flops(settings: Settings) -> float:
    """Floating-point operations of one imagined transition, matrix products only."""
    hidden, model_hidden = settings.hidden_sizes, settings.dynamics_hidden_sizes
    policy = [OBSERVATION_DIM, *hidden, 2 * ACTION_DIM]
    model = [OBSERVATION_DIM + ACTION_DIM, *model_hidden, 2 * OBSERVATION_DIM + 2]
    return 2 * sum(
        fan_in * fan_out for widths in (policy, model) for fan_in, fan_out in pairwise(widths)
    )


def inline(agent: Agent, request: RolloutRequest) -> int:
    """Imagines in this process and stores; returns the transitions."""
    transitions = agent.imagine(request)
    agent.ingest_synthetic(transitions)
    return len(transitions)


def through_pool(agent: Agent, pool: RolloutPool, workers: int, request: RolloutRequest) -> int:
    """The same by the workers: weights and request out, batches back and stored."""
    networks = agent.networks
    assert networks.dynamics is not None
    weights = (
        ray.put(numpy_weights(networks.policy)),
        ray.put(numpy_weights(networks.dynamics)),
    )
    parts = [ray.put(part) for part in cut_rollout_request(request, workers)]
    pool.submit(parts, weights, published_at=0)
    transitions, answers = 0, 0
    while answers < len(parts):
        # As the coordinator waits; asking `take` over and over would cost the workers a core.
        ray.wait(list(pool.manager._in_flight_req_to_actor_id), num_returns=1, fetch_local=False)
        for answer in pool.take():
            agent.ingest_synthetic(from_arrow(ray.get(answer.reference)))
            transitions += answer.rows
            answers += 1
    return transitions


def rows(quick: bool) -> list[Row]:
    """Inline by length and number of starts with the arithmetic limit; then pools of 1 and 2."""
    repeats = 3 if quick else 5
    starts = STARTS[:1] if quick else STARTS
    pooled = THROUGH_POOL // 10 if quick else THROUGH_POOL
    settings = Settings.preset(
        "mbpo",
        num_random_steps=0,
        dynamics_max_fit_steps=10,
        # Room for the largest request, so that none of it is left out of the buffer.
        rollout_schedule=(0, 1, max(LENGTHS), max(LENGTHS)),
        rollouts_per_step=max(starts),
        synthetic_retention=1,
        rollout_interval=1,
    )
    agent = ready_agent(settings, "cpu")

    def request(count: int, length: int) -> RolloutRequest:
        states = agent.replay.sample(count, agent.generator).observations.numpy()
        return RolloutRequest(states, length, seed=0)

    limit = arithmetic_rate() / rollout_flops(settings)
    results = [
        compare(
            f"rollouts: inline, {count:,} starts, length {length}",
            "transitions/s",
            partial(inline, agent, request(count, length)),
            limit=limit,
            repeats=repeats,
        )
        for count in starts
        for length in LENGTHS
    ]
    spaces, plain = agent.spaces, MnMConfig()
    with local_ray(num_cpus=2):
        # Of two workers, a request that is not cut keeps only one at work.
        pool = RolloutPool(plain, 2, spaces, settings, never_terminates)
        for workers in (1, 2):
            for length in (1, 5):
                task = request(pooled // length, length)
                results.append(
                    compare(
                        f"rollouts: {workers} worker{'s' * (workers > 1)}, "
                        f"{len(task.start_observations):,} starts, length {length}",
                        "transitions/s",
                        partial(through_pool, agent, pool, workers, task),
                        partial(inline, agent, task),
                        "inline",
                        repeats=repeats,
                    )
                )
        pool.stop()
    return results
