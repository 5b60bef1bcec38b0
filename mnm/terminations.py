"""Known termination functions of the Gymnasium continuous-control tasks, for imagined transitions.

A model that is told when an episode ends need not learn it. Each function below restates, on a
batch of observations, the rule that the task's own `step` applies to the simulator's state, with
the task's default settings unless told otherwise. Observations are the task's own: neither
normalised nor stacked. Two rules look at more than the observation shows: the docstrings of
`inverted_double_pendulum` and `hopper` say by how much.

Rules restated from Gymnasium 1.2, `gymnasium.envs.mujoco` and `gymnasium.envs.classic_control`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TerminationFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(observations [N, obs], actions [N, act], next_observations [N, obs]) -> bool [N], True where the
task ended on reaching the next observation."""

Range = tuple[float, float]

DOUBLE_PENDULUM_POLE_LENGTH = 0.6  # metres, each of the two
MOUNTAIN_CAR_GOAL_POSITION = 0.45


def never_terminates(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """False [N]: for tasks that only a time limit ends."""
    return torch.zeros(len(next_observations), dtype=torch.bool, device=next_observations.device)


def inverted_pendulum(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """True [N] where the pole leans more than 0.2 rad, or a number is not finite.

    Columns: cart position, pole angle, their velocities.
    """
    fallen = next_observations[:, 1].abs() > 0.2
    return fallen | _not_finite(next_observations)


def inverted_double_pendulum(
    observations: Tensor, actions: Tensor, next_observations: Tensor
) -> Tensor:
    """True [N] where the tip of the upper pole is at most 1 m above the cart.

    Columns: cart position, sine of both joint angles, cosine of both, and what the rule does not
    need. The second angle is relative to the first pole, so the tip stands at
    l cos(angle_1) + l cos(angle_1 + angle_2).

    The task reads the height from the last stage of the simulator's integration step, the
    observation shows the state after it: the two heights differ by up to 2 mm, so that about one
    row in fifty thousand falls on the other side of the limit.
    """
    sine_1, sine_2, cosine_1, cosine_2 = next_observations[:, 1:5].unbind(-1)
    height = DOUBLE_PENDULUM_POLE_LENGTH * (cosine_1 + cosine_1 * cosine_2 - sine_1 * sine_2)
    return height <= 1.0


def hopper(
    observations: Tensor,
    actions: Tensor,
    next_observations: Tensor,
    *,
    healthy_state_range: Range = (-100.0, 100.0),
    healthy_z_range: Range = (0.7, float("inf")),
    healthy_angle_range: Range = (-0.2, 0.2),
    exclude_current_positions_from_observation: bool = True,
) -> Tensor:
    """True [N] where the torso is too low, leans too far, or a number leaves the state's range.

    Columns: (forward position,) height, angle, three joints, six velocities. The velocities stand
    in the observation clipped to [-10, 10], so a limit beyond that, such as the default, cannot be
    seen to be passed by them.
    """
    first = 0 if exclude_current_positions_from_observation else 1
    healthy = (
        _inside(next_observations[:, first + 1 :], healthy_state_range).all(-1)
        & _inside(next_observations[:, first], healthy_z_range)
        & _inside(next_observations[:, first + 1], healthy_angle_range)
    )
    return ~healthy


def walker2d(
    observations: Tensor,
    actions: Tensor,
    next_observations: Tensor,
    *,
    healthy_z_range: Range = (0.8, 2.0),
    healthy_angle_range: Range = (-1.0, 1.0),
    exclude_current_positions_from_observation: bool = True,
) -> Tensor:
    """True [N] where the torso is too low or too high, or leans too far.

    Columns: (forward position,) height, angle, and what the rule does not need.
    """
    first = 0 if exclude_current_positions_from_observation else 1
    healthy = _inside(next_observations[:, first], healthy_z_range) & _inside(
        next_observations[:, first + 1], healthy_angle_range
    )
    return ~healthy


def ant(
    observations: Tensor,
    actions: Tensor,
    next_observations: Tensor,
    *,
    healthy_z_range: Range = (0.2, 1.0),
    exclude_current_positions_from_observation: bool = True,
) -> Tensor:
    """True [N] where the torso is too low or too high, or a number is not finite.

    Columns: (both positions on the ground,) height, and what the rule does not need. The limits
    themselves are healthy heights.
    """
    height = next_observations[:, 0 if exclude_current_positions_from_observation else 2]
    lowest, highest = healthy_z_range
    healthy = (lowest <= height) & (height <= highest)
    return ~healthy | _not_finite(next_observations)


def humanoid(
    observations: Tensor,
    actions: Tensor,
    next_observations: Tensor,
    *,
    healthy_z_range: Range = (1.0, 2.0),
    exclude_current_positions_from_observation: bool = True,
) -> Tensor:
    """True [N] where the torso is too low or too high.

    Columns: (both positions on the ground,) height, and what the rule does not need.
    """
    height = next_observations[:, 0 if exclude_current_positions_from_observation else 2]
    return ~_inside(height, healthy_z_range)


def mountain_car_continuous(
    observations: Tensor,
    actions: Tensor,
    next_observations: Tensor,
    *,
    goal_velocity: float = 0.0,
) -> Tensor:
    """True [N] where the car is at the goal or past it, at the goal's velocity or faster.

    Columns: position, velocity.
    """
    position, velocity = next_observations.unbind(-1)
    return (position >= MOUNTAIN_CAR_GOAL_POSITION) & (velocity >= goal_velocity)


def known_termination(
    env_id: str, env_kwargs: Mapping[str, Any] | None = None
) -> TerminationFunction | None:
    """The termination function of a task, where there is a known one.

    Args:
        env_id: Gymnasium's name of the task, also as `module:Id`.
        env_kwargs: the keyword arguments the environment is made with. Limits of the healthy state
            are followed; `terminate_when_unhealthy=False` gives a task that never terminates.

    Returns:
        A function that can be pickled, or None: for an unknown task, and for a known one made with
        an argument whose effect on the termination is not known here, such as another robot's file.
        The dynamics model then learns when episodes end.
    """
    task = _TASKS.get(env_id.rpartition(":")[2])
    if task is None:
        return None
    given = dict(env_kwargs or {})
    if task.has_healthy_state and not given.pop("terminate_when_unhealthy", True):
        return never_terminates
    if task.function is never_terminates:
        return never_terminates
    settings = {name: given.pop(name) for name in task.settings if name in given}
    if not given.keys() <= _WITHOUT_EFFECT:
        return None
    return functools.partial(task.function, **settings) if settings else task.function


def _inside(values: Tensor, limits: Range) -> Tensor:
    """True where strictly between the limits; False for what is not a number."""
    lowest, highest = limits
    return (lowest < values) & (values < highest)


def _not_finite(observations: Tensor) -> Tensor:
    """True [N] where a row holds an infinity or what is not a number."""
    return ~observations.isfinite().all(-1)


@dataclass(frozen=True)
class _Task:
    """A task's termination function and the environment arguments that it follows."""

    function: Callable[..., Tensor]
    settings: tuple[str, ...] = ()
    has_healthy_state: bool = False


_POSITIONS = "exclude_current_positions_from_observation"

_MUJOCO_TASKS = {
    "InvertedPendulum": _Task(inverted_pendulum),
    "InvertedDoublePendulum": _Task(inverted_double_pendulum),
    "Hopper": _Task(
        hopper,
        ("healthy_state_range", "healthy_z_range", "healthy_angle_range", _POSITIONS),
        has_healthy_state=True,
    ),
    "Walker2d": _Task(
        walker2d, ("healthy_z_range", "healthy_angle_range", _POSITIONS), has_healthy_state=True
    ),
    "Ant": _Task(ant, ("healthy_z_range", _POSITIONS), has_healthy_state=True),
    "Humanoid": _Task(humanoid, ("healthy_z_range", _POSITIONS), has_healthy_state=True),
    "HalfCheetah": _Task(never_terminates),
    "Swimmer": _Task(never_terminates),
    "Reacher": _Task(never_terminates),
    "Pusher": _Task(never_terminates),
    "HumanoidStandup": _Task(never_terminates),
}

_TASKS = {
    **{f"{name}-v4": task for name, task in _MUJOCO_TASKS.items()},
    **{f"{name}-v5": task for name, task in _MUJOCO_TASKS.items()},
    "Pendulum-v1": _Task(never_terminates),
    "MountainCarContinuous-v0": _Task(mountain_car_continuous, ("goal_velocity",)),
}

# Arguments of the environments above, and of `gymnasium.make`, that change rewards, pictures, the
# time limit, the start, the length of a step, or the columns after those the functions read.
_WITHOUT_EFFECT = frozenset(
    {
        "camera_id",
        "camera_name",
        "contact_cost_range",
        "contact_cost_weight",
        "contact_force_range",
        "ctrl_cost_weight",
        "default_camera_config",
        "disable_env_checker",
        "forward_reward_weight",
        "frame_skip",
        "healthy_reward",
        "height",
        "include_cfrc_ext_in_observation",
        "include_cinert_in_observation",
        "include_cvel_in_observation",
        "include_qfrc_actuator_in_observation",
        "main_body",
        "max_episode_steps",
        "max_geom",
        "render_mode",
        "reset_noise_scale",
        "use_contact_forces",
        "visual_options",
        "width",
    }
)
