"""How far a learned model's trajectories drift from real ones when it follows the same actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnm.dynamics import DynamicsEnsemble
from mnm.transitions import Transitions


@dataclass(frozen=True)
class ModelError:
    """Open-loop errors at the horizons 1 to K.

    Attributes:
        rmse: [K] root mean square over start states, members and dimensions.
        rmse_by_dimension: [K, obs] the same for each dimension of the observation.
        rmse_unchanged: [K] of predicting that the state stays as it is, for comparison.
        starts: [K] start states that have as many real steps after them.
    """

    rmse: np.ndarray
    rmse_by_dimension: np.ndarray
    rmse_unchanged: np.ndarray
    starts: np.ndarray


def contiguous_episodes(transitions: Transitions) -> list[Transitions]:
    """The stretches of consecutive steps of single episodes, in the order of id and step."""
    order = np.lexsort((transitions.steps, transitions.episode_ids))
    rows = transitions[order]
    follows = (np.diff(rows.episode_ids) == 0) & (np.diff(rows.steps) == 1)
    ends = [*(np.flatnonzero(~follows) + 1).tolist(), len(rows)]
    starts = [0, *ends[:-1]]
    return [rows[start:end] for start, end in zip(starts, ends, strict=True) if end > start]


@torch.no_grad()
def model_error(
    dynamics: DynamicsEnsemble,
    episodes: Sequence[Transitions],
    horizon: int,
    scale: np.ndarray,
    members: Tensor | None = None,
    most_starts: int = 500,
) -> ModelError:
    """Error of k predictions in a row, from real states and with the real actions.

    Every member predicts with its own mean, and goes on from what it predicted.

    Args:
        dynamics: the model.
        episodes: contiguous real steps each, see `contiguous_episodes`; at least one step in all.
        horizon: K, cut to the longest episode.
        scale: [obs] units of the errors, such as each dimension's standard deviation.
        members: of the ensemble; None: all.
        most_starts: start states, evenly spread over all steps.
    """
    rows = Transitions.concatenate(episodes)
    # Real steps from each row to the end of its episode, that row's own included.
    left = np.concatenate([np.arange(len(episode), 0, -1) for episode in episodes])
    horizon = min(horizon, int(left.max()))
    spread = np.linspace(0, len(rows) - 1, min(most_starts, len(rows)))
    # The longest stretches too, so that every horizon has a start.
    starts = np.union1d(spread.astype(int), np.flatnonzero(left == left.max()))
    device = dynamics.normaliser.target_mean.device
    observations, actions, following = (
        torch.as_tensor(column, dtype=torch.float32, device=device)
        for column in (rows.observations, rows.actions, rows.next_observations)
    )
    units = torch.as_tensor(scale, dtype=torch.float32, device=device)
    count = dynamics.networks.members if members is None else len(members)
    first = observations[starts]
    state = first.expand(count, -1, -1)
    by_dimension, unchanged, numbers = [], [], []
    for step in range(horizon):
        alive = left[starts] > step
        starts, keep = starts[alive], torch.as_tensor(alive, device=device)
        state, first = state[:, keep], first[keep]
        taken = actions[starts + step].expand(count, -1, -1)
        mean = dynamics.predict(state, taken, members).mean
        change = dynamics.normaliser.denormalise_targets(mean)[..., : dynamics.observation_dim]
        state = state + change
        real = following[starts + step]
        by_dimension.append(((state - real) / units).square().mean((0, 1)))
        unchanged.append(((first - real) / units).square().mean())
        numbers.append(len(starts))
    squares = torch.stack(by_dimension).cpu().numpy()
    return ModelError(
        rmse=np.sqrt(squares.mean(1)),
        rmse_by_dimension=np.sqrt(squares),
        rmse_unchanged=torch.stack(unchanged).sqrt().cpu().numpy(),
        starts=np.array(numbers),
    )


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
        generator: on the model's device.
        members: to draw from; None: all.

    Returns:
        [N, T + 1, obs], the start included.
    """
    device = dynamics.normaliser.target_mean.device
    state = torch.as_tensor(observation, dtype=torch.float32, device=device).repeat(samples, 1)
    states = [state]
    for action in torch.as_tensor(actions, dtype=torch.float32, device=device):
        state, _ = dynamics.sample(state, action.repeat(samples, 1), generator, members)
        states.append(state)
    return torch.stack(states, dim=1).cpu().numpy()
