"""Model and classifier from a checkpoint, read without running pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnm import Settings, TaskSpaces
from mnm.classifier import TransitionClassifier
from mnm.dynamics import DynamicsEnsemble
from mnm.terminations import never_terminates
from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line
from rllib_ext.saved_policy import agent_file, read_task


@dataclass(frozen=True)
class SavedModel:
    """What imagines, and what it is of.

    Attributes:
        env: Gymnasium id of the task.
        algo: that trained it.
        env_steps: real steps of the run by then.
        spaces: of the task.
        dynamics: the ensemble; its termination is not read.
        members: [M] that imagine; None: all.
        classifier: None for mbpo.
    """

    env: str
    algo: str
    env_steps: int
    spaces: TaskSpaces
    dynamics: DynamicsEnsemble
    members: Tensor | None
    classifier: TransitionClassifier | None


def read_checkpoint_model(checkpoint: Path) -> SavedModel:
    """Model and classifier of a checkpoint, from `task.json` and `agent.pt` alone.

    Raises:
        UserError: the folder is no whole checkpoint, or there is no fitted model in it.
    """
    task, file = read_task(checkpoint), agent_file(checkpoint)
    if task["algo"] == "sac":
        raise UserError(
            f"The checkpoint {checkpoint} is of sac, which has no model to inspect: name one of "
            "mbpo, mnm-approx or mnm."
        )
    try:
        agent = torch.load(file, map_location="cpu", weights_only=True)
        fits = agent["counters"]["fits"]
        model = _saved_model(task["env"], agent)
    except Exception as error:  # whatever a damaged file may raise
        raise UserError(
            f"The checkpoint {checkpoint} is damaged: its model cannot be read "
            f"({first_line(error)})."
        ) from error
    if fits == 0:
        raise UserError(
            f"The model of the checkpoint {checkpoint} was never fitted: train past the random "
            "steps, or name a later checkpoint."
        )
    return model


def _saved_model(env: str, agent: Mapping[str, dict]) -> SavedModel:
    saved, networks = agent["task"], agent["networks"]
    spaces = TaskSpaces(
        saved["observation_dim"],
        np.array(saved["action_low"], np.float32),
        np.array(saved["action_high"], np.float32),
    )
    dynamics_state = _part(networks, "dynamics.")
    classifier_state = _part(networks, "classifier.")
    members, sizes = _sizes(dynamics_state)
    shape = {
        "ensemble_size": members,
        "num_elites": len(dynamics_state["elites"]),
        "dynamics_hidden_sizes": sizes,
        "dynamics_weight_decay": (0.0,) * (len(sizes) + 1),
    }
    if classifier_state:
        size, classifier_sizes = _sizes(classifier_state)
        shape |= {"classifier_ensemble_size": size, "classifier_hidden_sizes": classifier_sizes}
    settings = Settings.preset(saved["algo"], **shape)
    learned = any(name.startswith("termination_head.") for name in dynamics_state)
    dimensions = (spaces.observation_dim, spaces.action_dim)
    dynamics = DynamicsEnsemble(*dimensions, settings, None if learned else never_terminates)
    dynamics.load_state_dict(dynamics_state)
    classifier = None
    if classifier_state:
        classifier = TransitionClassifier(*dimensions, settings)
        classifier.load_state_dict(classifier_state)
    return SavedModel(
        env=env,
        algo=saved["algo"],
        env_steps=agent["counters"]["env_steps"],
        spaces=spaces,
        dynamics=dynamics,
        members=None if saved["algo"] == "mnm" else dynamics.elites,
        classifier=classifier,
    )


def _part(networks: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state of one of the networks."""
    return {
        name.removeprefix(prefix): value
        for name, value in networks.items()
        if name.startswith(prefix)
    }


def _sizes(state: Mapping[str, Tensor]) -> tuple[int, tuple[int, ...]]:
    """Members of an ensemble, and widths of its hidden layers."""
    layers = sum(name.startswith("networks.weights.") for name in state)
    shapes = [state[f"networks.weights.{layer}"].shape for layer in range(layers)]
    return shapes[0][0], tuple(shape[2] for shape in shapes[:-1])
