"""Trained models beside the real environment: errors by horizon, imagined beside real paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mnm import Transitions
from mnm.model_error import ModelError, contiguous_episodes, imagined_trajectories, model_error
from rllib_ext.errors import UserError
from rllib_ext.evaluation import play_episodes
from rllib_ext.ray_session import first_line
from rllib_ext.report.runs import Run
from rllib_ext.saved_model import SavedModel, load_model
from rllib_ext.saved_policy import load_policy

HORIZON = 25  # model steps in a row that the error is measured over
PATH_STEPS = 50  # real steps that are drawn beside imagined ones
PATHS = 100  # imagined trajectories of one start
SEED = 2_000_000  # of the episodes, apart from those of training and evaluation
SMALLEST_SCALE = 1e-6  # a dimension that moves less does not count


@dataclass(frozen=True)
class ModelCheck:
    """One run's model against real episodes of its own policy.

    Attributes:
        error: by horizon, in units of `scale`.
        scale: [obs] standard deviations over the real episodes of all runs of the task; infinite
            for a dimension that does not move.
        real: [T + 1, obs] the beginning of a real episode.
        imagined: [N, T + 1, obs] from the same start with the same actions.
    """

    error: ModelError
    scale: np.ndarray
    real: np.ndarray
    imagined: np.ndarray


@dataclass(frozen=True)
class _Played:
    model: SavedModel
    episodes: list[Transitions]


def check_models(
    runs: Sequence[Run], episodes: int, horizon: int = HORIZON
) -> tuple[dict[Path, ModelCheck], list[str]]:
    """Plays episodes with the policies of runs of one task, and has their models predict them.

    Args:
        runs: of one task, on the same environment.
        episodes: real ones a run, with the policy's exploration noise, as it was trained with.
        horizon: model steps in a row.

    Returns:
        Checks by the run's folder; a sentence for each run with a model that was not checked.
    """
    played: dict[Path, _Played] = {}
    notes = []
    for run in runs:
        if run.checkpoint is None:
            notes.append(f"{run.folder}: no whole checkpoint.")
            continue
        try:
            model = load_model(run.checkpoint)
            if model is not None:
                policy = load_policy(run.checkpoint)
                collected = play_episodes(policy, episodes, SEED, "explore")
                played[run.folder] = _Played(model, contiguous_episodes(collected.transitions))
        except UserError as error:
            notes.append(str(error))
        except Exception as error:  # whatever the user's environment may raise
            notes.append(f"{run.folder}: the environment failed ({first_line(error)}).")
    if not played:
        return {}, notes
    observations = np.concatenate(
        [episode.observations for each in played.values() for episode in each.episodes]
    )
    moves = observations.std(axis=0, dtype=np.float64)
    scale = np.where(moves > SMALLEST_SCALE, moves, np.inf)
    return {
        folder: _check(each.model, each.episodes, scale, horizon) for folder, each in played.items()
    }, notes


def _check(
    model: SavedModel, episodes: list[Transitions], scale: np.ndarray, horizon: int
) -> ModelCheck:
    error = model_error(model.dynamics, episodes, horizon, scale, model.members)
    shown = max(episodes, key=len)[:PATH_STEPS]
    imagined = imagined_trajectories(
        model.dynamics,
        shown.observations[0],
        shown.actions,
        PATHS,
        torch.Generator().manual_seed(SEED),
        model.members,
    )
    real = np.concatenate([shown.observations, shown.next_observations[-1:]])
    return ModelCheck(error, scale, real, imagined)
