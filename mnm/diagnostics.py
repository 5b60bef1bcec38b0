"""How well a fitted model predicts real transitions, and how far its own doubts can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnm.classifier import TransitionClassifier
from mnm.dynamics import DynamicsEnsemble
from mnm.normaliser import SMALLEST_SCALE
from mnm.transitions import Transitions

ROWS_AT_ONCE = 8192
CONSTANT = 1e-6  # a dimension that deviates by no more does not move


@dataclass(frozen=True)
class OneStep:
    """Real next observations under the ensemble's mixture, each row drawn from any member.

    Attributes:
        nll: [N] -log q(s' - s | s, a) in normalised units, nats per dimension.
        quantiles: [N, obs] at which quantile of its prediction each value lies; uniform on (0, 1)
            where the predicted variance is right.
        deviations: [N, obs] distance from the mean in the mixture's standard deviations.
    """

    nll: np.ndarray
    quantiles: np.ndarray
    deviations: np.ndarray


@dataclass(frozen=True)
class OpenLoop:
    """Predictions of k steps along logged actions, k = 1 to H, in the observations' units.

    Attributes:
        starts: [H] starts that have as many steps before their episode ends.
        rmse: [H, obs] root mean square error of the predicted mean.
        spread: [H, obs] predicted standard deviation, root mean square over the starts.
        unmoved: [H, obs] error of predicting that nothing moves.
    """

    starts: np.ndarray
    rmse: np.ndarray
    spread: np.ndarray
    unmoved: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """Predicted probabilities against observed shares, by bins of equal width.

    Attributes:
        counts: [B] rows in each bin.
        predicted: [B] mean probability there; NaN in an empty bin.
        observed: [B] share of what was predicted; NaN in an empty bin.
    """

    counts: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of both, weighted by the counts."""
        filled = self.counts > 0
        distances = np.abs(self.predicted - self.observed)[filled]
        return float(np.average(distances, weights=self.counts[filled]))


@torch.no_grad()
def judge_one_step(
    dynamics: DynamicsEnsemble, transitions: Transitions, members: Tensor | None
) -> OneStep:
    """Compares each real transition with the model's prediction of it.

    Args:
        dynamics: the model.
        transitions: N real ones.
        members: [M] that count; None: all.
    """
    parts = []
    for first in range(0, len(transitions), ROWS_AT_ONCE):
        rows = transitions[first : first + ROWS_AT_ONCE]
        observations, actions, following = _tensors(rows)
        prediction = dynamics.predict(observations, actions, members)
        changes = dynamics.normaliser.changes(observations, following)
        mean = prediction.mean[..., : dynamics.observation_dim].double()
        variance = prediction.log_variance.double().exp()
        scores = (changes - mean) / variance.sqrt()  # [M, N, obs]
        log_density = -0.5 * (scores.square() + variance.log() + math.log(2 * math.pi))
        mixed = torch.logsumexp(log_density.sum(-1), 0) - math.log(len(mean))
        mixture_variance = variance.mean(0) + mean.var(0, unbiased=False)
        parts.append(
            (
                -mixed / changes.shape[-1],
                torch.special.ndtr(scores).mean(0),
                (changes - mean.mean(0)) / mixture_variance.sqrt(),
            )
        )
    return OneStep(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def error_scale(observations: np.ndarray) -> np.ndarray:
    """What errors are measured in: each dimension's standard deviation, but no less than the model
    scales by, as the jitter of a thing at rest says nothing.

    Args:
        observations: [N, obs].

    Returns:
        [obs]; NaN for a dimension that does not move.
    """
    deviation = observations.std(axis=0, dtype=np.float64)
    return np.where(deviation > CONSTANT, np.maximum(deviation, SMALLEST_SCALE), np.nan)


def coverage(quantiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Share [L, obs] of the rows within the central interval of each level [L], 0 to 1."""
    off_centre = 2 * np.abs(quantiles - 0.5)
    return np.stack([(off_centre <= level).mean(0) for level in levels])


def in_order(transitions: Transitions) -> Transitions:
    """The same rows, episode by episode and step by step."""
    order = np.lexsort((transitions.steps, transitions.episode_ids))
    return transitions[order]


def steps_ahead(transitions: Transitions) -> np.ndarray:
    """How many rows [N], itself included, follow on each one without a gap; rows `in_order`."""
    count = len(transitions)
    linked = (
        (np.diff(transitions.episode_ids) == 0)
        & (np.diff(transitions.steps) == 1)
        & ~transitions.terminateds[:-1]
        & ~transitions.truncateds[:-1]
    )
    last = np.append(np.flatnonzero(~linked), count - 1)  # of each unbroken run of rows
    rows = np.arange(count)
    return last[np.searchsorted(last, rows)] - rows + 1


@torch.no_grad()
def judge_open_loop(
    dynamics: DynamicsEnsemble,
    transitions: Transitions,
    starts: np.ndarray,
    horizon: int,
    particles: int,
    generator: torch.Generator,
    members: Tensor | None,
) -> OpenLoop:
    """Rolls the model out along logged actions, without looking at what really followed.

    Every particle draws each step from a random member, as a model rollout does.

    Args:
        dynamics: the model.
        transitions: real ones, `in_order`.
        starts: [S] rows to start from.
        horizon: steps at the most; it ends where no start has so many.
        particles: rollouts from each start, two or more.
        generator: of the draws.
        members: [M] that are drawn from; None: all.
    """
    ahead = steps_ahead(transitions)[starts]
    observations, actions, following = _tensors(transitions)
    states = observations[torch.as_tensor(starts)].repeat_interleave(particles, 0)
    counts, errors, spreads, moves = [], [], [], []
    for step in range(horizon):
        alive = ahead > step
        if not alive.any():
            break
        states = states[torch.as_tensor(alive).repeat_interleave(particles)]
        starts, ahead = starts[alive], ahead[alive]
        rows = torch.as_tensor(starts + step)
        own_actions = actions[rows].repeat_interleave(particles, 0)
        states, _ = dynamics.sample(states, own_actions, generator, members)
        clouds = states.double().view(len(starts), particles, -1)
        variance, mean = torch.var_mean(clouds, dim=1)
        # The mean of a finite number of particles is itself off by variance / particles.
        squares = (following[rows] - mean).square() - variance / particles
        counts.append(len(starts))
        errors.append(squares.mean(0).clamp_min(0).sqrt())
        spreads.append(variance.mean(0).sqrt())
        first = observations[torch.as_tensor(starts)].double()
        moves.append((following[rows] - first).square().mean(0).sqrt())
    stacked = (torch.stack(figures).numpy() for figures in (errors, spreads, moves))
    return OpenLoop(np.array(counts), *stacked)


@torch.no_grad()
def imagined_trajectories(
    dynamics: DynamicsEnsemble,
    observation: np.ndarray,
    actions: np.ndarray,
    samples: int,
    generator: torch.Generator,
    members: Tensor | None = None,
) -> np.ndarray:
    """Trajectories that the model draws from one real state with given actions.

    Args:
        dynamics: the model; each step of each trajectory draws a member anew.
        observation: [obs] where all start.
        actions: [T, act].
        samples: N trajectories.
        generator: of the draws.
        members: to draw from; None: all.

    Returns:
        [N, T + 1, obs], the start included.
    """
    state = torch.as_tensor(observation, dtype=torch.float32).repeat(samples, 1)
    states = [state]
    for action in torch.as_tensor(actions, dtype=torch.float32):
        state, _ = dynamics.sample(state, action.repeat(samples, 1), generator, members)
        states.append(state)
    return torch.stack(states, dim=1).numpy()


@torch.no_grad()
def real_probabilities(
    classifier: TransitionClassifier,
    dynamics: DynamicsEnsemble,
    transitions: Transitions,
    generator: torch.Generator,
    members: Tensor | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The classifier's probability of "real" [N] of real transitions, and [N] of imagined ones.

    The imagined ones start from the same states and actions.
    """
    observations, actions, following = _tensors(transitions)
    imagined, _ = dynamics.sample(observations, actions, generator, members)
    real, false = (
        torch.sigmoid(
            classifier(classifier.inputs(dynamics.normaliser, observations, actions, reached))
        ).numpy()
        for reached in (following, imagined)
    )
    return real, false


def reliability(probabilities: np.ndarray, happened: np.ndarray, bins: int) -> Reliability:
    """How often happens [N] what was predicted with these probabilities [N]."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(place, probabilities, minlength=bins) / counts
        observed = np.bincount(place, happened, minlength=bins) / counts
    return Reliability(counts, predicted, observed)


def _tensors(transitions: Transitions) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.as_tensor(transitions.observations),
        torch.as_tensor(transitions.actions),
        torch.as_tensor(transitions.next_observations),
    )
