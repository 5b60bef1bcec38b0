"""An estimate of the lower bound while it trains, beside the log return it should lie below.

Both sides share one horizon T, the stochastic policy, the transformed rewards and the absorbing
tail after a termination. With Z = (1 - gamma^T) / (1 - gamma) (derived for this project, see
docs/theory.md; `mnm.tabular.finite_horizon_bound` is the exact counterpart):

    log E_p sum_{t<T} gamma^t r'  >=
        log Z + E_q sum_{t<T} [ gamma^t / Z log r'
                                + (gamma^(t+1) - gamma^T) / (1 - gamma^T) log p/q ]

The classifier's unclipped logit stands for log p/q, so this is an estimate and not a bound. The
same trajectories tell what the model promises, E_q sum gamma^t r': above the real return, the model
is optimistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnm.classifier import TransitionClassifier
from mnm.dynamics import DynamicsEnsemble, given_end
from mnm.policy import TanhGaussianPolicy
from mnm.rewards import RewardTransform
from mnm.settings import Settings
from mnm.transitions import DataRefused


@dataclass(frozen=True)
class BoundSamples:
    """Samples of both sides of the bound, in nats.

    Attributes:
        bounds: [N] of imagined trajectories; their mean is the estimate of the bound.
        imagined_log_returns: [N] of the same; the log of their mean exponential is the log return
            in the model.
        real_log_returns: [M] of real episodes; likewise, the log return.
        horizon: steps T that all are summed over.
    """

    bounds: np.ndarray
    imagined_log_returns: np.ndarray
    real_log_returns: np.ndarray
    horizon: int


def horizon_weights(gamma: float, horizon: int) -> tuple[float, np.ndarray, np.ndarray]:
    """log Z, and the weights [T] of log r' and of log p/q at each step."""
    steps = np.arange(horizon)
    tail = gamma**horizon
    log_total = math.log1p(-tail) - math.log1p(-gamma)
    reward_weights = gamma**steps / math.exp(log_total)
    ratio_weights = (gamma ** (steps + 1) - tail) / (1 - tail)
    return log_total, reward_weights, ratio_weights


def bound_samples(
    policy: TanhGaussianPolicy,
    dynamics: DynamicsEnsemble,
    classifier: TransitionClassifier,
    rewards: RewardTransform,
    settings: Settings,
    start_observations: Tensor,
    episode_rewards: Sequence[np.ndarray],
    terminateds: Sequence[bool],
    generator: torch.Generator,
    members: Tensor | None = None,
) -> BoundSamples:
    """Samples of both sides, over the horizon that the shortest unfinished episode allows.

    Args:
        policy: that played the episodes, and acts in the model.
        dynamics: see `imagined_bounds`.
        classifier: likewise.
        rewards: transforms real and predicted rewards.
        settings: reads `bound_horizon` and `bound_rollouts`.
        start_observations: [N, obs] first observations of the real episodes.
        episode_rewards: [<= bound_horizon] rewards of each.
        terminateds: whether each terminated within those steps.
        generator: on the networks' device.
        members: of the ensemble to imagine with; None: all.
    """
    lengths = [
        len(values)
        for values, terminated in zip(episode_rewards, terminateds, strict=True)
        if not terminated
    ]
    horizon = min([settings.bound_horizon, *lengths])
    real = real_log_returns(episode_rewards, terminateds, rewards, horizon)
    drawn = torch.randint(
        len(start_observations),
        (settings.bound_rollouts,),
        generator=generator,
        device=start_observations.device,
    )
    bounds, imagined = imagined_bounds(
        policy,
        dynamics,
        classifier,
        rewards,
        start_observations[drawn],
        horizon,
        generator,
        members,
    )
    return BoundSamples(bounds.cpu().numpy(), imagined.cpu().numpy(), real, horizon)


@torch.no_grad()
def imagined_bounds(
    policy: TanhGaussianPolicy,
    dynamics: DynamicsEnsemble,
    classifier: TransitionClassifier,
    rewards: RewardTransform,
    start_observations: Tensor,
    horizon: int,
    generator: torch.Generator,
    members: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Both sides' sums along trajectories of the model.

    Args:
        policy: acts, with its own noise.
        dynamics: imagines; a terminal state is absorbing, pays the terminal reward and has
            log p/q = 0.
        classifier: its logit estimates log p/q.
        rewards: transforms the predicted rewards.
        start_observations: [N, obs] first states of real episodes.
        horizon: T.
        generator: on the networks' device.
        members: of the ensemble to imagine with; None: all.

    Returns:
        [N] the right side, log Z included, and [N] log sum gamma^t r'.
    """
    log_total, reward_weights, ratio_weights = horizon_weights(rewards.gamma, horizon)
    observations = start_observations
    totals = torch.full((len(observations),), log_total, device=observations.device)
    log_returns = torch.full_like(totals, -math.inf)
    alive = torch.ones_like(totals)
    for step, (reward_weight, ratio_weight) in enumerate(
        zip(reward_weights.tolist(), ratio_weights.tolist(), strict=True)
    ):
        actions = policy.explore(observations, generator)
        following, predicted = dynamics.sample(observations, actions, generator, members)
        logit = classifier(classifier.inputs(dynamics.normaliser, observations, actions, following))
        ended = dynamics.ends(observations, actions, following, generator)
        log_reward, _ = rewards.log_predicted(given_end(predicted, ended))
        log_reward = torch.lerp(
            torch.full_like(log_reward, rewards.log_terminal_or_smallest), log_reward, alive
        )
        totals = totals + reward_weight * log_reward + ratio_weight * alive * logit
        log_returns = torch.logaddexp(log_returns, step * math.log(rewards.gamma) + log_reward)
        alive = alive * (~ended).float()
        observations = torch.where(alive[:, None] > 0, following, observations)
    return totals, log_returns


def real_log_returns(
    episodes: Sequence[np.ndarray],
    terminateds: Sequence[bool],
    rewards: RewardTransform,
    horizon: int,
) -> np.ndarray:
    """log sum_{t<T} gamma^t r' of real episodes; the log of their mean is the left side.

    Args:
        episodes: rewards of each episode; those after T count nothing.
        terminateds: whether each ended in a terminal state; only then may it be shorter than T.
        rewards: transforms them.
        horizon: T.

    Returns:
        [episodes] in nats.

    Raises:
        DataRefused: an episode is shorter than the horizon and did not terminate, or the transform
            refuses a reward.
    """
    results = []
    for number, (values, terminated) in enumerate(zip(episodes, terminateds, strict=True)):
        counted = values[:horizon]
        ends = np.zeros(len(counted), dtype=bool)  # what ends pay is the tail's
        rewards.check(counted, ends, 0, f"evaluation episode {number}, step")
        log_rewards = rewards.log(torch.as_tensor(counted, dtype=torch.float64))
        missing = horizon - len(log_rewards)
        if missing > 0 and not terminated:
            raise DataRefused(
                f"Episode {number} has {len(log_rewards)} steps and did not terminate: the horizon "
                f"of the bound must be at most that, not {horizon}."
            )
        tail = torch.full((max(missing, 0),), rewards.log_terminal_or_smallest, dtype=torch.float64)
        discounts = torch.arange(horizon, dtype=torch.float64) * math.log(rewards.gamma)
        results.append(float(torch.logsumexp(discounts + torch.cat([log_rewards, tail]), 0)))
    return np.array(results)


def log_mean_exp(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """log of the mean of exp(values) along an axis."""
    return np.logaddexp.reduce(values, axis=axis) - math.log(values.shape[axis])
