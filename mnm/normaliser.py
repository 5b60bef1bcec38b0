"""Means and scales that keep what networks read, and what the model predicts, near unit size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnm.replay import Batch

SMALLEST_SCALE = 0.01  # a nearly constant dimension must not explode


class Normaliser(nn.Module):
    """Statistics of the real transitions, refreshed from the replay before each model fit.

    Buffers: mean and scale of the input (s, a) [obs + act] and of the target (s' - s, r) [obs + 1].

    Args:
        observation_dim: width of an observation.
        action_dim: width of an action.
    """

    input_mean: Tensor
    input_scale: Tensor
    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        self.observation_dim = observation_dim
        for name, width in (
            ("input", observation_dim + action_dim),
            ("target", observation_dim + 1),
        ):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))

    @torch.no_grad()
    def refresh(self, batch: Batch) -> None:
        """Takes mean and standard deviation of all rows of `batch`, at least two."""
        for name, values in (
            ("input", torch.cat([batch.observations, batch.actions], dim=-1)),
            ("target", self.raw_targets(batch)),
        ):
            variance, mean = torch.var_mean(values, dim=0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_scale").copy_(variance.sqrt().clamp_min(SMALLEST_SCALE))

    def inputs(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Normalised (s, a) [..., obs + act]."""
        joined = torch.cat([observations, actions], dim=-1)
        return (joined - self.input_mean) / self.input_scale

    def targets(self, batch: Batch) -> Tensor:
        """Normalised (s' - s, r) [..., obs + 1]."""
        return (self.raw_targets(batch) - self.target_mean) / self.target_scale

    def denormalise(self, changes: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """s' - s [..., obs] and any number of rewards [..., K] in the environment's units."""
        mean, scale, width = self.target_mean, self.target_scale, self.observation_dim
        return (
            torch.addcmul(mean[:width], changes, scale[:width]),
            torch.addcmul(mean[width:], rewards, scale[width:]),
        )

    def changes(self, observations: Tensor, next_observations: Tensor) -> Tensor:
        """Normalised s' - s [..., obs]."""
        width = self.observation_dim
        change = next_observations - observations
        return (change - self.target_mean[:width]) / self.target_scale[:width]

    @staticmethod
    def raw_targets(batch: Batch) -> Tensor:
        """(s' - s, r) [..., obs + 1]."""
        change = batch.next_observations - batch.observations
        return torch.cat([change, batch.rewards.unsqueeze(-1)], dim=-1)


class ObservationNormaliser(nn.Module):
    """Scales the observations that policy and critics read (`normalise_observations`).

    Buffers: mean and scale [obs], of the real transitions; 0 and 1 until the first `refresh`.

    Args:
        observation_dim: width of an observation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, observation_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("scale", torch.ones(observation_dim))

    @torch.no_grad()
    def refresh(self, observations: Tensor) -> None:
        """Takes mean and standard deviation of observations [N, obs], N at least two."""
        variance, mean = torch.var_mean(observations, dim=0)
        self.mean.copy_(mean)
        self.scale.copy_(variance.sqrt().clamp_min(SMALLEST_SCALE))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalised observations [..., obs]."""
        return (observations - self.mean) / self.scale
