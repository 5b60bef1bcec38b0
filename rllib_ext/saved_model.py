"""The dynamics model of a checkpoint, read without running pickled code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mnm import Settings
from mnm.dynamics import DynamicsEnsemble
from mnm.terminations import never_terminates
from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line
from rllib_ext.saved_policy import read_agent, read_task, weights_of


@dataclass(frozen=True)
class SavedModel:
    """A dynamics ensemble and how the algorithm imagines with it.

    Attributes:
        dynamics: on the CPU; where no termination was learned, it says that nothing terminates.
        members: [M] that imagine: the elites; None: all, for mnm.
    """

    dynamics: DynamicsEnsemble
    members: Tensor | None


def load_model(checkpoint: Path) -> SavedModel | None:
    """The model of a checkpoint; None where the algorithm has none.

    Raises:
        UserError: the folder is no checkpoint, not a whole one, or damaged.
    """
    algo = read_task(checkpoint)["algo"]
    agent = read_agent(checkpoint)
    try:
        weights = weights_of(agent, "dynamics")
        if not weights:
            return None
        elites = weights["elites"]
        layers = sum(name.startswith("networks.biases.") for name in weights)
        widths = [weights[f"networks.biases.{layer}"].shape[-1] for layer in range(layers - 1)]
        spaces = agent["task"]
        settings = Settings.preset(
            algo,
            ensemble_size=len(weights["networks.biases.0"]),
            num_elites=len(elites),
            dynamics_hidden_sizes=tuple(widths),
            dynamics_weight_decay=(0.0,) * layers,
        )
        learned = any(name.startswith("termination_head.") for name in weights)
        dynamics = DynamicsEnsemble(
            spaces["observation_dim"],
            len(spaces["action_low"]),
            settings,
            None if learned else never_terminates,
        )
        dynamics.load_state_dict(weights)
    except Exception as error:  # whatever a damaged file may hold
        raise UserError(
            f"The checkpoint {checkpoint} is damaged: its model cannot be read "
            f"({first_line(error)})."
        ) from error
    return SavedModel(dynamics, None if algo == "mnm" else elites)
