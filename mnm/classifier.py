"""The transition classifier: real or imagined, and its logit as an estimate of log p/q."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnm.dynamics import DynamicsEnsemble
from mnm.networks import EnsembleMLP
from mnm.normaliser import Normaliser
from mnm.replay import Batch, ReplayBuffer
from mnm.settings import Settings

JUDGED_ROWS = 1024  # transitions of each kind that the classifier is judged on


class TransitionClassifier(nn.Module):
    """C(s, a, s') on the normalised (s, a, s' - s).

    Trained on balanced halves with the same (s, a) in both, its logit estimates
    log p(s'|s, a) / q(s'|s, a) with no correction for (s, a) (our reconstruction of the paper's
    classifier). With `classifier_pairs="pool"` the imagined half has the (s, a) of the rollout
    pool, and the logit also says how likely those are in the replay.

    Args:
        observation_dim: width of an observation.
        action_dim: width of an action.
        settings: reads the `classifier_*` settings.
    """

    def __init__(self, observation_dim: int, action_dim: int, settings: Settings) -> None:
        super().__init__()
        self.label_smoothing = settings.classifier_label_smoothing
        self.input_noise = settings.classifier_input_noise
        self.gradient_penalty = settings.classifier_gradient_penalty
        self.networks = EnsembleMLP(
            settings.classifier_ensemble_size,
            2 * observation_dim + action_dim,
            settings.classifier_hidden_sizes,
            1,
            activation="silu",
        )

    @staticmethod
    def inputs(
        normaliser: Normaliser, observations: Tensor, actions: Tensor, next_observations: Tensor
    ) -> Tensor:
        """Normalised (s, a, s' - s) [N, 2 obs + act]."""
        return torch.cat(
            [
                normaliser.inputs(observations, actions),
                normaliser.changes(observations, next_observations),
            ],
            dim=-1,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N], averaged over the networks; positive: real."""
        return self.networks(inputs).squeeze(-1).mean(0)

    def loss(
        self, real: Tensor, imagined: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Binary cross-entropy of both halves, with the stabilisers that are switched on.

        Args:
            real: [N, 2 obs + act] from `inputs`.
            imagined: [N, 2 obs + act]; see `classifier_pairs` for its (s, a).
            generator: for the input noise.

        Returns:
            The loss (a scalar, the mean over halves and networks); detached, the cross-entropy in
            it, which is all of it but the gradient penalty, and the mean logits of the real and the
            imagined half [N] each.
        """
        inputs = torch.cat([real, imagined])
        if self.input_noise > 0:
            noise = torch.randn(inputs.shape, generator=generator, device=inputs.device)
            inputs = inputs + self.input_noise * noise
        if self.gradient_penalty > 0:
            inputs.requires_grad_()
        logits = self.networks(inputs).squeeze(-1)
        count = len(real)
        targets = torch.full_like(logits, self.label_smoothing / 2)
        targets[:, :count] = 1 - self.label_smoothing / 2
        loss = cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets)
        if self.gradient_penalty > 0:
            mean_logits = logits[:, :count].mean(0)
            (slope,) = torch.autograd.grad(mean_logits.sum(), inputs, create_graph=True)
            loss = loss + self.gradient_penalty * slope[:count].square().sum(-1).mean()
        means = logits.detach().mean(0)
        return loss, cross_entropy.detach(), means[:count], means[count:]


@torch.no_grad()
def judge(
    classifier: TransitionClassifier,
    dynamics: DynamicsEnsemble,
    replay: ReplayBuffer,
    pool: ReplayBuffer | None,
    generator: torch.Generator,
    members: Tensor | None = None,
) -> dict[str, float]:
    """Accuracy and mean logits, by the names of `mnm.statistics`.

    Args:
        classifier: to be judged.
        dynamics: imagines the next states.
        replay: real transitions, some of them held out.
        pool: imagined transitions, for their (s, a); None or empty: the figure is left out.
        generator: on the networks' device.
        members: of the ensemble to imagine with; None: all.
    """

    def logits(batch: Batch, following: Tensor) -> Tensor:
        return classifier(
            classifier.inputs(dynamics.normaliser, batch.observations, batch.actions, following)
        )

    def imagined_logits(batch: Batch) -> Tensor:
        imagined, _ = dynamics.sample(batch.observations, batch.actions, generator, members)
        return logits(batch, imagined)

    real = replay.holdout(JUDGED_ROWS)
    on_real = logits(real, real.next_observations)
    on_imagined = imagined_logits(real)
    accuracy = ((on_real > 0).float().mean() + (on_imagined <= 0).float().mean()) / 2
    statistics = {
        "classifier_accuracy": accuracy,
        "classifier_logit_real": on_real.mean(),
        "classifier_logit_imagined": on_imagined.mean(),
    }
    if pool is not None and len(pool):
        sampled = pool.sample(JUDGED_ROWS, generator)
        statistics["classifier_logit_pool"] = imagined_logits(sampled).mean()
    values = torch.stack(list(statistics.values())).tolist()
    return dict(zip(statistics, values, strict=True))
