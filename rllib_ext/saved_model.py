"""Model and classifier of a checkpoint, read without running pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from distributed.storage import Location
from mnm import Settings, TaskSpaces
from mnm.classifier import TransitionClassifier
from mnm.dynamics import DynamicsEnsemble
from mnm.terminations import never_terminates
from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line
from rllib_ext.saved_policy import read_agent, read_task, weights_of


@dataclass(frozen=True)
class SavedModel:
    """What imagines, and what it is of.

    Attributes:
        env: Gymnasium id of the task.
        algo: that trained it.
        env_steps: real steps of the run by then.
        fits: of the model by then.
        spaces: of the task.
        dynamics: on the CPU; where no termination was learned, it says that nothing terminates.
        members: [M] that imagine: the elites; None: all, for mnm.
        classifier: None for mbpo.
    """

    env: str
    algo: str
    env_steps: int
    fits: int
    spaces: TaskSpaces
    dynamics: DynamicsEnsemble
    members: Tensor | None
    classifier: TransitionClassifier | None


def load_model(checkpoint: Location | Path) -> SavedModel | None:
    """The model of a checkpoint; None where the algorithm has none.

    Raises:
        UserError: the folder is no checkpoint, not a whole one, or damaged.
    """
    env, agent = read_task(checkpoint)["env"], read_agent(checkpoint)
    try:
        return _saved_model(env, agent)
    except Exception as error:  # whatever a damaged file may hold
        raise UserError(
            f"The checkpoint {checkpoint} is damaged: its model cannot be read "
            f"({first_line(error)})."
        ) from error


def _saved_model(env: str, agent: Mapping[str, Any]) -> SavedModel | None:
    task, counters = agent["task"], agent["counters"]
    dynamics_state = weights_of(agent, "dynamics")
    classifier_state = weights_of(agent, "classifier")
    if not dynamics_state:
        return None
    spaces = TaskSpaces(
        task["observation_dim"],
        np.array(task["action_low"], np.float32),
        np.array(task["action_high"], np.float32),
    )
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
    settings = Settings.preset(task["algo"], **shape)
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
        algo=task["algo"],
        env_steps=counters["env_steps"],
        fits=counters["fits"],
        spaces=spaces,
        dynamics=dynamics,
        members=None if task["algo"] == "mnm" else dynamics.elites,
        classifier=classifier,
    )


def _sizes(state: Mapping[str, Tensor]) -> tuple[int, tuple[int, ...]]:
    """Members of an ensemble, and widths of its hidden layers."""
    layers = sum(name.startswith("networks.weights.") for name in state)
    shapes = [state[f"networks.weights.{layer}"].shape for layer in range(layers)]
    return shapes[0][0], tuple(shape[2] for shape in shapes[:-1])
