"""Probabilistic dynamics ensemble q(s', r | s, a, d), and the head for unknown terminations d."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnm.networks import EnsembleMLP, soft_clamp
from mnm.normaliser import Normaliser
from mnm.settings import Settings
from mnm.terminations import TerminationFunction

LOG_VARIANCE_MIN, LOG_VARIANCE_MAX = -10.0, 0.5  # in normalised units
OUTLIER = 5.0  # predicted standard deviations beyond which an error counts linearly in training


@dataclass(frozen=True)
class Prediction:
    """What the ensemble says of a batch, one slice of rows per member.

    Attributes:
        mean: [M, N/M, obs + 2] of the normalised s' - s and of two rewards, that of a transition
            that goes on and that of one that ends the task. With one for both, what an end alone
            pays is spread over the states before it, where it can be collected for ever.
        log_variance: [M, N/M, obs] of the normalised s' - s. The reward has unit variance: where it
            jumps, as at a fall, a learned one would outweigh the whole of the dynamics.
    """

    mean: Tensor
    log_variance: Tensor

    def change_nll(self, targets: Tensor) -> Tensor:
        """-log q of the normalised s' - s in `targets` [..., obs + 1], per dimension [..., obs]."""
        width = self.log_variance.shape[-1]
        squared_error = (targets[..., :width] - self.mean[..., :width]).square()
        return 0.5 * (
            squared_error * torch.exp(-self.log_variance)
            + self.log_variance
            + math.log(2 * math.pi)
        )

    def change_loss(self, targets: Tensor, nll_beta: float = 0.0) -> Tensor:
        """`change_nll` for training: Huber's loss in the error over the predicted deviation.

        A jump in a dimension that hardly ever moves, such as a contact force, lies hundreds of
        deviations away. Its square would be nearly all of a batch's gradient.

        Args:
            targets: [..., obs + 1].
            nll_beta: power of the predicted variance that each row and dimension is weighted by
                (the beta-NLL of Seitzer et al. 2022). Its gradient in the mean is the error over
                the variance: with 0, what is hard, such as an impact, is given a wide deviation
                and then hardly learned; with 1 it counts as in a squared error.
        """
        width = self.log_variance.shape[-1]
        deviation = torch.exp(0.5 * self.log_variance)
        error = (targets[..., :width] - self.mean[..., :width]) / deviation
        half_square = functional.huber_loss(
            error, torch.zeros_like(error), reduction="none", delta=OUTLIER
        )
        loss = half_square + 0.5 * (self.log_variance + math.log(2 * math.pi))
        return loss * torch.exp(nll_beta * self.log_variance.detach()) if nll_beta else loss

    def reward_nll(self, targets: Tensor, terminateds: Tensor) -> Tensor:
        """-log q of the normalised r in `targets` [..., obs + 1], up to a constant [...].

        Args:
            targets: [..., obs + 1].
            terminateds: [...] whether the transitions end the task.
        """
        mean = given_end(self.mean[..., -2:], terminateds)
        return 0.5 * (targets[..., -1] - mean).square()


def given_end(pair: Tensor, ended: Tensor) -> Tensor:
    """What holds of transitions that go on, or that end; the mean of both by the probability.

    Args:
        pair: [..., 2] of a transition that goes on, and of one that ends.
        ended: [...] 0 or 1, or the probability of an end.
    """
    return torch.lerp(pair[..., 0], pair[..., 1], ended.to(pair.dtype))


