"""Tiny tasks of the tests: a point on a line, in the variants that have to work or be refused.

Importing this module registers them with Gymnasium, so `tests.line_tasks:Line-v0` names one.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LOW, HIGH = -2.0, 4.0  # of the action: neither symmetric nor of unit size
STEP_SIZE = 0.1


class Line(gym.Env[np.ndarray, np.ndarray]):
    """A point on a line is pushed by the action; it ends far from the origin or after a while.

    The observation is (position, steps of the episode, number of the episode), so that a test can
    tell where a row belongs.

    Args:
        length: steps after which an episode is truncated.
        limit: distance at which it terminates.
        reward: of every step; None: the nearer to the origin the more, from 0 to 1.
        nan_after: steps in all after which the position is not a number; None: never.
        start: largest distance of the first position.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        length: int = 10,
        limit: float = 1.0,
        reward: float | None = None,
        nan_after: int | None = None,
        start: float = 0.3,
        render_mode: str | None = None,
    ) -> None:
        self.length, self.limit, self.reward, self.nan_after = length, limit, reward, nan_after
        self.start = start
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(LOW, HIGH, (1,), np.float32)
        self.total_steps = 0
        self.episode = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts near the origin."""
        super().reset(seed=seed)
        self.position = float(self.np_random.uniform(-self.start, self.start))
        self.steps = 0
        self.episode += 1
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves the point."""
        self.position += STEP_SIZE * float(np.asarray(action).reshape(-1)[0])
        self.steps += 1
        self.total_steps += 1
        if self.nan_after is not None and self.total_steps > self.nan_after:
            self.position = float("nan")
        reward = float(np.exp(-(self.position**2))) if self.reward is None else self.reward
        terminated = abs(self.position) > self.limit
        return self.observe(), reward, terminated, self.steps >= self.length, {}

    def observe(self) -> Any:
        """What the agent sees."""
        return np.array([self.position, self.steps, self.episode], dtype=np.float32)

    def render(self) -> np.ndarray:
        """A small picture with the point in it."""
        picture = np.zeros((16, 32, 3), dtype=np.uint8)
        picture[8, int(np.clip(16 + 8 * self.position, 0, 31))] = 255
        return picture


class Twin(Line):
    """Another task with spaces of the same widths."""


class Plane(Line):
    """A task with wider spaces."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Box(LOW, HIGH, (2,), np.float32)

    def observe(self) -> Any:
        """One number more than `Line`."""
        return np.append(super().observe(), np.float32(0.0))


class Discrete(Line):
    """Discrete actions: refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = spaces.Discrete(3)


class Unbounded(Line):
    """Actions without bounds: refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Stuck(Line):
    """Of two actions one that has no range: refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = spaces.Box(
            np.array([-1, 0.5], np.float32), np.array([1, 0.5], np.float32)
        )


class Image(Line):
    """Pictures for observations: refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def observe(self) -> Any:
        """A black picture."""
        return np.zeros((8, 8, 3), dtype=np.uint8)


class Named(Line):
    """The same observation as a Dict."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Dict(
            {
                "episode": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "position": spaces.Box(-np.inf, np.inf, (1,), np.float32),
            }
        )

    def observe(self) -> Any:
        """Steps and episode number under one name, position under the other."""
        position, steps, episode = super().observe()
        return {
            "episode": np.array([steps, episode], dtype=np.float32),
            "position": np.array([position], dtype=np.float32),
        }


class BrokenAfterAWhile(Line):
    """Not a number after a hundred steps."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"nan_after": 100, **kwargs})


class Negative(Line):
    """A negative reward at every step."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"reward": -1.5, **kwargs})


class Raising(Line):
    """Raises in its steps, and as it is made again.

    Args:
        raises_at: step of each environment at which it raises.
        times: environments made in this process that raise; those after them work.
        made_again: whether another one can be made after the first.
    """

    made = 0

    def __init__(
        self, raises_at: int = 7, times: int = 1, made_again: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**{"limit": 1e9, **kwargs})
        if Raising.made and not made_again:
            raise OSError("no licence for another simulator")
        Raising.made += 1
        self.raises_at = raises_at if Raising.made <= times else None

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As ever, until it raises."""
        if self.total_steps + 1 == self.raises_at:
            raise ValueError("the simulator is unstable\nand more on another line")
        return super().step(action)


class Fading(Line):
    """The later it is, the smaller the reward: of two trials one after the other the first wins."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"limit": 1e9, **kwargs})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As ever, but for the reward, which is the inverse of the machine's uptime in days."""
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 86400.0 / time.monotonic(), terminated, truncated, info


def far_from_origin(observations: Any, actions: Any, next_observations: Any) -> Any:
    """The termination rule of `Line`, for `termination="tests.line_tasks:far_from_origin"`."""
    return next_observations[:, 0].abs() > 1.0


for task in (
    Line,
    Twin,
    Plane,
    Discrete,
    Unbounded,
    Stuck,
    Image,
    Named,
    BrokenAfterAWhile,
    Negative,
    Raising,
    Fading,
):
    name = f"{task.__name__}-v0"
    if name not in gym.registry:
        gym.register(name, task, disable_env_checker=True, order_enforce=False)
