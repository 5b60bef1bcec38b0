"""Everything that an agent learns, in one module, built for a task and an algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mnm.classifier import TransitionClassifier
from mnm.critics import TwinCritics, target_copy
from mnm.dynamics import DynamicsEnsemble
from mnm.policy import TanhGaussianPolicy
from mnm.settings import Settings
from mnm.stopping import StoppingHead
from mnm.terminations import TerminationFunction


@dataclass(frozen=True)
class TaskSpaces:
    """What the networks need to know of a task.

    Attributes:
        observation_dim: width of the flat observation.
        action_low: float32 [act] smallest actions.
        action_high: float32 [act] largest actions.

    Raises:
        ValueError: an action has no range that is finite and not empty.
    """

    observation_dim: int
    action_low: np.ndarray
    action_high: np.ndarray

    def __post_init__(self) -> None:
        finite = np.isfinite(self.action_low) & np.isfinite(self.action_high)
        valid = finite & (self.action_low < self.action_high)
        if not valid.all():
            number = int(valid.argmin())
            raise ValueError(
                f"Action {number} goes from {self.action_low[number]:g} to "
                f"{self.action_high[number]:g}: give it finite bounds, the lower one first."
            )

    @property
    def action_dim(self) -> int:
        """Width of an action."""
        return len(self.action_low)


class Networks(nn.Module):
    """Everything that is learned, in one module.

    Args:
        policy: acts.
        critics: twin action values.
        dynamics: the ensemble; None for sac.
        classifier: real or imagined; None for sac and mbpo.
        stopping: stop probabilities of the learned-stopping bound, or None.
        settings: reads `initial_alpha`.
    """

    def __init__(
        self,
        policy: TanhGaussianPolicy,
        critics: TwinCritics,
        dynamics: DynamicsEnsemble | None,
        classifier: TransitionClassifier | None,
        stopping: StoppingHead | None,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.critics = critics
        self.target_critics = target_copy(critics)
        self.dynamics = dynamics
        self.classifier = classifier
        self.stopping = stopping
        self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.initial_alpha)))
        # Moved only where classifier_reward_weight is "auto".
        self.log_classifier_reward_weight = nn.Parameter(torch.tensor(math.log(0.1)))


def build_networks(
    spaces: TaskSpaces, settings: Settings, termination: TerminationFunction | None
) -> Networks:
    """The networks that an algorithm needs, freshly initialised from torch's global generator."""
    box = (spaces.observation_dim, spaces.action_low, spaces.action_high)
    dims = (spaces.observation_dim, spaces.action_dim)
    return Networks(
        TanhGaussianPolicy(*box, settings.hidden_sizes, settings.normalise_observations),
        TwinCritics(
            *box,
            settings.hidden_sizes,
            settings.critic_layer_norm,
            settings.normalise_observations,
        ),
        DynamicsEnsemble(*dims, settings, termination) if settings.has_model else None,
        TransitionClassifier(*dims, settings) if settings.has_classifier else None,
        StoppingHead(*dims, settings) if settings.has_stopping else None,
        settings,
    )
