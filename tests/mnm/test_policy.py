"""Tests of the tanh-Gaussian policy against torch's distributions, and of its NumPy twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from mnm.policy import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    NumpyPolicy,
    TanhGaussianPolicy,
    load_numpy_weights,
    numpy_weights,
)

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)
CENTER, HALF_RANGE = torch.tensor([0.0, 2.5]), torch.tensor([2.0, 2.5])


@pytest.fixture
def policy() -> TanhGaussianPolicy:
    torch.manual_seed(0)
    return TanhGaussianPolicy(3, LOW, HIGH, (16, 8))


def test_log_probability_is_that_of_torch_distributions(policy: TanhGaussianPolicy) -> None:
    observations, noise = torch.randn(50, 3), torch.randn(50, 2)
    mean, log_std = policy.distribution(observations)
    actions, log_probability = policy.sample(observations, noise)
    squashed = TransformedDistribution(
        Independent(Normal(mean.double(), log_std.double().exp()), 1),
        [TanhTransform(cache_size=1)],
    )
    unscaled = torch.tanh(mean.double() + log_std.double().exp() * noise.double())
    torch.testing.assert_close(
        log_probability.double(), squashed.log_prob(unscaled), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(actions, CENTER + HALF_RANGE * unscaled.float())


def test_density_integrates_to_one_over_the_actions() -> None:
    torch.manual_seed(1)
    policy = TanhGaussianPolicy(1, LOW[:1], HIGH[:1], (8,)).double()
    observation = torch.randn(1, 1, dtype=torch.float64)
    mean, log_std = policy.distribution(observation)
    unsquashed = torch.linspace(-12, 12, 40_001, dtype=torch.float64).unsqueeze(-1)
    noise = (unsquashed - mean) / log_std.exp()
    actions, log_probability = policy.sample(observation.expand(len(noise), 1), noise)
    on_unit_scale = actions.squeeze(-1) / float(HALF_RANGE[0])
    total = torch.trapezoid(log_probability.exp(), on_unit_scale)
    assert total.item() == pytest.approx(1.0, abs=1e-3)


def test_log_probability_stays_finite_far_out(policy: TanhGaussianPolicy) -> None:
    observations = torch.randn(4, 3)
    noise = torch.tensor([[-30.0, 30.0], [30.0, -30.0], [8.0, 8.0], [-8.0, 0.0]])
    actions, log_probability = policy.sample(observations, noise)
    assert bool(torch.isfinite(log_probability).all())
    assert bool((actions >= torch.tensor(LOW)).all())
    assert bool((actions <= torch.tensor(HIGH)).all())


def test_log_standard_deviation_keeps_its_bounds(policy: TanhGaussianPolicy) -> None:
    with torch.no_grad():
        policy.layers[-1].weight.mul_(1000)
        _, log_std = policy.distribution(torch.randn(100, 3))
    assert float(log_std.min()) == pytest.approx(LOG_STD_MIN, abs=1e-3)
    assert float(log_std.max()) == pytest.approx(LOG_STD_MAX, abs=1e-3)
    assert float(log_std.min()) >= LOG_STD_MIN
    assert float(log_std.max()) <= LOG_STD_MAX


def test_deterministic_action_is_the_mode(policy: TanhGaussianPolicy) -> None:
    observations = torch.randn(6, 3)
    mean, _ = policy.distribution(observations)
    expected = CENTER + HALF_RANGE * torch.tanh(mean)
    torch.testing.assert_close(policy.deterministic(observations), expected)
    torch.testing.assert_close(policy.sample(observations, torch.zeros(6, 2))[0], expected)


def test_actions_are_reparameterised(policy: TanhGaussianPolicy) -> None:
    observations = torch.randn(4, 3, requires_grad=True)
    actions, _ = policy.sample(observations, torch.randn(4, 2))
    (slope,) = torch.autograd.grad(actions.sum(), observations)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("normalise", [False, True])
def test_numpy_policy_takes_the_same_actions(normalise: bool) -> None:
    torch.manual_seed(0)
    policy = TanhGaussianPolicy(3, LOW, HIGH, (16, 8), normalise)
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    if policy.normaliser is not None:
        policy.normaliser.refresh(torch.randn(50, 3) * torch.tensor([0.1, 1.0, 10.0]) + 2)
    in_numpy = NumpyPolicy(numpy_weights(policy))
    modes = policy.deterministic(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_allclose(in_numpy(observations, None), modes, atol=1e-5)

    drawn = in_numpy(observations, np.random.default_rng(5))
    noise = np.random.default_rng(5).standard_normal((20, 2), dtype=np.float32)
    expected, _ = policy.sample(torch.from_numpy(observations), torch.from_numpy(noise))
    np.testing.assert_allclose(drawn, expected.detach().numpy(), atol=1e-5)
    assert drawn.dtype == np.float32


def test_numpy_weights_are_copies_that_load_back(policy: TanhGaussianPolicy) -> None:
    observations = torch.randn(5, 3)
    before = policy.deterministic(observations)
    weights = numpy_weights(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    assert not torch.equal(policy.deterministic(observations), before)
    load_numpy_weights(policy, weights)
    assert torch.equal(policy.deterministic(observations), before)


def test_a_normalising_policy_reads_what_the_plain_one_does_of_unit_scale() -> None:
    torch.manual_seed(0)
    plain = TanhGaussianPolicy(3, LOW, HIGH, (16, 8))
    scaled = TanhGaussianPolicy(3, LOW, HIGH, (16, 8), normalise=True)
    scaled.layers = plain.layers
    observations = torch.randn(30, 3) * torch.tensor([0.1, 1.0, 10.0]) + 2
    assert torch.equal(scaled.deterministic(observations), plain.deterministic(observations))
    assert scaled.normaliser is not None
    scaled.normaliser.refresh(observations)
    unit = (observations - observations.mean(0)) / observations.std(0)
    torch.testing.assert_close(scaled.deterministic(observations), plain.deterministic(unit))
