"""Tests of branched rollouts: chains, ends, members, and the same answer wherever it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mnm import rollouts
from mnm.dynamics import DynamicsEnsemble
from mnm.policy import TanhGaussianPolicy, load_numpy_weights, numpy_weights
from mnm.rollouts import RolloutRequest, answer_rollout_request, branched_rollout
from mnm.terminations import TerminationFunction, never_terminates
from mnm.transitions import Transitions
from tests.mnm.small_cases import SPACES, random_transitions, small_agent, small_settings


def networks(
    termination: TerminationFunction | None = never_terminates,
) -> tuple[TanhGaussianPolicy, DynamicsEnsemble]:
    torch.manual_seed(0)
    settings = small_settings("mbpo")
    return (
        TanhGaussianPolicy(2, SPACES.action_low, SPACES.action_high, (8,)),
        DynamicsEnsemble(2, 1, settings, termination),
    )


def imagine(
    policy: TanhGaussianPolicy,
    dynamics: DynamicsEnsemble,
    starts: Tensor,
    length: int,
    seed: int = 0,
    elites_only: bool = True,
) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    return branched_rollout(policy, dynamics, starts, length, generator, elites_only)


@pytest.mark.parametrize("starts_at_once", [8192, 4])
def test_each_branch_is_a_chain_from_its_start(
    starts_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "STARTS_AT_ONCE", starts_at_once)
    starts = torch.randn(6, 2)
    rows = imagine(*networks(), starts, 4)
    assert len(rows) == 24
    for branch in range(6):
        of_branch = rows.episode_ids == branch
        np.testing.assert_array_equal(rows.steps[of_branch], [0, 1, 2, 3])
        observations = rows.observations[of_branch]
        np.testing.assert_array_equal(observations[0], starts[branch].numpy())
        np.testing.assert_array_equal(observations[1:], rows.next_observations[of_branch][:-1])
        np.testing.assert_array_equal(rows.truncateds[of_branch], [False, False, False, True])
    assert not rows.terminateds.any()


def test_columns_have_the_types_of_real_transitions() -> None:
    rows, real = imagine(*networks(), torch.randn(6, 2), 2), random_transitions(12)
    for name in vars(real):
        assert getattr(rows, name).dtype == getattr(real, name).dtype, name
        assert getattr(rows, name).shape == getattr(real, name).shape, name


def test_actions_explore_within_the_box() -> None:
    rows = imagine(*networks(), torch.zeros(200, 2), 1)
    assert rows.actions.min() >= SPACES.action_low
    assert rows.actions.max() <= SPACES.action_high
    assert rows.actions.std() > 0.1  # the same state, so all of it is the policy's noise


def test_ended_branches_are_dropped() -> None:
    def ends_below_zero(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return following[:, 0] < 0

    rows = imagine(*networks(ends_below_zero), torch.randn(40, 2), 5)
    np.testing.assert_array_equal(rows.terminateds, rows.next_observations[:, 0] < 0)
    assert 0 < rows.terminateds.sum() < 40
    for branch in range(40):
        of_branch = rows.episode_ids == branch
        ended = rows.terminateds[of_branch]
        assert not ended[:-1].any()
        assert ended[-1] or of_branch.sum() == 5
        assert rows.truncateds[of_branch][-1] == (not ended[-1])


def test_a_branch_is_paid_for_its_end_where_it_ends() -> None:
    def ends_below_zero(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return following[:, 0] < 0

    policy, dynamics = networks(ends_below_zero)
    with torch.no_grad():  # the rewards 3 of a step that goes on, and -5 of one that ends
        dynamics.networks.weights[-1][..., 2:4] = 0.0
        dynamics.networks.biases[-1][..., 2:4] = torch.tensor([3.0, -5.0])
    rows = imagine(policy, dynamics, torch.randn(40, 2), 5)
    assert 0 < rows.terminateds.sum() < len(rows)
    np.testing.assert_array_equal(rows.rewards, np.where(rows.terminateds, -5.0, 3.0))


def test_rollout_stops_when_every_branch_has_ended() -> None:
    def always_ends(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return torch.ones(len(following), dtype=torch.bool)

    rows = imagine(*networks(always_ends), torch.randn(7, 2), 5)
    assert len(rows) == 7
    assert rows.terminateds.all()
    assert not rows.truncateds.any()


def test_branches_that_a_diverging_model_sends_to_infinity_are_dropped() -> None:
    policy, dynamics = networks(never_terminates)
    starts = torch.randn(7, 2)
    starts[3] = torch.inf
    rows = imagine(policy, dynamics, starts, 2)
    assert sorted(rows.episode_ids) == sorted(2 * [0, 1, 2, 4, 5, 6])
    assert np.isfinite(rows.next_observations).all()
    assert len(imagine(policy, dynamics, starts[3:4], 2)) == 0


def test_a_learned_termination_ends_as_large_a_share_as_its_probability() -> None:
    """A task that ends by chance, never with more than one half, ends in imagination too."""
    policy, dynamics = networks(None)
    for probability in (0.2, 0.0, 1.0):
        dynamics.termination = (  # type: ignore[method-assign]
            lambda observations, *_, p=probability: torch.full((len(observations),), p)
        )
        rows = imagine(policy, dynamics, torch.randn(4000, 2), 1)
        assert rows.terminateds.mean() == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize(
    ("algo", "used"), [("mbpo", {2, 0}), ("mnm-approx", {2, 0}), ("mnm", {0, 1, 2})]
)
def test_members_that_imagine(algo: str, used: set[int]) -> None:
    """The elites; all of `mnm`, whose joint updates train all."""
    agent = small_agent(algo)
    dynamics = agent.networks.dynamics
    assert dynamics is not None
    dynamics.elites.copy_(torch.tensor([2, 0]))
    with torch.no_grad():  # the reward tells the member
        for parameter in dynamics.networks.parameters():
            parameter.zero_()
        dynamics.networks.biases[-1][:, 0, 2] = torch.arange(3.0)
    rows = agent.imagine(RolloutRequest(np.zeros((60, 2), np.float32), 1, seed=0))
    assert set(rows.rewards.tolist()) == used


@pytest.mark.parametrize("algo", ["mbpo", "mnm"])
def test_a_worker_with_the_same_weights_imagines_the_same(algo: str) -> None:
    agent = small_agent(algo, termination=None)
    agent.ingest(random_transitions(30))
    agent.fit_if_due()
    request = agent.rollout_request()
    assert request is not None
    here = agent.imagine(request)
    worker = small_agent(algo, termination=None, seed=99)
    assert agent.networks.dynamics is not None
    assert worker.networks.dynamics is not None
    load_numpy_weights(worker.networks.policy, numpy_weights(agent.networks.policy))
    load_numpy_weights(worker.networks.dynamics, numpy_weights(agent.networks.dynamics))
    there = answer_rollout_request(
        request, worker.networks.policy, worker.networks.dynamics, worker.settings, "cpu"
    )
    for name in vars(here):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert len(here) > 0
