"""Trained models beside the real environment: errors by horizon, imagined beside real paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distributed.storage import Location
from mnm import Transitions
from mnm.diagnostics import (
    error_scale,
    imagined_trajectories,
    in_order,
    judge_open_loop,
    steps_ahead,
)
from rllib_ext.errors import UserError
from rllib_ext.evaluation import play_episodes
from rllib_ext.ray_session import first_line
from rllib_ext.report.runs import Run
from rllib_ext.saved_model import SavedModel, load_model
from rllib_ext.saved_policy import load_policy

HORIZON = 25  # model steps in a row that the error is measured over
STARTS, PARTICLES = 200, 20  # of these predictions: starts at the most, and rollouts from each
PATH_STEPS = 50  # real steps that are drawn beside imagined ones
PATHS = 100  # imagined trajectories of one start
SEED = 2_000_000  # of the episodes, apart from those of training and evaluation


@dataclass(frozen=True)
class ModelCheck:
    """One run's model against real episodes of its own policy.

    Attributes:
        error: [K] root mean square error of the predicted mean by horizon, over the starts and
            dimensions that move, in units of `scale`.
        unchanged: [K] the same of predicting that nothing changes.
        scale: [obs] standard deviations over the real episodes of all runs of the task, 0.01 at the
            least; NaN where a dimension does not move.
        real: [T + 1, obs] the beginning of a real episode.
        imagined: [N, T + 1, obs] from the same start with the same actions.
    """

    error: np.ndarray
    unchanged: np.ndarray
    scale: np.ndarray
    real: np.ndarray
    imagined: np.ndarray


@dataclass(frozen=True)
class _Played:
    model: SavedModel
    steps: Transitions


def check_models(
    runs: Sequence[Run], episodes: int, horizon: int = HORIZON
) -> tuple[dict[Location, ModelCheck], list[str]]:
    """Plays episodes with the policies of runs of one task, and has their models predict them.

    Args:
        runs: of one task, on the same environment.
        episodes: real ones a run, with the policy's exploration noise, as it was trained with.
        horizon: model steps in a row.

    Returns:
        Checks by the run's folder; a sentence for each run with a model that was not checked.
    """
    played: dict[Location, _Played] = {}
    notes = []
    for run in runs:
        try:
            if run.checkpoint is None:
                raise UserError(f"{run.folder}: no whole checkpoint.")
            model = load_model(run.checkpoint)
            if model is not None:
                policy = load_policy(run.checkpoint)
                collected = play_episodes(policy, episodes, SEED, "explore")
                played[run.folder] = _Played(model, in_order(collected.transitions))
        except UserError as error:
            notes.append(str(error))
        except Exception as error:  # of the user's environment, or of files that are on their way
            notes.append(f"{run.folder}: {type(error).__name__}: {first_line(error)}")
    if not played:
        return {}, notes
    observations = np.concatenate([each.steps.observations for each in played.values()])
    scale = error_scale(observations)
    return {
        folder: _check(each.model, each.steps, scale, horizon) for folder, each in played.items()
    }, notes


def _check(model: SavedModel, steps: Transitions, scale: np.ndarray, horizon: int) -> ModelCheck:
    generator = torch.Generator().manual_seed(SEED)
    ahead = steps_ahead(steps)
    spread = np.linspace(0, len(steps) - 1, min(STARTS, len(steps))).astype(int)
    longest = int(np.argmax(ahead))  # so that every horizon has a start
    judged = judge_open_loop(
        model.dynamics,
        steps,
        np.union1d(spread, longest),
        horizon,
        PARTICLES,
        generator,
        model.members,
    )
    error, unchanged = (
        np.sqrt(np.nanmean(np.square(errors / scale), axis=1))
        for errors in (judged.rmse, judged.unmoved)
    )
    shown = steps[longest : longest + min(PATH_STEPS, ahead[longest])]
    imagined = imagined_trajectories(
        model.dynamics, shown.observations[0], shown.actions, PATHS, generator, model.members
    )
    real = np.concatenate([shown.observations, shown.next_observations[-1:]])
    return ModelCheck(error, unchanged, scale, real, imagined)
