"""Transitions of Minari data sets, where that package is installed."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from mnm import TaskSpaces, Transitions

MINARI_PREFIX = "minari:"


def is_minari(path: str) -> bool:
    """Whether a path is `minari:ID` or the folder of a Minari data set."""
    return path.startswith(MINARI_PREFIX) or _data_folder(path) is not None


class MinariSource:
    """A Minari data set, its episodes in order; see `distributed.offline_data.Source`.

    Args:
        path: `minari:ID` of a data set that was downloaded, or its folder.
        spaces: of the task.

    Raises:
        ValueError: the package or the data set is missing, or it is of another task.
    """

    def __init__(self, path: str, spaces: TaskSpaces) -> None:
        self.name = self.group = path
        self._data = _load(path)
        self.rows: int = self._data.total_steps
        observations, actions = self._data.observation_space, self._data.action_space
        for name, space, width in (
            ("observations", observations, spaces.observation_dim),
            ("actions", actions, spaces.action_dim),
        ):
            try:
                found = _width(space)
            except TypeError:
                raise ValueError(f"column {name} has the space {space}, no vectors") from None
            if found != width:
                raise ValueError(f"column {name} has {found} values a row, this task has {width}")

    def batches(self) -> Iterator[Transitions]:
        """The rows, an episode at a time; float64 becomes float32."""
        space = self._data.observation_space
        for episode in self._data.iterate_episodes():
            observations = _flat(space, episode.observations)
            count = len(episode)
            if len(observations) != count + 1:
                raise ValueError(
                    f"episode {episode.id} has {len(observations)} observations for {count} steps"
                )
            yield Transitions(
                observations[:-1],
                _flat(self._data.action_space, episode.actions),
                np.asarray(episode.rewards, dtype=np.float32),
                observations[1:],
                np.asarray(episode.terminations, dtype=bool),
                np.asarray(episode.truncations, dtype=bool),
                np.full(count, episode.id, dtype=np.int64),
                np.arange(count),
            )


def _load(path: str) -> Any:
    try:
        minari = importlib.import_module("minari")
    except ImportError as error:
        raise ValueError("Minari is not installed: pip install 'mnm-rl[minari]'") from error
    try:
        if path.startswith(MINARI_PREFIX):
            return minari.load_dataset(path.removeprefix(MINARI_PREFIX))
        return minari.MinariDataset(_data_folder(path))
    except FileNotFoundError as error:
        name = path.removeprefix(MINARI_PREFIX)
        raise ValueError(f"there is no such data set here: minari download {name}") from error
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"the Minari data set cannot be read ({error})") from error


def _data_folder(path: str) -> str | None:
    """The folder with a data set's metadata, at a path or in its folder `data`."""
    for folder in (os.path.join(path, "data"), path):
        try:
            with open(os.path.join(folder, "metadata.json")) as file:
                if "data_format" in json.load(file):
                    return folder
        except (OSError, ValueError):
            continue
    return None


def _width(space: gym.Space) -> int:
    """Values of a space that consists of boxes alone.

    Raises:
        TypeError: it has other parts.
    """
    if isinstance(space, gym.spaces.Dict):
        return sum(map(_width, space.spaces.values()))
    if isinstance(space, gym.spaces.Tuple):
        return sum(map(_width, space.spaces))
    if isinstance(space, gym.spaces.Box):
        return int(np.prod(space.shape))
    raise TypeError


def _flat(space: gym.Space, values: Any) -> np.ndarray:
    """Values [N, ...] of a space as float32 [N, width], in the order of Gymnasium's `flatten`."""
    if isinstance(space, gym.spaces.Dict):
        parts = [_flat(part, values[name]) for name, part in space.spaces.items()]
        return np.concatenate(parts, axis=1)
    if isinstance(space, gym.spaces.Tuple):
        parts = [_flat(part, value) for part, value in zip(space.spaces, values, strict=True)]
        return np.concatenate(parts, axis=1)
    array = np.asarray(values, dtype=np.float32)
    return array.reshape(len(array), -1)
