"""RLlib's face of the learner: builds the agent, delegates each turn, saves and restores it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner

from distributed.collector import CutEpisode
from distributed.learner_core import LearnerCore, TurnReport
from distributed.replay_files import ReplayFiles
from distributed.stop_request import StopAsked
from distributed.storage import read_file, resolve, write_file
from distributed.threads import granted_threads
from mnm import Agent
from mnm.bound_estimate import BoundSamples
from mnm.replay import ReplayBuffer
from rllib_ext.checkpoint_files import AGENT_FILE, REPLAY_FOLDER
from rllib_ext.environments import resolve_termination, task_spaces
from rllib_ext.rl_modules import WORLD_MODULE_ID

logger = logging.getLogger(__name__)

AGENT_STATE = "agent"
LOG_STATE = "transition_log"


class MnMLearner(TorchLearner):
    """Owns a `LearnerCore`; none of RLlib's connectors, losses or optimizers are on its path."""

    def build(self) -> None:
        """Builds the RLModules and the agent, and lets both share one set of networks."""
        super().build()
        self._error: str | None = None
        self._restored_partition: str | None = None
        torch.set_num_threads(granted_threads())
        policy = self.module[DEFAULT_MODULE_ID]
        agent = Agent(
            task_spaces(policy.observation_space, policy.action_space),
            self.config.settings(),
            resolve_termination(self.config),
            self._device,
            self.config.seed,
        )
        networks = agent.networks
        policy.policy = networks.policy
        if WORLD_MODULE_ID in self.module:
            self.module[WORLD_MODULE_ID].take(
                networks.critics, networks.dynamics, networks.classifier
            )
        self.core = LearnerCore(agent, self.config.num_rollout_workers, StopAsked())
        self._replay_files = ReplayFiles()

    def turn(
        self,
        real: list[ray.ObjectRef],
        synthetic: list[ray.ObjectRef],
        rollout_parts: int | None = None,
    ) -> TurnReport:
        """See `LearnerCore.turn`."""
        report = self.core.turn(real, synthetic, rollout_parts)
        self._weights_seq_no = report.version
        return report

    def log_transitions(self, folder: str, run: str, rows_per_part: int) -> None:
        """See `LearnerCore.log_transitions`; goes on with the log of what was restored before."""
        self.core.log_transitions(folder, run, rows_per_part)
        self.core.resume_log(self._restored_partition)

    def bound_samples(
        self, episodes: list[CutEpisode], policy: list[ray.ObjectRef]
    ) -> BoundSamples:
        """See `Agent.bound_samples`; `policy` refers to the weights that played the episodes."""
        return self.core.agent.bound_samples(
            np.stack([episode.first_observation for episode in episodes]),
            [episode.rewards for episode in episodes],
            [episode.terminated for episode in episodes],
            ray.get(policy[0]),
        )

    def configure_optimizers(self) -> None:
        """The agent owns its optimizers."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """The agent owns its optimizers."""

    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        """Refuses RLlib's own update path.

        Raises:
            RuntimeError: always; `turn` makes the updates.
        """
        raise RuntimeError("MnMLearner computes its losses in mnm.updates: call turn().")

    def get_state(
        self,
        components: Any = None,
        *,
        not_components: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state, and the agent's without its replay (see `save_to_path`)."""
        inference_only = kwargs.get("inference_only", False)
        if inference_only:  # weights for runners: the policy alone
            world = f"{COMPONENT_RL_MODULE}/{WORLD_MODULE_ID}"
            not_components = [*(not_components or []), world]
        state = super().get_state(components, not_components=not_components, **kwargs)
        if components is None and not inference_only:
            if self._check_component(AGENT_STATE, components, not_components):
                state[AGENT_STATE] = _loaded(_saved(self.core.agent.state_dict()))
            state[LOG_STATE] = self.core.log_partition
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        super().set_state(state)
        self._restored_partition = state.get(LOG_STATE, self._restored_partition)
        if AGENT_STATE in state:
            self.core.agent.load_state_dict(state[AGENT_STATE])

    def save_to_path(
        self, path: Any = None, *, state: Any = None, filesystem: Any = None, **kwargs: Any
    ) -> str:
        """Saves RLlib's state, the agent in `agent.pt` and its replays in `replay/`."""
        with self._errors_kept():
            self.core.flush_log()
            if path is not None:
                filesystem, path = resolve(path, filesystem)
            if state is None:
                state = self.get_state(not_components=[AGENT_STATE])
            rest = {key: value for key, value in state.items() if key != AGENT_STATE}
            path = super().save_to_path(path, state=rest, filesystem=filesystem, **kwargs)
            filesystem, folder = resolve(path, filesystem)
            agent = {**self.core.agent.state_dict(), "version": self.core.version}
            write_file(filesystem, f"{folder}/{AGENT_FILE}", _saved(agent))
            self._replay_files.save(self._replays(), f"{folder}/{REPLAY_FOLDER}", filesystem)
        return path

    def restore_from_path(
        self, path: Any, *, component: str | None = None, filesystem: Any = None, **kwargs: Any
    ) -> None:
        """Restores what `save_to_path` saved."""
        with self._errors_kept():
            filesystem, path = resolve(path, filesystem)
            restore = partial(super().restore_from_path, path, filesystem=filesystem, **kwargs)
            if component is not None:
                restore(component=component)
                return
            whole = _loaded(read_file(filesystem, f"{path}/{AGENT_FILE}"))
            self.core.agent.check_state(whole)  # before anything is changed
            restore()
            self._replay_files.load(self._replays(), f"{path}/{REPLAY_FOLDER}", filesystem)
            # They are published once more, by `Coordinator.start`, under the version they had.
            self.core.version = whole.pop("version") - 1
            self.core.agent.load_state_dict(whole)
            self.core.resume_log(self._restored_partition)

    def close(self) -> None:
        """Removes temporary files and ends the log.

        Raises:
            ValueError: the rest of the log cannot be written.
        """
        self._replay_files.close()
        self.core.close_log()

    def _replays(self) -> dict[str, ReplayBuffer]:
        agent = self.core.agent
        replays = {"real": agent.replay}
        return replays if agent.synthetic is None else {**replays, "synthetic": agent.synthetic}

    def pop_error(self) -> str | None:
        """What went wrong in saving or restoring since the last call; None if nothing did."""
        error, self._error = self._error, None
        return error

    @contextmanager
    def _errors_kept(self) -> Iterator[None]:
        """RLlib drops what a remote learner raises here: keep it for `pop_error`."""
        try:
            yield
        except Exception as error:  # raised by raise_kept_error
            self._error = f"The learner's state could not be saved or restored: {error}"
            logger.exception("Saving or restoring the learner failed.")


def _saved(state: dict[str, Any]) -> bytes:
    """What `torch.save` makes of it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _loaded(content: bytes) -> dict[str, Any]:
    """What `_saved` was given, on the CPU, so that a machine without a GPU can take it over."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
