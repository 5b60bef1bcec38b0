"""Tests that the known terminations agree with the real tasks on every row they produce."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from mnm.terminations import (
    ant,
    hopper,
    humanoid,
    inverted_double_pendulum,
    inverted_pendulum,
    known_termination,
    never_terminates,
    walker2d,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date.*")

VERSIONS = ("v4", "v5")
ENDING = ("InvertedPendulum", "InvertedDoublePendulum", "Hopper", "Walker2d", "Ant", "Humanoid")
ENDLESS = ("HalfCheetah", "Swimmer", "Reacher", "Pusher", "HumanoidStandup")
ACTION_SCALES = (0.0, 0.3, 1.0, 3.0)  # 3: beyond the action space, which the simulator clips

Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Rows = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """MuJoCo writes what it has against a task's old model file into a log where it is run."""
    monkeypatch.chdir(tmp_path)


def collect(
    env_id: str,
    steps: int,
    scale: float = 1.0,
    env_kwargs: dict[str, Any] | None = None,
    policy: Policy | None = None,
) -> Rows:
    """Steps a real task, and for the double pendulum notes the height its rule looks at."""
    env = gymnasium.make(env_id, **(env_kwargs or {}))
    generator = np.random.default_rng(0)
    low, high = env.action_space.low, env.action_space.high
    observation, _ = env.reset(seed=0)
    rows: dict[str, list[Any]] = {name: [] for name in ("before", "action", "after", "end", "tip")}
    for _ in range(steps):
        action = (
            scale * generator.uniform(low, high)
            if policy is None
            else policy(observation, generator)
        )
        following, _, terminated, truncated, _ = env.step(action.astype(np.float32))
        data = getattr(env.unwrapped, "data", None)
        rows["before"].append(observation)
        rows["action"].append(action)
        rows["after"].append(following)
        rows["end"].append(terminated)
        rows["tip"].append(
            data.site_xpos[0][2] if data is not None and data.site_xpos.size else 0.0
        )
        observation = env.reset()[0] if terminated or truncated else following
    env.close()
    return {name: np.asarray(column) for name, column in rows.items()}


def predict(env_id: str, rows: Rows, env_kwargs: dict[str, Any] | None = None) -> np.ndarray:
    """What the known function says of the rows, as the learner asks it: in float32."""
    termination = known_termination(env_id, env_kwargs)
    assert termination is not None
    columns = [
        torch.as_tensor(rows[name], dtype=torch.float32) for name in ("before", "action", "after")
    ]
    prediction = termination(*columns)
    assert prediction.dtype == torch.bool
    assert prediction.shape == (len(columns[0]),)
    return prediction.numpy()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("task", ENDING)
def test_matches_every_real_step_of_a_task_that_terminates(task, version):
    env_id = f"{task}-{version}"
    ends = 0
    for scale in ACTION_SCALES:
        rows = collect(env_id, 500 if task == "Humanoid" else 1000, scale)
        prediction = predict(env_id, rows)
        # The double pendulum's rule sees the tip up to 2 mm from where the observation puts it.
        clear = (
            np.abs(rows["tip"] - 1.0) > 2e-3 if task == "InvertedDoublePendulum" else slice(None)
        )
        np.testing.assert_array_equal(prediction[clear], rows["end"][clear])
        assert np.sum(prediction != rows["end"]) <= 2
        ends += rows["end"].sum()
    assert ends >= 10


@pytest.mark.parametrize(
    "env_id",
    [
        f"{task}-{version}"
        for task in ENDLESS
        for version in VERSIONS
        if (task, version) != ("Pusher", "v4")
    ]
    + ["Pendulum-v1"],
)
def test_matches_every_real_step_of_a_task_that_never_terminates(env_id):
    for scale in (1.0, 3.0):
        rows = collect(env_id, 300, scale)
        assert not rows["end"].any()
        assert not predict(env_id, rows).any()


def test_pusher_v4_never_terminates():
    # Gymnasium refuses to make it with MuJoCo 3 and later; its rule is that of Pusher-v5.
    assert known_termination("Pusher-v4") is never_terminates


def test_matches_every_real_step_of_the_mountain_car():
    def swing(observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return np.where(observation[1:] >= 0.0, 1.0, -1.0) * generator.uniform(0.8, 1.0, 1)

    rows = collect("MountainCarContinuous-v0", 1000, policy=swing)
    assert rows["end"].sum() >= 3
    np.testing.assert_array_equal(predict("MountainCarContinuous-v0", rows), rows["end"])

    # At the goal, but slower than asked: the episode goes on.
    kwargs = {"goal_velocity": 1.0}
    rows = collect("MountainCarContinuous-v0", 300, env_kwargs=kwargs, policy=swing)
    assert not rows["end"].any()
    assert (rows["after"][:, 0] >= 0.45).any()
    assert not predict("MountainCarContinuous-v0", rows, kwargs).any()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("task", "spread"),
    [("Hopper", 0.4), ("Walker2d", 1.0), ("Ant", 0.5), ("Humanoid", 0.6)],
)
def test_matches_states_on_every_side_of_the_limits(task, version, spread):
    """Random actions only fall down; states set at random also stand too high."""
    env_id = f"{task}-{version}"
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    generator = np.random.default_rng(1)
    observations, ends, too_high = [], [], 0
    height_index = 1 if task in ("Hopper", "Walker2d") else 2
    for _ in range(400):
        position = env.init_qpos.copy()
        position[height_index] += generator.uniform(-spread, spread)
        if task in ("Hopper", "Walker2d"):
            position[2] += generator.uniform(-spread, spread)
        env.set_state(position, generator.normal(0.0, 1.0, env.model.nv))
        observation, _, terminated, _, _ = env.step(np.zeros(env.action_space.shape, np.float32))
        observations.append(observation)
        ends.append(terminated)
        too_high += terminated and env.data.qpos[height_index] > env.init_qpos[height_index] + 0.1
    env.close()
    after = np.asarray(observations)
    rows = {"before": after, "action": np.zeros((len(after), 1)), "after": after}
    np.testing.assert_array_equal(predict(env_id, rows), ends)
    assert 20 < np.sum(ends) < 380
    assert too_high > 0


