"""Learner: joint updates a second against a plain PyTorch loop and the arithmetic limit."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.learner_device import ACTION_DIM, OBSERVATION_DIM, ROWS, ready_agent
from benchmarks.measure import Row, compare, rate
from benchmarks.plain_sac import PlainSAC
from mnm import ALGORITHMS, Agent, Settings

BATCH_SIZE, HIDDEN = 256, 256
MATRIX = 1024  # of the product that gives the arithmetic limit


def sac_flops() -> float:
    """Floating-point operations of one SAC update, counting the matrix products only.

    A forward pass costs 2 operations a weight and row; a backward pass as much again for the
    weights and, behind the first layer, for the inputs.
    """

    def weights(inputs: int, outputs: int) -> int:
        return inputs * HIDDEN + HIDDEN * HIDDEN + HIDDEN * outputs

    policy = weights(OBSERVATION_DIM, 2 * ACTION_DIM)
    critic = weights(OBSERVATION_DIM + ACTION_DIM, 1)
    forward = 2 * BATCH_SIZE
    target = forward * (policy + 2 * critic)
    critic_step = 3 * forward * 2 * critic - forward * 2 * (OBSERVATION_DIM + ACTION_DIM) * HIDDEN
    policy_step = 3 * forward * policy - forward * OBSERVATION_DIM * HIDDEN
    through_critics = 2 * forward * 2 * critic
    return target + critic_step + policy_step + through_critics


def arithmetic_rate() -> float:
    """Operations a second of the best single-thread float32 product."""
    left, right = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)

    def product() -> int:
        torch.mm(left, right)
        return 2 * MATRIX**3

    return max(rate(product) for _ in range(20))


def make_updates(agent: Agent, updates: int) -> int:
    """Makes joint updates; returns how many."""
    agent.joint_update.run(updates)
    return updates


def rows(quick: bool) -> list[Row]:
    """One row per algorithm; SAC's with the plain loop as its peer and the arithmetic limit."""
    updates, repeats = (15, 3) if quick else (150, 5)
    peer = PlainSAC(OBSERVATION_DIM, ACTION_DIM, HIDDEN, BATCH_SIZE, ROWS)

    def plain() -> int:
        for _ in range(updates):
            peer.update()
        return updates

    results = []
    for algo in ALGORITHMS:
        agent = ready_agent(
            Settings.preset(algo, num_random_steps=0, dynamics_max_fit_steps=10), "cpu"
        )

        plain_peer = plain if algo == "sac" else None
        limit = arithmetic_rate() / sac_flops() if algo == "sac" else None
        results.append(
            compare(
                f"learner: {algo}, 256x256, batch 256",
                "updates/s",
                partial(make_updates, agent, updates),
                plain_peer,
                "plain PyTorch loop",
                limit,
                repeats,
            )
        )
    return results
