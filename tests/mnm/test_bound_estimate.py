"""Tests of the live estimate of the bound, on a task where the bound is known exactly."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from mnm import DataRefused, Settings
from mnm.bound_estimate import (
    bound_samples,
    horizon_weights,
    imagined_bounds,
    log_mean_exp,
    real_log_returns,
)
from mnm.classifier import TransitionClassifier
from mnm.rewards import RewardTransform
from tests.mnm import linear_gaussian
from tests.mnm.linear_gaussian import MODEL, REAL, REWARD_SLOPE, ModelOfTheTask

GAMMA, BETA, HORIZON, START = 0.9, 1.5, 30, 0.2


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.preset("mnm", gamma=GAMMA, reward_beta=BETA, classifier_label_smoothing=0.0)


@pytest.fixture(scope="module")
def trained_classifier(settings: Settings) -> TransitionClassifier:
    """A classifier trained as the agent's: the same (s, a), s' from both dynamics."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = ModelOfTheTask()
    classifier = TransitionClassifier(1, 1, settings)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for step in range(3000):
        if step == 2000:
            optimizer.param_groups[0]["lr"] = 1e-4
        observations = torch.randn(512, 1, generator=generator)
        actions = torch.rand(512, 1, generator=generator) * 2 - 1
        halves = [
            classifier.inputs(
                model.normaliser, observations, actions, task.draw(observations, actions, generator)
            )
            for task in (REAL, MODEL)
        ]
        loss, *_ = classifier.loss(*halves, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier


class ExactLogit(TransitionClassifier):
    """The true log p/q in the place of a classifier's logit."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        observations, actions, changes = inputs.split(1, dim=-1)
        return linear_gaussian.log_ratio(observations, actions, observations + changes)


def imagine(classifier: TransitionClassifier, settings: Settings, count: int) -> np.ndarray:
    rewards = RewardTransform(settings)
    rewards.smallest, rewards.largest = -100.0, 100.0
    samples, _ = imagined_bounds(
        linear_gaussian.state_independent_policy(0.3, 0.5),
        ModelOfTheTask(),  # type: ignore[arg-type]
        classifier,
        rewards,
        torch.full((count, 1), START),
        HORIZON,
        torch.Generator().manual_seed(2),
    )
    return samples.numpy()


def exact() -> float:
    policy = linear_gaussian.state_independent_policy(0.3, 0.5)
    return linear_gaussian.exact_bound(policy, START, GAMMA, BETA, HORIZON)


def test_classifier_logits_match_the_log_ratio(trained_classifier: TransitionClassifier) -> None:
    generator = torch.Generator().manual_seed(3)
    observations = torch.randn(4000, 1, generator=generator)
    actions = torch.rand(4000, 1, generator=generator) * 2 - 1
    following = torch.cat(
        [
            task.draw(observations[half], actions[half], generator)
            for task, half in ((REAL, slice(0, 2000)), (MODEL, slice(2000, None)))
        ]
    )
    normaliser = ModelOfTheTask().normaliser
    with torch.no_grad():
        logits = trained_classifier(
            trained_classifier.inputs(normaliser, observations, actions, following)
        )
    truth = linear_gaussian.log_ratio(observations, actions, following)
    correlation = float(torch.corrcoef(torch.stack([logits, truth]))[0, 1])
    assert correlation > 0.95
    slope = float((logits * truth).mean() / truth.square().mean())
    assert slope == pytest.approx(1.0, abs=0.1)


def test_estimate_with_exact_logits_equals_the_exact_bound(settings: Settings) -> None:
    samples = imagine(ExactLogit(1, 1, settings), settings, 40_000)
    error = samples.std() / math.sqrt(len(samples))
    assert samples.mean() == pytest.approx(exact(), abs=3 * float(error))
    assert error < 0.02


def test_estimate_of_a_trained_classifier_covers_the_exact_bound(
    settings: Settings, trained_classifier: TransitionClassifier
) -> None:
    samples = imagine(trained_classifier, settings, 256)
    half_width = 1.96 * samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - exact()) < half_width
    assert half_width < 0.3


def test_the_exact_bound_lies_below_the_log_return(settings: Settings) -> None:
    policy = linear_gaussian.state_independent_policy(0.3, 0.5)
    generator = torch.Generator().manual_seed(4)
    observations = torch.full((5000, 1), START)
    rewards = []
    for _ in range(HORIZON):
        rewards.append(REWARD_SLOPE * observations[:, 0])
        noise = torch.randn(5000, 1, generator=generator)
        actions = policy.sample(observations, noise)[0].detach()
        observations = REAL.draw(observations, actions, generator)
    episodes = list(torch.stack(rewards, 1).numpy())
    log_returns = real_log_returns(
        episodes, [False] * len(episodes), RewardTransform(settings), HORIZON
    )
    assert exact() < log_mean_exp(log_returns)


def test_weights_of_the_horizon_add_up() -> None:
    log_total, reward_weights, ratio_weights = horizon_weights(GAMMA, HORIZON)
    assert math.exp(log_total) == pytest.approx(sum(GAMMA**t for t in range(HORIZON)))
    assert reward_weights.sum() == pytest.approx(1.0)
    # A transition counts with the weight of all rewards that come after it.
    after = np.append(np.cumsum(reward_weights[::-1])[::-1][1:], 0.0)
    np.testing.assert_allclose(ratio_weights, after, atol=1e-12)


def test_a_terminated_episode_earns_the_terminal_reward_for_the_rest(settings: Settings) -> None:
    rewards = RewardTransform(settings)  # exp: the terminal reward is transform(0) = 1
    (short,) = real_log_returns([np.array([0.5, 0.2])], [True], rewards, 10)
    values = np.exp(BETA * np.array([0.5, 0.2, *[0.0] * 8]))
    assert short == pytest.approx(math.log((GAMMA ** np.arange(10) * values).sum()))


def test_a_short_episode_that_did_not_terminate_is_refused(settings: Settings) -> None:
    with pytest.raises(DataRefused, match="Episode 0 has 2 steps and did not terminate"):
        real_log_returns([np.zeros(2)], [False], RewardTransform(settings), 10)


def test_a_reward_of_an_evaluation_that_has_no_logarithm_is_refused(settings: Settings) -> None:
    shift = dataclasses.replace(settings, reward_transform="shift", reward_shift=1.0)
    episodes = [np.ones(3), np.array([1.0, 2.0, -1.5])]
    sentence = "reward -1.5 at evaluation episode 1, step 2 is not positive with reward_shift=1:"
    with pytest.raises(DataRefused, match=sentence):
        real_log_returns(episodes, [False, False], RewardTransform(shift), 3)
    assert np.isfinite(real_log_returns(episodes, [False, False], RewardTransform(shift), 2)).all()


class StandsStill(ModelOfTheTask):
    """A step pays 0.5, one that ends 0.8."""

    def sample(self, observations: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return observations, torch.tensor([0.5, 0.8]).expand(len(observations), 2)


def test_imagined_terminations_are_absorbing(settings: Settings) -> None:
    """The first step's reward and log-ratio count, and of the rest the terminal reward alone."""
    logit, log_terminal, steps = 0.7, math.log(0.5), 4

    class EndsAtOnce(StandsStill):
        def ends(self, observations: torch.Tensor, *_: object) -> torch.Tensor:
            return torch.ones(len(observations), dtype=torch.bool)

    class AlwaysTheSame(TransitionClassifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.full((len(inputs),), logit)

    rewards = RewardTransform(dataclasses.replace(settings, terminal_reward=0.5))
    rewards.smallest, rewards.largest = -100.0, 100.0
    samples, log_returns = imagined_bounds(
        linear_gaussian.state_independent_policy(0.0, 0.0),
        EndsAtOnce(),  # type: ignore[arg-type]
        AlwaysTheSame(1, 1, settings),
        rewards,
        torch.full((4, 1), START),
        steps,
        torch.Generator().manual_seed(0),
    )
    log_rewards = np.array([BETA * 0.8, *[log_terminal] * (steps - 1)])
    log_total, reward_weights, ratio_weights = horizon_weights(GAMMA, steps)
    expected = log_total + reward_weights @ log_rewards + ratio_weights[0] * logit
    np.testing.assert_allclose(samples.numpy(), expected, rtol=1e-5)
    of_return = math.log((GAMMA ** np.arange(steps) * np.exp(log_rewards)).sum())
    np.testing.assert_allclose(log_returns.numpy(), of_return, rtol=1e-5)


def test_the_horizon_is_that_of_the_shortest_episode_a_time_limit_cut(settings: Settings) -> None:
    """Terminated ones may be shorter; longer ones count up to there."""
    rewards = RewardTransform(settings)
    rewards.smallest, rewards.largest = -100.0, 100.0
    episodes = [np.full(length, 0.5) for length in (7, 2, 5, 6)]
    samples = bound_samples(
        linear_gaussian.state_independent_policy(0.0, 0.0),
        StandsStill(),  # type: ignore[arg-type]
        ExactLogit(1, 1, settings),
        rewards,
        dataclasses.replace(settings, bound_horizon=20, bound_rollouts=3),
        torch.full((4, 1), START),
        episodes,
        [True, True, False, False],
        torch.Generator().manual_seed(0),
    )
    assert samples.horizon == 5
    assert len(samples.bounds) == len(samples.imagined_log_returns) == 3
    discounts = GAMMA ** np.arange(5)
    for number, paid in enumerate((5, 2, 5, 5)):
        values = np.exp(BETA * np.array([0.5] * paid + [0.0] * (5 - paid)))
        expected = math.log((discounts * values).sum())
        assert samples.real_log_returns[number] == pytest.approx(expected)


def test_imagined_log_returns_are_those_of_the_model(settings: Settings) -> None:
    """A still task pays the same every step: sum gamma^t exp(beta r)."""
    rewards = RewardTransform(settings)
    rewards.smallest = -100.0
    steps = 3
    for largest, reward in ((1.0, 0.5), (0.25, 0.25)):
        rewards.largest = largest
        _, log_returns = imagined_bounds(
            linear_gaussian.state_independent_policy(0.0, 0.0),
            StandsStill(),  # type: ignore[arg-type]
            ExactLogit(1, 1, settings),
            rewards,
            torch.full((2, 1), START),
            steps,
            torch.Generator().manual_seed(0),
        )
        expected = math.log(sum(GAMMA**step * math.exp(BETA * reward) for step in range(steps)))
        np.testing.assert_allclose(log_returns.numpy(), expected, rtol=1e-5)
