"""Tests of offline data that are data sets of Minari."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

from mnm import Transitions
from tests.distributed.offline_files import NAN, assert_same_values, load, refusal

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari.*")


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def box(width: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (width,), np.float64)


ACTIONS = gym.spaces.Box(-2.0, 4.0, (1,), np.float32)
DICTIONARY = gym.spaces.Dict({"b": box(1), "a": box(1)})
WHOSE = {"algorithm_name": "a", "author": "a", "author_email": "a@b.c", "code_permalink": "a"}


def episode_buffer(number: int, length: int, as_dict: bool = False) -> EpisodeBuffer:
    generator = np.random.default_rng(number)
    observations: Any = generator.normal(size=(length + 1, 2))
    if as_dict:
        observations = {"a": observations[:, :1], "b": observations[:, 1:]}
    return EpisodeBuffer(
        id=number,
        observations=observations,
        actions=generator.uniform(-2, 4, (length, 1)).astype(np.float32),
        rewards=generator.uniform(0.1, 1, length),
        terminations=np.arange(length) == length - 1,
        truncations=np.zeros(length, dtype=bool),
    )


def make_minari(
    name: str,
    data_format: str = "hdf5",
    observation_space: gym.Space | None = None,
    **changes: Any,
) -> None:
    is_dict = isinstance(observation_space, gym.spaces.Dict)
    buffers = [episode_buffer(number, 5 + number, is_dict) for number in range(3)]
    for column, (episode, step, value) in changes.items():
        getattr(buffers[episode], column)[step] = value
    minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=observation_space or box(2),
        action_space=ACTIONS,
        data_format=data_format,
        **WHOSE,
    )


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("space", [None, DICTIONARY])
def test_a_minari_data_set_is_read_by_its_name_and_its_folder(
    data_format: str, space: gym.Space | None, minari_root: Path
) -> None:
    make_minari("line/tests-v0", data_format, space)
    rows = load("minari:line/tests-v0")
    assert len(rows) == 5 + 6 + 7
    buffers = [episode_buffer(number, 5 + number) for number in range(3)]
    expected = Transitions.concatenate(
        [
            Transitions(
                np.asarray(buffer.observations[:-1], np.float32),
                buffer.actions,
                np.asarray(buffer.rewards, np.float32),
                np.asarray(buffer.observations[1:], np.float32),
                buffer.terminations,
                buffer.truncations,
                np.zeros(len(buffer.rewards), np.int64),
                np.arange(len(buffer.rewards)),
            )
            for buffer in buffers
        ]
    )
    assert_same_values(rows, expected)
    assert rows.episode_ids.tolist() == [-1] * 5 + [-2] * 6 + [-3] * 7
    for folder in (minari_root / "line" / "tests-v0", minari_root / "line" / "tests-v0" / "data"):
        assert_same_values(load(folder), expected)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rewards": (1, 2, NAN)}, "column rewards, row 7: a value is not finite"),
        ({"actions": (0, 3, 9.0)}, "column actions, row 3: an action lies outside"),
        ({"observation_space": box(3)}, "column observations has 3 values a row, this task has 2"),
        (
            {"observation_space": gym.spaces.Discrete(2)},
            r"column observations has the space Discrete\(2\), no vectors",
        ),
    ],
)
@pytest.mark.usefixtures("minari_root")
def test_a_minari_data_set_that_does_not_fit_is_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    if "observation_space" in changes:
        make_spaces_only("line/tests-v0", changes["observation_space"])
    else:
        make_minari("line/tests-v0", **changes)
    assert re.search(f"^minari:line/tests-v0: {sentence}", refusal("minari:line/tests-v0"))


def make_spaces_only(name: str, space: gym.Space) -> None:
    """A data set whose observations are of another space."""
    observations: Any = np.zeros((3, 3)) if isinstance(space, gym.spaces.Box) else [0, 1, 0]
    buffer = EpisodeBuffer(
        id=0,
        observations=observations,
        actions=np.zeros((2, 1), np.float32),
        rewards=[0.0, 1.0],
        terminations=[False, False],
        truncations=[False, True],
    )
    minari.create_dataset_from_buffers(
        name,
        [buffer],
        observation_space=space,
        action_space=ACTIONS,
        **WHOSE,
    )


@pytest.mark.usefixtures("minari_root")
def test_a_minari_data_set_that_is_not_here_is_refused() -> None:
    found = refusal("minari:line/nosuch-v0")
    assert "minari:line/nosuch-v0: there is no such data set here: minari download" in found
    assert "minari:what is this:" in refusal("minari:what is this")


def test_without_minari_its_installation_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    found = refusal("minari:line/tests-v0")
    assert "Minari is not installed: pip install 'mnm-rl[minari]'" in found
