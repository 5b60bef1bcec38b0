"""Tests of the stopping head: its value by hand, and its optimum against the exact one."""

from __future__ import annotations

import math

import pytest
import torch

from mnm.normaliser import Normaliser
from mnm.stopping import StoppingHead
from tests.mnm.small_cases import small_settings


def head_of(gamma: float = 0.9, smallest: float = 1e-3) -> StoppingHead:
    torch.manual_seed(0)
    return StoppingHead(2, 1, small_settings("mnm", gamma=gamma, stop_probability_min=smallest))


@pytest.mark.parametrize("gamma", [0.3, 0.9, 0.99])
def test_head_starts_at_the_fixed_discount(gamma: float) -> None:
    with torch.no_grad():
        stop = head_of(gamma)(Normaliser(2, 1), torch.randn(20, 2), torch.randn(20, 1))
    torch.testing.assert_close(stop, torch.full((20,), 1 - gamma), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0001, 0.9999])
def test_start_keeps_to_the_bounds_of_the_head(gamma: float) -> None:
    with torch.no_grad():
        stop = head_of(gamma, 0.01)(Normaliser(2, 1), torch.randn(5, 2), torch.randn(5, 1))
    assert float(stop.min()) > 0.01
    assert float(stop.max()) < 0.99


def test_head_keeps_its_bounds() -> None:
    head = head_of(smallest=0.05)
    with torch.no_grad():
        head.network.weights[-1].normal_(0, 1000)
        stop = head(Normaliser(2, 1), torch.randn(200, 2), torch.randn(200, 1))
    assert float(stop.min()) == pytest.approx(0.05, abs=1e-6)
    assert float(stop.max()) == pytest.approx(0.95, abs=1e-6)


def test_value_in_numbers() -> None:
    stop, log_reward = torch.tensor([0.25]), torch.tensor([2.0])
    value = StoppingHead.value(stop, log_reward, torch.tensor([3.0]), 0.9)
    expected = 0.25 * (2 - math.log(0.25)) + 0.75 * (math.log(0.9) - math.log(0.75) + 3)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_value_at_the_fixed_stop_probability_is_the_tighter_fixed_bound() -> None:
    """At k = 1 - gamma it is the bound whose log ratio has the coefficient gamma."""
    gamma = 0.9
    log_reward, following = torch.randn(10), torch.randn(10)
    value = StoppingHead.value(torch.full((10,), 1 - gamma), log_reward, following, gamma)
    expected = (1 - gamma) * (log_reward - math.log(1 - gamma)) + gamma * following
    torch.testing.assert_close(value, expected)


def test_best_stop_probability_is_the_share_of_the_reward() -> None:
    """With one s' the best k is r / (r + gamma exp(V)), and the value is log(r + gamma exp(V))."""
    gamma = 0.9
    log_reward = torch.randn(8, dtype=torch.float64)
    following = torch.randn(8, dtype=torch.float64)
    total = log_reward.exp() + gamma * following.exp()
    best = log_reward.exp() / total
    value = StoppingHead.value(best, log_reward, following, gamma)
    torch.testing.assert_close(value, total.log())
    for other in (best * 0.9, 1 - (1 - best) * 0.9):
        assert bool((StoppingHead.value(other, log_reward, following, gamma) < value).all())


def test_trained_head_finds_the_best_stop_probability() -> None:
    head, normaliser, gamma = head_of(), Normaliser(2, 1), 0.9
    observations = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(16, 1)
    actions, log_reward = torch.zeros(32, 1), torch.tensor([1.0, -1.0]).repeat(16)
    following = torch.tensor([0.5, 1.5]).repeat(16)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(500):
        stop = head(normaliser, observations, actions)
        loss = -StoppingHead.value(stop, log_reward, following, gamma).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = log_reward.exp() / (log_reward.exp() + gamma * following.exp())
    torch.testing.assert_close(head(normaliser, observations, actions), best, atol=0.01, rtol=0)
