"""Maximum-likelihood fit of the dynamics ensemble, with early stopping and choice of elites."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mnm.dynamics import DynamicsEnsemble, Prediction
from mnm.replay import Batch, ReplayBuffer
from mnm.settings import Settings

HOLDOUT_ROWS = 1000  # most held-out rows that an error is measured on
FIRST_FIT_FACTOR = 4  # the first fit starts from nothing
SHORTEST_EPOCH = 50  # gradient steps; with little data an epoch alone says nothing


@dataclass(frozen=True)
class FitReport:
    """Result of one fit.

    Attributes:
        steps: gradient steps made.
        holdout_nll: of s' - s on held-out transitions, in units of each dimension's scale, nats per
            dimension, mean over the members that imagine.
        holdout_rmse: of s' - s there, root mean square in those units.
    """

    steps: int
    holdout_nll: float
    holdout_rmse: float


class ModelFitter:
    """Fits the ensemble on the replay; keeps its optimizer's state between fits.

    Args:
        dynamics: the ensemble.
        settings: reads the `dynamics_*` settings.
    """

    def __init__(self, dynamics: DynamicsEnsemble, settings: Settings) -> None:
        self.dynamics = dynamics
        self.settings = settings
        self.fits = 0
        layers = zip(dynamics.networks.weights, dynamics.networks.biases, strict=True)
        groups = [
            {"params": list(layer), "weight_decay": decay}
            for layer, decay in zip(layers, settings.dynamics_weight_decay, strict=True)
        ]
        if dynamics.termination_head is not None:
            groups.append({"params": list(dynamics.termination_head.parameters())})
        self.optimizer = torch.optim.Adam(groups, lr=settings.dynamics_lr, fused=True)

    def fit(self, replay: ReplayBuffer, generator: torch.Generator) -> FitReport:
        """Refreshes the normaliser and fits every member on its own random batches.

        Stops when no member's held-out loss fell by `dynamics_fit_min_delta` for
        `dynamics_fit_patience` epochs, or after `dynamics_max_fit_steps`, four times as many at the
        first fit. Each member then
        takes its best parameters, and the best `num_elites` become the elites (MBPO: Janner et al.
        2019, appendix; there by squared error, under which a small replay leaves the variances far
        too small: on 1,000 steps of HalfCheetah-v5 4.7 nats per dimension held out, here 0.1).

        Args:
            replay: real transitions, at least ten, so that one is held out.
            generator: on the replay's device.
        """
        dynamics, settings = self.dynamics, self.settings
        dynamics.normaliser.refresh(replay.all_rows())
        holdout = replay.holdout(HOLDOUT_ROWS)
        targets = dynamics.normaliser.targets(holdout)
        batch_size = settings.dynamics_batch_size
        steps_per_epoch = max(-(-len(replay) // batch_size), SHORTEST_EPOCH)
        most_steps = settings.dynamics_max_fit_steps * (1 if self.fits else FIRST_FIT_FACTOR)
        self.fits += 1
        parameters = list(dynamics.networks.parameters())
        best = [parameter.detach().clone() for parameter in parameters]
        best_loss = self._holdout_losses(holdout, targets)
        steps, epochs_without_improvement = 0, 0
        while epochs_without_improvement < settings.dynamics_fit_patience and steps < most_steps:
            for _ in range(min(steps_per_epoch, most_steps - steps)):
                slots = replay.training_slots((dynamics.networks.members, batch_size), generator)
                self._step(replay.rows_at(slots))
                steps += 1
            loss = self._holdout_losses(holdout, targets)
            improved = loss < best_loss - settings.dynamics_fit_min_delta
            best_loss = torch.where(improved, loss, best_loss)
            for kept, parameter in zip(best, parameters, strict=True):
                kept[improved] = parameter.detach()[improved]
            epochs_without_improvement = 0 if improved.any() else epochs_without_improvement + 1
        with torch.no_grad():
            for kept, parameter in zip(best, parameters, strict=True):
                parameter.copy_(kept)
            dynamics.elites.copy_(best_loss.argsort()[: settings.num_elites])
            members = None if settings.algo == "mnm" else dynamics.elites
            prediction = dynamics.predict(holdout.observations, holdout.actions, members)
            nll = prediction.change_nll(targets).mean()
            width = dynamics.observation_dim
            change_error = prediction.mean[..., :width] - targets[..., :width]
            rmse = change_error.square().mean().sqrt()
        return FitReport(steps, float(nll), float(rmse))

    def _step(self, batch: Batch) -> None:
        dynamics = self.dynamics
        prediction = dynamics.predict(batch.observations, batch.actions)
        targets = dynamics.normaliser.targets(batch)
        # Summed over the members, so that each one's gradient is that of its own mean.
        losses = self._losses(
            prediction, targets, batch.terminateds, self.settings.dynamics_nll_beta
        )
        loss = losses.sum()
        if dynamics.termination_head is not None:
            own = [
                column[0] for column in (batch.observations, batch.actions, batch.next_observations)
            ]
            logits = dynamics.termination_logit(*own)
            loss = loss + functional.binary_cross_entropy_with_logits(logits, batch.terminateds[0])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def _holdout_losses(self, holdout: Batch, targets: Tensor) -> Tensor:
        """The loss [E] of every member on the held-out rows."""
        prediction = self.dynamics.predict(holdout.observations, holdout.actions)
        return self._losses(prediction, targets, holdout.terminateds)

    @staticmethod
    def _losses(
        prediction: Prediction, targets: Tensor, terminateds: Tensor, nll_beta: float = 0.0
    ) -> Tensor:
        """-log q [E] of each member, outliers held down: per dimension of s' - s, and of r with
        unit variance."""
        change_loss = prediction.change_loss(targets, nll_beta).mean((1, 2))
        return change_loss + prediction.reward_nll(targets, terminateds).mean(1)