class DynamicsEnsemble(nn.Module):
    """Diagonal Gaussians over s' - s and r, one per member (Chua et al. 2018; Janner et al. 2019).

    The reward is that given whether the transition ends the task (this project's own).

    Args:
        observation_dim: width of an observation.
        action_dim: width of an action.
        settings: reads `ensemble_size`, `num_elites`, `dynamics_hidden_sizes`.
        termination: known termination of the task; None: a head is learned.
    """

    elites: Tensor

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        settings: Settings,
        termination: TerminationFunction | None = None,
    ) -> None:
        super().__init__()
        self.observation_dim = observation_dim
        self.normaliser = Normaliser(observation_dim, action_dim)
        self.networks = EnsembleMLP(
            settings.ensemble_size,
            observation_dim + action_dim,
            settings.dynamics_hidden_sizes,
            2 * observation_dim + 2,
            activation="silu",
        )
        self.register_buffer("elites", torch.arange(settings.num_elites))
        self.known_termination = termination
        self.termination_head: EnsembleMLP | None = None
        if termination is None:
            inputs = 2 * observation_dim + action_dim
            self.termination_head = EnsembleMLP(1, inputs, (64, 64), 1, activation="silu")

    def predict(
        self, observations: Tensor, actions: Tensor, members: Tensor | None = None
    ) -> Prediction:
        """Mean and log-variance; rows [N, ...] for every member, or [M, N, ...] of their own."""
        inputs = self.normaliser.inputs(observations, actions)
        width = self.observation_dim
        mean, log_variance = self.networks(inputs, members).split([width + 2, width], dim=-1)
        return Prediction(mean, soft_clamp(log_variance, LOG_VARIANCE_MIN, LOG_VARIANCE_MAX))

    def split(self, rows: Tensor, members: int) -> Tensor:
        """Rows [N, ...] dealt to members [M, N/M, ...]; N must be a multiple of M."""
        return rows.view(members, -1, *rows.shape[1:])

    def decode(
        self, observations: Tensor, prediction: Prediction, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Next observations [N, obs] by reparameterised noise [N, obs], and mean rewards [N, 2] of
        a transition that goes on and of one that ends (`given_end`).

        The reward is the head's mean: its noise would only add variance to the targets.
        """
        width = self.observation_dim
        mean = prediction.mean.reshape(-1, width + 2)
        deviation = torch.exp(0.5 * prediction.log_variance).reshape(-1, width)
        change = torch.addcmul(mean[:, :width], deviation, noise)
        changes, rewards = self.normaliser.denormalise(change, mean[:, width:])
        return observations + changes, rewards

    def sample(
        self,
        observations: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One next observation and reward per row, each from a random member.

        Args:
            observations: [N, obs].
            actions: [N, act].
            generator: on the model's device.
            members: [M] the members to draw from; None: all.

        Returns:
            Next observations [N, obs], rewards [N, 2] as of `decode`.
        """
        count = len(observations)
        number = self.networks.members if members is None else len(members)
        padded = -(-count // number) * number
        # A random deal of the rows, equally many for each member: one network's work, not M.
        deal = torch.randperm(padded, generator=generator, device=observations.device)
        slots = deal % count
        own_observations = observations[slots]
        prediction = self.predict(
            self.split(own_observations, number), self.split(actions[slots], number), members
        )
        noise = torch.randn(
            padded, self.observation_dim, generator=generator, device=observations.device
        )
        drawn = self.decode(own_observations, prediction, noise)
        # Undo the deal; of a row dealt twice the first number's draw counts, so that no member is
        # preferred.
        places = torch.empty_like(deal)
        places[deal] = torch.arange(padded, device=deal.device)
        next_observations, rewards = (part.index_select(0, places[:count]) for part in drawn)
        return next_observations, rewards

    def termination_logit(
        self, observations: Tensor, actions: Tensor, next_observations: Tensor
    ) -> Tensor:
        """Logit [N] of the learned head; only where no termination function is known."""
        assert self.termination_head is not None
        inputs = torch.cat(
            [
                self.normaliser.inputs(observations, actions),
                self.normaliser.changes(observations, next_observations),
            ],
            dim=-1,
        )
        return self.termination_head(inputs).view(-1)

    def termination(
        self, observations: Tensor, actions: Tensor, next_observations: Tensor
    ) -> Tensor:
        """Probability [N] that the task ends with these transitions; 0 or 1 where it is known."""
        if self.known_termination is not None:
            return self.known_termination(observations, actions, next_observations).float()
        return torch.sigmoid(self.termination_logit(observations, actions, next_observations))

    def ends(
        self,
        observations: Tensor,
        actions: Tensor,
        next_observations: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Whether [N] imagined transitions end the task: where no rule is known, drawn with the
        head's probability, so that as many end as real ones, chance or uncertainty included."""
        probability = self.termination(observations, actions, next_observations)
        if self.known_termination is not None:
            return probability > 0.5
        return torch.bernoulli(probability, generator=generator).bool()
