"""RLModules: the policy that runners and users hold, and what only the learner holds."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule

from mnm import Settings
from mnm.agent_networks import build_networks
from mnm.policy import TanhGaussianPolicy
from rllib_ext.environments import task_spaces

WORLD_MODULE_ID = "world"  # of the learner-only module


class PolicyModule(TorchRLModule):
    """The tanh-Gaussian policy; actions are in the environment's units.

    `model_config`: {"settings": Settings.to_dict()}.
    """

    def setup(self) -> None:
        """Builds the policy for the module's spaces."""
        spaces = task_spaces(self.observation_space, self.action_space)
        settings = Settings(**self.model_config["settings"])
        self.policy = TanhGaussianPolicy(
            spaces.observation_dim,
            spaces.action_low,
            spaces.action_high,
            settings.hidden_sizes,
            settings.normalise_observations,
        )

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            return _actions(self.policy.deterministic(batch[Columns.OBS].float()))

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            observations = batch[Columns.OBS].float()
            noise = torch.randn(
                len(observations), self.action_space.shape[0], device=observations.device
            )
            return _actions(self.policy.sample(observations, noise)[0])

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward_exploration(batch, **kwargs)


def _actions(actions: torch.Tensor) -> dict[str, Any]:
    # The second name tells RLlib's connectors not to rescale what is in the task's units already.
    return {Columns.ACTIONS: actions, Columns.ACTIONS_FOR_ENV: actions}


class WorldModule(TorchRLModule):
    """Critics, dynamics and classifier: learner-only.

    `model_config`: {"settings": Settings.to_dict(), "termination": function or None}.
    """

    def setup(self) -> None:
        """Builds the networks for the module's spaces; the learner puts its own in their place."""
        settings = Settings(**self.model_config["settings"])
        spaces = task_spaces(self.observation_space, self.action_space)
        networks = build_networks(spaces, settings, self.model_config["termination"])
        self.take(networks.critics, networks.dynamics, networks.classifier)

    def take(
        self,
        critics: torch.nn.Module,
        dynamics: torch.nn.Module | None,
        classifier: torch.nn.Module | None,
    ) -> None:
        """Holds these networks from now on."""
        self.critics = critics
        self.dynamics = dynamics
        self.classifier = classifier

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Both action values [2, N] of `obs` and `actions` under "q_values"."""
        return {"q_values": self.critics(batch[Columns.OBS], batch[Columns.ACTIONS])}
