"""Twin critics of SAC, both evaluated in one batched product."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mnm.networks import EnsembleMLP
from mnm.normaliser import ObservationNormaliser


class TwinCritics(nn.Module):
    """Two action-value networks Q(s, a) (Fujimoto et al. 2018).

    Args:
        observation_dim: width of an observation.
        action_low: [act] smallest actions; actions are scaled to (-1, 1) on entry.
        action_high: [act] largest actions.
        hidden_sizes: widths of the ReLU hidden layers.
        layer_norm: of the hidden layers, which keeps values of unseen actions near those of seen
            ones (Ball et al. 2023, RLPD).
        normalise: whether observations are scaled by an `ObservationNormaliser` first.
    """

    action_center: Tensor
    action_half_range: Tensor

    def __init__(
        self,
        observation_dim: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        hidden_sizes: Sequence[int] = (256, 256),
        layer_norm: bool = False,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        low = torch.as_tensor(action_low, dtype=torch.float32)
        high = torch.as_tensor(action_high, dtype=torch.float32)
        self.register_buffer("action_center", (high + low) / 2)
        self.register_buffer("action_half_range", (high - low) / 2)
        self.normaliser = ObservationNormaliser(observation_dim) if normalise else None
        self.networks = EnsembleMLP(
            2, observation_dim + low.numel(), hidden_sizes, 1, layer_norm=layer_norm
        )

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Both action values [2, N] of observations [N, obs] and actions [N, act]."""
        if self.normaliser is not None:
            observations = self.normaliser(observations)
        scaled = (actions - self.action_center) / self.action_half_range
        return self.networks(torch.cat([observations, scaled], dim=-1)).squeeze(-1)

    def smaller(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The smaller of the two action values [N]."""
        return self(observations, actions).amin(0)

    @torch.no_grad()
    def set_output_bias(self, value: float) -> None:
        """Starts both networks at `value`, the value of a constant reward.

        Without it thousands of updates go into climbing to the level of the bound's values
        (our reconstruction; see `Settings.reward_transform`).
        """
        self.networks.biases[-1].fill_(value)


def target_copy(critics: TwinCritics) -> TwinCritics:
    """A frozen copy of `critics`, to be moved by Polyak averaging."""
    return copy.deepcopy(critics).requires_grad_(False)
