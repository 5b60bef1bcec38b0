"""Branched model rollouts: the one function that imagines, in the learner and in the pool alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnm.dynamics import DynamicsEnsemble, given_end
from mnm.policy import TanhGaussianPolicy
from mnm.settings import Settings
from mnm.transitions import Transitions


@dataclass(frozen=True)
class RolloutRequest:
    """States to branch model rollouts from.

    Attributes:
        start_observations: float32 [N, obs] from the real replay.
        length: steps at the most.
        seed: of the rollout's random numbers.
    """

    start_observations: np.ndarray
    length: int
    seed: int


# Start states imagined together on a CPU: with more, the layers' outputs leave its caches.
STARTS_AT_ONCE = 8192


@torch.no_grad()
def branched_rollout(
    policy: TanhGaussianPolicy,
    dynamics: DynamicsEnsemble,
    start_observations: Tensor,
    length: int,
    generator: torch.Generator,
    elites_only: bool,
) -> Transitions:
    """Imagines short trajectories from real states (MBPO: Janner et al. 2019, algorithm 2).

    Each step draws every row's next state from a random member of the ensemble; a row whose task
    has ended is dropped, and so is, with the step itself, one that a diverging model sends to
    infinity.

    Args:
        policy: acts, with exploration noise.
        dynamics: imagines.
        start_observations: [N, obs] states of real transitions, on the networks' device.
        length: steps at the most.
        generator: on the same device.
        elites_only: draw from the elites (mbpo, mnm-approx) or from every member (mnm).

    Returns:
        At most N * length transitions, step by step in blocks of start states; `episode_ids` are
        the rows of `start_observations`.
    """
    size = STARTS_AT_ONCE if start_observations.device.type == "cpu" else len(start_observations)
    parts: list[Transitions] = []
    for first in range(0, len(start_observations), size):
        starts = start_observations[first : first + size]
        parts += _rollout_parts(policy, dynamics, starts, first, length, generator, elites_only)
    return Transitions.concatenate(parts)


def _rollout_parts(
    policy: TanhGaussianPolicy,
    dynamics: DynamicsEnsemble,
    observations: Tensor,
    first: int,
    length: int,
    generator: torch.Generator,
    elites_only: bool,
) -> list[Transitions]:
    """One block of `branched_rollout`, a part per step; `first` is the number of its first row."""
    members = dynamics.elites if elites_only else None
    rows = torch.arange(first, first + len(observations), device=observations.device)
    parts: list[Transitions] = []
    for step in range(length):
        actions = policy.explore(observations, generator)
        next_observations, rewards = dynamics.sample(observations, actions, generator, members)
        finite = next_observations.isfinite().all(-1) & rewards.isfinite().all(-1)
        if not finite.all():
            observations, actions, rows = observations[finite], actions[finite], rows[finite]
            next_observations, rewards = next_observations[finite], rewards[finite]
        ended = dynamics.ends(observations, actions, next_observations, generator)
        terminateds = ended.cpu().numpy()
        parts.append(
            Transitions(
                observations=observations.cpu().numpy(),
                actions=actions.cpu().numpy(),
                rewards=given_end(rewards, ended).cpu().numpy(),
                next_observations=next_observations.cpu().numpy(),
                terminateds=terminateds,
                truncateds=~terminateds & (step == length - 1),
                episode_ids=rows.cpu().numpy(),
                steps=np.full(len(rows), step, dtype=np.int64),
            )
        )
        alive = ~ended
        observations, rows = next_observations[alive], rows[alive]
        if len(rows) == 0:
            break
    return parts


def answer_rollout_request(
    request: RolloutRequest,
    policy: TanhGaussianPolicy,
    dynamics: DynamicsEnsemble,
    settings: Settings,
    device: torch.device | str,
) -> Transitions:
    """Branched rollouts for `request`: the same numbers wherever it is answered, on one kind of
    device."""
    generator = torch.Generator(device).manual_seed(request.seed)
    return branched_rollout(
        policy,
        dynamics,
        torch.as_tensor(request.start_observations, device=device),
        request.length,
        generator,
        elites_only=settings.algo != "mnm",
    )
