"""A point on a line, in NumPy alone: the task that every algorithm must learn within seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mnm import Agent, TaskSpaces, Transitions

SPACES = TaskSpaces(1, np.array([-1.0], np.float32), np.array([1.0], np.float32))


class PointOnALine:
    """The action pushes the point; the reward, at most 1 a step, is highest at the target.

    A push moves the point by up to 0.25, with a little noise. Positions are in [-2, 2] at the start
    and the target is at 0.5.

    Args:
        seed: of starts and noise.
        slope: drift of the point away from the origin, as a share of its position; with a slope the
            task ends where the point is further than 1 from the origin, which a random policy soon
            brings about.
    """

    length = 20
    target = 0.5

    def __init__(self, seed: int, slope: float = 0.0) -> None:
        self.generator = np.random.default_rng(seed)
        self.slope = slope
        self.position = 0.0
        self.steps = 0

    def reset(self) -> np.ndarray:
        """The first observation [1] of an episode."""
        reach = 0.5 if self.slope else 2.0
        self.position = self.generator.uniform(-reach, reach)
        self.steps = 0
        return self._observation()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Next observation [1], reward, whether the task ended, whether the episode was cut."""
        push = 0.25 * float(np.clip(action, -1, 1).item())
        noise = 0.01 * self.generator.normal()
        self.position += self.slope * self.position + push + noise
        self.steps += 1
        terminated = self.slope > 0 and abs(self.position) > 1
        target = 0.0 if self.slope else self.target
        reward = float(np.exp(-((self.position - target) ** 2))) * (not terminated)
        return self._observation(), reward, terminated, self.steps == self.length

    def _observation(self) -> np.ndarray:
        return np.array([self.position], np.float32)


def mean_return(
    act: Callable[[np.ndarray], np.ndarray], slope: float, episodes: int = 20, seed: int = 1000
) -> float:
    """Mean undiscounted return of `act`, which maps observations [1, 1] to actions [1, 1]."""
    environment, total = PointOnALine(seed, slope), 0.0
    for _ in range(episodes):
        observation, ended = environment.reset(), False
        while not ended:
            observation, reward, terminated, truncated = environment.step(act(observation[None]))
            total += reward
            ended = terminated or truncated
    return total / episodes


def train(agent: Agent, steps: int, slope: float, seed: int = 0) -> dict[str, float]:
    """Trains for a number of real steps in the plainest loop; the last statistics."""
    environment, generator = PointOnALine(seed, slope), np.random.default_rng(seed)
    observation, episode, statistics = environment.reset(), 0, {}
    for step in range(steps):
        if step < agent.settings.num_random_steps:
            action = generator.uniform(-1, 1, size=(1, 1)).astype(np.float32)
        else:
            action = agent.act(observation[None])
        before, step_of_episode = observation, environment.steps
        observation, reward, terminated, truncated = environment.step(action)
        agent.ingest(
            Transitions(
                before[None],
                action,
                np.array([reward], np.float32),
                observation[None],
                np.array([terminated]),
                np.array([truncated]),
                np.array([episode]),
                np.array([step_of_episode]),
            )
        )
        if terminated or truncated:
            observation, episode = environment.reset(), episode + 1
        statistics.update(agent.learn())
    return statistics
