"""The rollout pool's actor: imagines transitions with the newest published weights."""

from __future__ import annotations

from typing import Any

import ray
import torch
from ray.rllib.utils.actor_manager import FaultAwareApply

from distributed.failure import errors_answered
from distributed.threads import granted_threads
from distributed.wire import to_arrow
from mnm import RolloutRequest, Settings, TaskSpaces
from mnm.agent_networks import build_networks
from mnm.policy import load_numpy_weights
from mnm.rollouts import answer_rollout_request
from mnm.terminations import TerminationFunction


class RolloutWorker(FaultAwareApply):
    """Answers `RolloutRequest`s on its own copy of policy and dynamics.

    Args:
        config: RLlib's algorithm config, of which Ray's fault handling reads its settings.
        spaces: of the task.
        settings: of the algorithm.
        termination: known termination of the task, or None.
        device: where to imagine.
    """

    def __init__(
        self,
        config: Any,
        spaces: TaskSpaces,
        settings: Settings,
        termination: TerminationFunction | None,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.settings = settings
        self.device = torch.device(device)
        torch.set_num_threads(granted_threads())
        networks = build_networks(spaces, settings, termination).to(self.device)
        assert networks.dynamics is not None
        self.policy, self.dynamics = networks.policy, networks.dynamics
        self._loaded: tuple[ray.ObjectRef, ray.ObjectRef] | None = None

    @errors_answered
    def imagine(
        self, weights: tuple[ray.ObjectRef, ray.ObjectRef], request: list[ray.ObjectRef]
    ) -> tuple[list[ray.ObjectRef], int]:
        """Answers one request.

        Args:
            weights: references to the policy's and the dynamics' weights.
            request: one reference to a `RolloutRequest`, in a list so that it stays a reference.

        Returns:
            A reference to the record batch of imagined transitions, in a list, and its rows.
        """
        if weights != self._loaded:
            load_numpy_weights(self.policy, ray.get(weights[0]))
            load_numpy_weights(self.dynamics, ray.get(weights[1]))
            self._loaded = weights
        todo: RolloutRequest = ray.get(request[0])
        transitions = answer_rollout_request(
            todo, self.policy, self.dynamics, self.settings, self.device
        )
        return [ray.put(to_arrow(transitions))], len(transitions)
