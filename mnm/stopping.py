"""The stopping head: when the learned-stopping bound stops, as a function of (s, a)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mnm.networks import EnsembleMLP
from mnm.normaliser import Normaliser
from mnm.settings import Settings


class StoppingHead(nn.Module):
    """Stop probabilities k(s, a), trained to maximise the bound they stand in.

    Args:
        observation_dim: width of an observation.
        action_dim: width of an action.
        settings: reads `stop_probability_min`, `gamma` and `classifier_hidden_sizes`, of whose size
            the head is.
    """

    def __init__(self, observation_dim: int, action_dim: int, settings: Settings) -> None:
        super().__init__()
        self.smallest = settings.stop_probability_min
        self.network = EnsembleMLP(
            1,
            observation_dim + action_dim,
            settings.classifier_hidden_sizes,
            1,
            activation="silu",
        )
        # Starts at the fixed bound, which stops with probability 1 - gamma everywhere.
        start = min(max(1 - settings.gamma, 2 * self.smallest), 1 - 2 * self.smallest)
        share = (start - self.smallest) / (1 - 2 * self.smallest)
        with torch.no_grad():
            self.network.weights[-1].zero_()
            self.network.biases[-1].fill_(math.log(share / (1 - share)))

    def forward(self, normaliser: Normaliser, observations: Tensor, actions: Tensor) -> Tensor:
        """k [N], at least `stop_probability_min` from 0 and from 1."""
        logit = self.network(normaliser.inputs(observations, actions)).view(-1)
        return self.smallest + (1 - 2 * self.smallest) * torch.sigmoid(logit)

    @staticmethod
    def value(
        stop_probability: Tensor, log_reward: Tensor, following: Tensor, gamma: float
    ) -> Tensor:
        """k (log r' - log k) + (1-k) (log gamma - log(1-k) + w logit C + V(s')), [N].

        The learned-stopping bound as a one-step target (the paper for the idea; the form
        is derived for this project, see docs/theory.md). Linear in what a single s' brings: nothing
        sampled is exponentiated, which would be biased upward.

        Args:
            stop_probability: k [N].
            log_reward: log r' [N].
            following: w logit C(s, a, s') + V(s') [N].
            gamma: the discount.
        """
        stop = stop_probability * (log_reward - stop_probability.log())
        go_on = (1 - stop_probability) * (
            math.log(gamma) - torch.log1p(-stop_probability) + following
        )
        return stop + go_on
