"""Tests of the bound's live estimate: weights, imagined sums and real log returns by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnm.bound_estimate import horizon_weights, imagined_bounds, log_mean_exp, real_log_returns
from mnm.rewards import RewardTransform
from mnm.settings import Settings
from tests.mnm.small_cases import random_transitions, small_agent


def rewards_of(gamma: float, **changes: Any) -> RewardTransform:
    return RewardTransform(Settings.preset("mnm", gamma=gamma, **changes))


@pytest.mark.parametrize("gamma", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("horizon", [1, 2, 50])
def test_weights_are_those_of_the_finite_horizon_bound(gamma: float, horizon: int) -> None:
    log_total, reward_weights, ratio_weights = horizon_weights(gamma, horizon)
    total = sum(gamma**step for step in range(horizon))
    assert log_total == pytest.approx(math.log(total))
    for step in range(horizon):
        assert reward_weights[step] == pytest.approx(gamma**step / total)
        # The ratio of step t stands before every later reward: the share of the tail after it.
        tail = sum(gamma**later for later in range(step + 1, horizon)) / total
        assert ratio_weights[step] == pytest.approx(tail, abs=1e-9)
    assert reward_weights.sum() == pytest.approx(1.0)


def test_real_log_return_of_a_truncated_episode() -> None:
    rewards = rewards_of(0.9, reward_beta=2.0)
    values = np.array([0.5, -0.25, 0.0, 9.0])
    expected = sum(0.9**step * math.exp(2 * values[step]) for step in range(3))
    (log_return,) = real_log_returns([values], [False], rewards, 3)
    assert log_return == pytest.approx(math.log(expected))


@pytest.mark.parametrize(
    ("changes", "terminal_reward"),
    [
        ({"reward_transform": "exp"}, 1.0),
        ({"reward_transform": "shift", "reward_shift": 0.5}, 0.5),
        ({"reward_transform": "shift", "reward_shift": 0.5, "terminal_reward": 2.0}, 2.0),
    ],
)
def test_terminal_state_goes_on_paying(changes: dict[str, Any], terminal_reward: float) -> None:
    rewards = rewards_of(0.9, **changes)
    value = 0.25
    paid = math.exp(2 * value) if changes["reward_transform"] == "exp" else value + 0.5
    expected = paid + sum(0.9**step * terminal_reward for step in range(1, 6))
    (log_return,) = real_log_returns([np.array([value])], [True], rewards, 6)
    assert log_return == pytest.approx(math.log(expected))


def test_short_episode_that_goes_on_is_refused() -> None:
    episodes, ends = [np.zeros(5), np.zeros(3)], [False, False]
    with pytest.raises(ValueError, match="Episode 1 has 3 steps and did not terminate"):
        real_log_returns(episodes, ends, rewards_of(0.9), 5)


def test_log_of_the_mean_is_not_the_mean_of_the_logs() -> None:
    values = np.log(np.array([1.0, 3.0]))
    assert log_mean_exp(values) == pytest.approx(math.log(2))
    both = np.stack([values, values + 500], axis=0)
    np.testing.assert_allclose(log_mean_exp(both), [math.log(2), math.log(2) + 500])


def test_imagined_sum_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows that count their steps; row 1 ends on reaching 2, and then pays 1 for ever."""
    gamma, horizon = 0.8, 4

    def ends_at_two(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return (following[:, 1] > 0) & (following[:, 0] == 2)

    agent = small_agent("mnm", gamma=gamma, reward_beta=1.0, termination=ends_at_two)
    dynamics, classifier = agent.networks.dynamics, agent.networks.classifier
    assert dynamics is not None
    assert classifier is not None
    agent.rewards.smallest = -100.0

    def count(observations: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        step = torch.tensor([1.0, 0.0])
        return observations + step, observations[:, 0] + 1

    monkeypatch.setattr(dynamics, "sample", count)
    # Input: (s, a, s' - s), not normalised yet. The logit is 10 times the position before.
    monkeypatch.setattr(classifier, "forward", lambda inputs: 10 * inputs[:, 0])
    bounds = imagined_bounds(
        agent.networks.policy,
        dynamics,
        classifier,
        agent.rewards,
        torch.tensor([[0.0, 0.0], [0.0, 1.0]]),
        horizon,
        agent.generator,
    )
    total = sum(gamma**step for step in range(horizon))
    tails = [
        sum(gamma**later for later in range(step + 1, horizon)) / total for step in range(horizon)
    ]
    alive = sum(
        gamma**step / total * (step + 1) + tails[step] * 10 * step for step in range(horizon)
    )
    # Row 1 earns 1 and 2 like row 0; then log 1 = 0 and no log ratio.
    ended = sum(gamma**step / total * (step + 1) + tails[step] * 10 * step for step in range(2))
    expected = [math.log(total) + alive, math.log(total) + ended]
    assert bounds.tolist() == pytest.approx(expected, abs=1e-4)


def test_perfect_model_of_a_constant_reward_meets_the_log_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = small_agent("mnm", gamma=0.9)
    dynamics, classifier = agent.networks.dynamics, agent.networks.classifier
    assert dynamics is not None
    assert classifier is not None
    agent.rewards.smallest = 0.3
    monkeypatch.setattr(
        dynamics, "sample", lambda rows, *rest: (rows, torch.full((len(rows),), 0.3))
    )
    monkeypatch.setattr(classifier, "forward", lambda inputs: torch.zeros(len(inputs)))
    bounds = imagined_bounds(
        agent.networks.policy,
        dynamics,
        classifier,
        agent.rewards,
        torch.zeros(3, 2),
        30,
        agent.generator,
    )
    (log_return,) = real_log_returns([np.full(30, 0.3)], [False], agent.rewards, 30)
    assert bounds.tolist() == pytest.approx([log_return] * 3, abs=1e-4)


@pytest.mark.parametrize("algo", ["mnm", "mnm-approx"])
def test_agent_imagines_as_many_bounds_as_asked_for(algo: str) -> None:
    agent = small_agent(algo, termination=None, bound_rollouts=9, bound_horizon=5)
    rows = random_transitions(30)
    agent.ingest(rows)
    agent.learn()
    bounds = agent.imagine_bounds(rows.observations[:4])
    assert bounds.shape == (9,)
    assert np.isfinite(bounds).all()
