"""Tests of the stopping head and of the learned-stopping target."""

from __future__ import annotations

import math

import pytest
import torch

from mnm import Settings
from mnm.normaliser import Normaliser
from mnm.stopping import StoppingHead
from mnm.tabular import learned_stopping_bound, policy_value, tight_dynamics_and_stopping


def test_starts_at_the_fixed_bound() -> None:
    settings = Settings.preset("mnm", bound="learned-stopping", gamma=0.95)
    head = StoppingHead(3, 2, settings)
    stop = head(Normaliser(3, 2), torch.randn(50, 3), torch.randn(50, 2))
    torch.testing.assert_close(stop, torch.full((50,), 0.05))
    log_reward, following = torch.randn(50), torch.randn(50)
    fixed = (
        0.05 * log_reward + 0.95 * following - 0.05 * math.log(0.05)
    )  # gamma log gamma - gamma log gamma cancels
    torch.testing.assert_close(head.value(stop, log_reward, following, 0.95), fixed)


def test_probabilities_stay_inside_their_limits() -> None:
    settings = Settings.preset("mnm", bound="learned-stopping", stop_probability_min=0.01)
    head = StoppingHead(1, 1, settings)
    with torch.no_grad():
        for bias, limit in ((1000.0, 0.99), (-1000.0, 0.01)):
            head.network.biases[-1].fill_(bias)
            stop = head(Normaliser(1, 1), torch.zeros(3, 1), torch.zeros(3, 1))
            torch.testing.assert_close(stop, torch.full((3,), limit))


def test_the_best_probability_solves_the_one_step_problem() -> None:
    """At k = r / (r + gamma exp(following)) the target is log(r + gamma exp(following))."""
    log_reward, following, gamma = torch.tensor([0.3]), torch.tensor([1.7]), 0.9
    best = torch.sigmoid(log_reward - math.log(gamma) - following)
    expected = torch.logaddexp(log_reward, math.log(gamma) + following)
    torch.testing.assert_close(StoppingHead.value(best, log_reward, following, gamma), expected)
    for other in (0.5 * best, 0.5 * best + 0.5):
        assert StoppingHead.value(other, log_reward, following, gamma) < expected


def test_iterating_the_target_gives_the_exact_tabular_bound() -> None:
    """The deep target on tables is the fixed point that `learned_stopping_bound` solves."""
    generator = torch.Generator().manual_seed(0)
    states, actions, gamma = 4, 2, 0.8
    dynamics = torch.rand(states, actions, states, generator=generator, dtype=torch.float64) + 0.05
    dynamics /= dynamics.sum(-1, keepdim=True)
    policy = torch.zeros(states, actions, dtype=torch.float64)
    policy[:, 0] = 1.0  # deterministic: the tight construction is exact
    reward = torch.rand(states, actions, generator=generator, dtype=torch.float64) + 0.1
    model, stop = (
        torch.as_tensor(part)
        for part in tight_dynamics_and_stopping(
            dynamics.numpy(), policy.numpy(), reward.numpy(), gamma
        )
    )
    log_ratio = torch.where(model > 0, torch.log(dynamics / model), torch.zeros(()))
    value = torch.zeros(states, dtype=torch.float64)
    for _ in range(400):
        following = (model * (log_ratio + value)).sum(-1)
        q = StoppingHead.value(stop, reward.log(), following, gamma)
        value = (policy * q).sum(-1)
    arrays = (part.numpy() for part in (dynamics, model, stop, policy, reward))
    exact = learned_stopping_bound(*arrays, gamma)
    assert value.numpy() == pytest.approx(exact, abs=1e-9)
    real, _ = policy_value(dynamics.numpy(), policy.numpy(), reward.numpy(), gamma)
    assert value.exp().numpy() == pytest.approx(real, rel=1e-9)
