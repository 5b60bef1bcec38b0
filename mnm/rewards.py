"""Positive rewards for the logarithm of the bound: the transforms "shift" and "exp"."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from mnm.settings import Settings
from mnm.transitions import DataRefused


class RewardTransform:
    """r' = transform(r) > 0 in logarithms, and what a terminated episode is worth.

    "shift": r' = r + c; "exp": r' = exp(beta r), where log r' = beta r and no reward is refused.
    A terminal state is an absorbing one that pays `terminal_reward` for ever (our reconstruction).

    Args:
        settings: reads `reward_transform`, `reward_shift`, `reward_beta`, `terminal_reward` and
            `gamma`.

    Attributes:
        smallest: the smallest real reward seen; predicted rewards are floored there.
        largest: the largest real reward seen; predicted rewards are cut there.
    """

    def __init__(self, settings: Settings) -> None:
        self.kind = settings.reward_transform
        self.shift = settings.reward_shift
        self.beta = settings.reward_beta
        self.gamma = settings.gamma
        self.smallest = math.inf
        self.largest = -math.inf
        if settings.terminal_reward is not None:
            self.log_terminal_reward = math.log(settings.terminal_reward)
        elif self.kind == "exp":
            self.log_terminal_reward = 0.0
        else:
            self.log_terminal_reward = math.log(self.shift) if self.shift > 0 else -math.inf

    @property
    def log_terminal_or_smallest(self) -> float:
        """log of what a terminal state pays a step.

        Where a shift of zero leaves it undefined, the task has never terminated (`check` would have
        refused it): a termination that the model alone imagines then pays the smallest reward.
        """
        if math.isinf(self.log_terminal_reward):
            return math.log(self.smallest + self.shift)
        return self.log_terminal_reward

    @property
    def terminal_value(self) -> float:
        """log(terminal_reward / (1 - gamma)), what a terminal transition bootstraps."""
        return self.log_terminal_or_smallest - math.log1p(-self.gamma)

    @property
    def largest_value(self) -> float:
        """What no value under the bound exceeds, in nats: the largest real reward so far, or what a
        terminal state pays if that is more, for ever.

        The bound is at most the log return, and the log-ratio's expectation under the model is
        never positive (derived for this project from equation (3) of docs/theory.md).
        """
        exp = self.kind == "exp"
        log_reward = self.beta * self.largest if exp else math.log(self.largest + self.shift)
        return max(log_reward - math.log1p(-self.gamma), self.terminal_value)

    def check(
        self,
        rewards: np.ndarray,
        terminateds: np.ndarray,
        first_step: int,
        unit: str = "real step",
    ) -> None:
        """Refuses real rewards whose logarithm does not exist.

        Args:
            rewards: [N] as the environment gave them.
            terminateds: [N] whether the task ended there.
            first_step: number of row 0, for the message.
            unit: what that number counts.

        Raises:
            DataRefused: a shifted reward is not positive, or the task terminates while the
                transformed reward of an ended episode would be zero.
        """
        if self.kind == "shift":
            row = int(rewards.argmin())
            if rewards[row] + self.shift <= 0:
                raise DataRefused(
                    f"The reward {rewards[row]:g} at {unit} {first_step + row} is not positive "
                    f"with reward_shift={self.shift:g}: set reward_shift above "
                    f"{0.0 - rewards[row]:g}, "
                    'or reward_transform="exp".'
                )
            if terminateds.any() and math.isinf(self.log_terminal_reward):
                raise DataRefused(
                    f"The task terminated at {unit} {first_step + int(terminateds.argmax())} "
                    f"and reward_shift={self.shift:g} leaves an ended episode no positive reward: "
                    'set terminal_reward or a positive reward_shift, or reward_transform="exp".'
                )

    def remember(self, rewards: np.ndarray) -> None:
        """Keeps the smallest and the largest of real rewards [N], N at least 1."""
        self.smallest = min(self.smallest, float(rewards.min()))
        self.largest = max(self.largest, float(rewards.max()))

    def check_smallest(self, smallest: float) -> None:
        """Refuses the smallest reward of a checkpoint, made perhaps under another transform.

        Raises:
            ValueError: it is not positive when it is shifted.
        """
        if self.kind == "shift" and smallest + self.shift <= 0:
            raise ValueError(
                f"The checkpoint's smallest reward {smallest:g} is not positive with "
                f"reward_shift={self.shift:g}: set reward_shift above {0.0 - smallest:g}."
            )

    def log(self, rewards: Tensor) -> Tensor:
        """log r' of rewards [...] that `check` has passed."""
        return self.beta * rewards if self.kind == "exp" else (rewards + self.shift).log()

    def log_predicted(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """log r' of predicted rewards [...], held between the smallest and largest real one, and
        which were below it."""
        floored = rewards < self.smallest
        return self.log(rewards.clamp(self.smallest, self.largest)), floored
