"""Judges a checkpoint's model and classifier by real transitions from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distributed.offline_data import OfflineData
from mnm import Transitions
from mnm.diagnostics import (
    OneStep,
    OpenLoop,
    Reliability,
    coverage,
    error_scale,
    in_order,
    judge_one_step,
    judge_open_loop,
    real_probabilities,
    reliability,
    steps_ahead,
)
from rllib_ext.errors import UserError
from rllib_ext.saved_model import SavedModel, load_model

STARTS = 500  # of open-loop predictions
PARTICLES = 20  # from each start
CLASSIFIER_ROWS = 50_000
BINS = 10
LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
WORST = 10


@dataclass(frozen=True)
class WorstTransition:
    """One that the model thought most unlikely.

    Attributes:
        source: folder or data set that it is from.
        episode: number there.
        step: within the episode.
        nll: nats per dimension.
        dimension: of the observation that is farthest off.
        deviations: how far, in predicted standard deviations.
    """

    source: str
    episode: int
    step: int
    nll: float
    dimension: int
    deviations: float


@dataclass(frozen=True)
class Inspection:
    """What the transitions say of the model.

    Attributes:
        model: that was judged.
        warnings: a sentence for each file that was passed over.
        rows: transitions.
        episodes: that they are of.
        deviation: [obs] standard deviation of each dimension in the data.
        scale: [obs] the same, 0.01 at the least; NaN where a dimension does not move.
        one_step: of all rows.
        covered: [levels, obs] share of the rows within the predicted interval of each of `LEVELS`.
        open_loop: of `STARTS` random starts.
        classifier: None without one.
        accuracy: of the classifier, real and imagined alike; NaN without one.
        worst: the most unlikely first.
    """

    model: SavedModel
    warnings: list[str]
    rows: int
    episodes: int
    deviation: np.ndarray
    scale: np.ndarray
    one_step: OneStep
    covered: np.ndarray
    open_loop: OpenLoop
    classifier: Reliability | None
    accuracy: float
    worst: list[WorstTransition]

    @property
    def moving(self) -> np.ndarray:
        """[obs] which dimensions move: of the others any variance covers everything."""
        return np.isfinite(self.scale)


def inspect_checkpoint(
    checkpoint: Path, paths: Sequence[str], horizon: int, seed: int
) -> Inspection:
    """Judges the model of a checkpoint; no pickle is read.

    Args:
        checkpoint: folder that a run or `MnM.save_to_path` wrote.
        paths: of real transitions; see `OfflineData`.
        horizon: steps of open-loop prediction at the most.
        seed: of the starts and of all draws.

    Raises:
        UserError: the checkpoint or the data do not serve.
    """
    model = load_model(checkpoint)
    if model is None:
        raise UserError(
            f"The checkpoint {checkpoint} is of sac, which has no model to inspect: name one of "
            "mbpo, mnm-approx or mnm."
        )
    if model.fits == 0:
        raise UserError(
            f"The model of the checkpoint {checkpoint} was never fitted: train past the random "
            "steps, or name a later checkpoint."
        )
    try:
        data = OfflineData(paths, model.spaces)
        data.check(lambda batch, first_row: None)
        transitions = in_order(Transitions.concatenate(list(data.batches())))
    except ValueError as error:
        raise UserError(str(error)) from error
    generator = torch.Generator().manual_seed(seed)
    choice = np.random.default_rng(seed)
    one_step = judge_one_step(model.dynamics, transitions, model.members)
    judged, accuracy = _judge_classifier(model, transitions, choice, generator)
    return Inspection(
        model=model,
        warnings=data.warnings,
        rows=len(transitions),
        episodes=len(np.unique(transitions.episode_ids)),
        deviation=transitions.observations.std(0),
        scale=error_scale(transitions.observations),
        one_step=one_step,
        covered=coverage(one_step.quantiles, LEVELS),
        open_loop=judge_open_loop(
            model.dynamics,
            transitions,
            _starts(transitions, horizon, choice),
            horizon,
            PARTICLES,
            generator,
            model.members,
        ),
        classifier=judged,
        accuracy=accuracy,
        worst=_worst(data, transitions, one_step),
    )


def known_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is, without NumPy's warning."""
    known = np.ma.masked_where(np.isnan(values), values)
    return np.ma.filled(known.mean(axis=-1), np.nan)


def _starts(transitions: Transitions, horizon: int, choice: np.random.Generator) -> np.ndarray:
    """Rows to start from; with enough steps ahead, where there are enough of such rows."""
    ahead = steps_ahead(transitions)
    long = np.flatnonzero(ahead >= min(horizon, ahead.max()))
    rows = long if len(long) >= STARTS else np.arange(len(transitions))
    return np.sort(choice.choice(rows, min(STARTS, len(rows)), replace=False))


def _judge_classifier(
    model: SavedModel,
    transitions: Transitions,
    choice: np.random.Generator,
    generator: torch.Generator,
) -> tuple[Reliability | None, float]:
    if model.classifier is None:
        return None, float("nan")
    count = min(CLASSIFIER_ROWS, len(transitions))
    rows = choice.choice(len(transitions), count, replace=False)
    real, imagined = real_probabilities(
        model.classifier, model.dynamics, transitions[rows], generator, model.members
    )
    probabilities = np.concatenate([real, imagined])
    is_real = np.repeat([True, False], count)
    accuracy = float(((probabilities > 0.5) == is_real).mean())
    return reliability(probabilities, is_real, BINS), accuracy


def _worst(data: OfflineData, transitions: Transitions, one_step: OneStep) -> list[WorstTransition]:
    found = []
    for row in np.argsort(-one_step.nll, kind="stable")[:WORST]:
        source, episode = data.origin(int(transitions.episode_ids[row]))
        dimension = int(np.abs(one_step.deviations[row]).argmax())
        found.append(
            WorstTransition(
                source,
                episode,
                int(transitions.steps[row]),
                float(one_step.nll[row]),
                dimension,
                float(one_step.deviations[row, dimension]),
            )
        )
    return found
