"""The peer of the learner benchmark: SAC's update written as a plain PyTorch loop."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def network(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """Two hidden ReLU layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


class PlainSAC:
    """SAC as most single-file implementations write it: two critics in turn, plain Adam.

    Args:
        observation_dim: width of an observation.
        action_dim: width of an action.
        hidden: width of the two hidden layers.
        batch_size: rows per update.
        rows: random transitions in the buffer.
    """

    def __init__(
        self, observation_dim: int, action_dim: int, hidden: int, batch_size: int, rows: int
    ) -> None:
        self.batch_size, self.rows, self.action_dim = batch_size, rows, action_dim
        self.policy = network(observation_dim, 2 * action_dim, hidden)
        self.critics = [network(observation_dim + action_dim, 1, hidden) for _ in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.policy_optimizer = torch.optim.Adam(self.policy.parameters(), lr=3e-4)
        critic_parameters = [p for critic in self.critics for p in critic.parameters()]
        self.critic_optimizer = torch.optim.Adam(critic_parameters, lr=3e-4)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=3e-4)
        self.observations = torch.randn(rows, observation_dim)
        self.next_observations = torch.randn(rows, observation_dim)
        self.actions = torch.rand(rows, action_dim) * 2 - 1
        self.rewards = torch.randn(rows)

    def act(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled actions [N, act] and log-probabilities [N]."""
        mean, log_std = self.policy(observations).chunk(2, -1)
        log_std = log_std.clamp(-5, 2)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        slope = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
        return torch.tanh(raw), (log_density - slope).sum(-1)

    def update(self) -> None:
        """One update of critics, policy, temperature and targets."""
        rows = torch.randint(self.rows, (self.batch_size,))
        observations, actions = self.observations[rows], self.actions[rows]
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            following = self.next_observations[rows]
            next_actions, log_probability = self.act(following)
            joined = torch.cat([following, next_actions], -1)
            value = torch.min(*(target(joined).squeeze(-1) for target in self.targets))
            target = self.rewards[rows] + 0.99 * (value - alpha * log_probability)
        joined = torch.cat([observations, actions], -1)
        first, second = (
            functional.mse_loss(critic(joined).squeeze(-1), target) for critic in self.critics
        )
        critic_loss = first + second
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        own_actions, log_probability = self.act(observations)
        joined = torch.cat([observations, own_actions], -1)
        value = torch.min(*(critic(joined).squeeze(-1) for critic in self.critics))
        policy_loss = (alpha * log_probability - value).mean()
        self.policy_optimizer.zero_grad()
        policy_loss.backward()
        self.policy_optimizer.step()

        entropy = -log_probability.detach().mean()
        alpha_loss = self.log_alpha * (entropy + self.action_dim)
        self.alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self.alpha_optimizer.step()
        with torch.no_grad():
            for critic, slow in zip(self.critics, self.targets, strict=True):
                for parameter, moved in zip(critic.parameters(), slow.parameters(), strict=True):
                    moved.lerp_(parameter, 0.005)
