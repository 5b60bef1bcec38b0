"""A one-dimensional linear-Gaussian task whose real and model dynamics are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnm.normaliser import Normaliser
from mnm.policy import TanhGaussianPolicy


@dataclass(frozen=True)
class LinearGaussian:
    """s' = decay s + push u + shift + deviation * noise."""

    decay: float
    push: float
    shift: float
    deviation: float

    def mean(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Mean next state [N, 1]."""
        return self.decay * observations + self.push * actions + self.shift

    def draw(self, observations: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Next states [N, 1]."""
        noise = torch.randn(observations.shape, generator=generator)
        return self.mean(observations, actions) + self.deviation * noise

    def log_density(self, observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        """log p(s'|s, a) [N]."""
        mean = self.mean(observations, actions)
        return torch.distributions.Normal(mean, self.deviation).log_prob(following).sum(-1)


REAL = LinearGaussian(decay=0.9, push=0.5, shift=0.0, deviation=0.30)
MODEL = LinearGaussian(decay=0.85, push=0.5, shift=0.05, deviation=0.35)
REWARD_SLOPE = 0.5  # r = slope * s


def log_ratio(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    """log p/q [N]."""
    real = REAL.log_density(observations, actions, following)
    return real - MODEL.log_density(observations, actions, following)


def state_independent_policy(mean: float, log_std_input: float) -> TanhGaussianPolicy:
    """A policy whose actions have the same distribution in every state."""
    policy = TanhGaussianPolicy(1, np.array([-1.0]), np.array([1.0]), (4,))
    with torch.no_grad():
        policy.layers[-1].weight.zero_()
        policy.layers[-1].bias.copy_(torch.tensor([mean, log_std_input]))
    return policy


def action_moments(policy: TanhGaussianPolicy) -> tuple[float, float]:
    """E[u] and E[u^2] of that policy, by Gauss-Hermite quadrature."""
    with torch.no_grad():
        mean, log_std = (float(value) for value in policy.distribution(torch.zeros(1, 1)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    actions = np.tanh(mean + np.exp(log_std) * nodes)
    weights = weights / weights.sum()
    return float(weights @ actions), float(weights @ actions**2)


class ModelOfTheTask:
    """`MODEL` in the place of a dynamics ensemble; never terminates."""

    def __init__(self) -> None:
        self.normaliser = Normaliser(1, 1)

    def sample(
        self,
        observations: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Next observations [N, 1] and rewards [N, 2], for an end the same."""
        following = MODEL.draw(observations, actions, generator)
        return following, REWARD_SLOPE * observations.expand(-1, 2)

    def ends(self, observations: Tensor, *_: object) -> Tensor:
        """False [N]."""
        return torch.zeros(len(observations), dtype=torch.bool)


def exact_bound(
    policy: TanhGaussianPolicy, start: float, gamma: float, beta: float, horizon: int
) -> float:
    """The finite-horizon bound under exp, in closed form.

    log r' = beta * slope * s is linear in s and -KL(q, p) quadratic, so the first two moments of
    the state under the model are all that is needed.
    """
    action, action_squared = action_moments(policy)
    first, second = start, start**2  # E[s], E[s^2] under the model
    tail = gamma**horizon
    total_discount = (1 - tail) / (1 - gamma)
    bound = np.log(total_discount)
    for step in range(horizon):
        bound += gamma**step / total_discount * beta * REWARD_SLOPE * first
        slope, offset = MODEL.decay - REAL.decay, MODEL.shift - REAL.shift
        squared_difference = slope**2 * second + 2 * slope * offset * first + offset**2
        divergence = (
            np.log(REAL.deviation / MODEL.deviation)
            + (MODEL.deviation**2 + squared_difference) / (2 * REAL.deviation**2)
            - 0.5
        )
        bound -= (gamma ** (step + 1) - tail) / (1 - tail) * divergence
        drift = MODEL.push * action + MODEL.shift
        drift_squared = (
            MODEL.push**2 * action_squared + 2 * MODEL.push * MODEL.shift * action + MODEL.shift**2
        )
        first, second = (
            MODEL.decay * first + drift,
            MODEL.decay**2 * second
            + 2 * MODEL.decay * first * drift
            + drift_squared
            + MODEL.deviation**2,
        )
    return float(bound)