@pytest.mark.parametrize(
    ("env_id", "env_kwargs"),
    [
        ("Hopper-v5", {"exclude_current_positions_from_observation": False}),
        ("Hopper-v5", {"healthy_z_range": (1.0, 1.3), "healthy_angle_range": (-0.05, 0.1)}),
        ("Hopper-v4", {"healthy_state_range": (-5.0, 5.0), "healthy_angle_range": (-9.0, 9.0)}),
        ("Walker2d-v5", {"exclude_current_positions_from_observation": False}),
        ("Walker2d-v4", {"healthy_z_range": (1.1, 1.4), "healthy_angle_range": (-0.3, 0.3)}),
        ("Ant-v5", {"include_cfrc_ext_in_observation": False}),
        ("Ant-v5", {"exclude_current_positions_from_observation": False}),
        ("Ant-v4", {"healthy_z_range": (0.4, 0.8), "use_contact_forces": True}),
        ("Humanoid-v5", {"exclude_current_positions_from_observation": False}),
        ("Humanoid-v4", {"healthy_z_range": (1.3, 1.5)}),
        ("InvertedPendulum-v5", {"frame_skip": 4, "reset_noise_scale": 0.1}),
    ],
)
def test_follows_the_arguments_of_the_environment(env_id, env_kwargs):
    rows = collect(env_id, 600, env_kwargs=env_kwargs)
    assert rows["end"].any()
    np.testing.assert_array_equal(predict(env_id, rows, env_kwargs), rows["end"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("task", ["Hopper", "Walker2d", "Ant", "Humanoid"])
def test_a_task_told_not_to_terminate_never_does(task, version):
    env_id = f"{task}-{version}"
    env_kwargs = {"terminate_when_unhealthy": False}
    assert known_termination(env_id, env_kwargs) is never_terminates
    rows = collect(env_id, 100, env_kwargs=env_kwargs)
    assert not rows["end"].any()
    # The same rows end the task as it usually is, so the argument is what made the difference.
    assert predict(env_id, rows).any()


def test_unknown_tasks_and_arguments_are_left_to_a_learned_head():
    assert known_termination("CartPole-v1") is None
    assert known_termination("Hopper-v1") is None
    assert known_termination("my_tasks:Reach-v0") is None
    assert known_termination("Ant-v5", {"xml_file": "another_robot.xml"}) is None
    assert known_termination("InvertedPendulum-v5", {"no_such_argument": 1}) is None
    # Whatever robot stands there, these end on nothing.
    assert known_termination("HalfCheetah-v5", {"xml_file": "other.xml"}) is never_terminates
    unending = {"xml_file": "other.xml", "terminate_when_unhealthy": False}
    assert known_termination("Ant-v5", unending) is never_terminates


def test_a_module_prefix_is_not_part_of_the_name():
    assert known_termination("gymnasium.envs.mujoco:Hopper-v5") is hopper


def test_asking_does_not_change_the_arguments():
    env_kwargs = {"terminate_when_unhealthy": True, "healthy_z_range": (0.5, 2.0)}
    known_termination("Hopper-v5", env_kwargs)
    assert env_kwargs == {"terminate_when_unhealthy": True, "healthy_z_range": (0.5, 2.0)}


@pytest.mark.parametrize(
    ("function", "width", "ended"),
    [
        (inverted_pendulum, 4, True),
        (inverted_double_pendulum, 9, False),  # its rule compares only: not a number is not low
        (hopper, 11, True),
        (walker2d, 17, True),
        (ant, 105, True),
        (humanoid, 348, True),
        (never_terminates, 17, False),
    ],
)
def test_not_a_number_is_judged_as_the_task_judges_it(function, width, ended):
    after = torch.full((3, width), float("nan"))
    assert function(after, torch.zeros(3, 1), after).tolist() == [ended] * 3


def test_limits_are_healthy_where_the_task_says_so():
    after = torch.tensor([[0.2], [1.0], [0.1999], [1.0001]])
    assert ant(after, after, after).tolist() == [False, False, True, True]
    after = torch.tensor([[1.0], [2.0], [1.0001], [1.9999]])
    assert humanoid(after, after, after).tolist() == [True, True, False, False]


def test_a_batch_without_rows_gives_none():
    empty = torch.zeros(0, 11)
    assert hopper(empty, torch.zeros(0, 3), empty).shape == (0,)
    assert never_terminates(empty, torch.zeros(0, 3), empty).shape == (0,)


def test_functions_can_be_sent_to_another_process():
    narrow = known_termination("Hopper-v5", {"healthy_z_range": (1.2, 1.3)})
    assert narrow is not None
    copy = pickle.loads(pickle.dumps(narrow))
    after = torch.zeros(2, 11)
    after[:, 0] = torch.tensor([1.25, 1.0])
    assert copy(after, torch.zeros(2, 3), after).tolist() == [False, True]
