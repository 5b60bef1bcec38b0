"""Files of offline data, and how they are loaded or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed.learner_core import LearnerCore
from distributed.offline_data import OfflineData
from distributed.transition_log import TransitionLog
from distributed.wire import to_arrow
from mnm import TaskSpaces, Transitions
from mnm.transitions import COLUMNS
from tests.mnm.small_cases import SPACES, random_transitions, small_agent

Change = Callable[[pa.Table], pa.Table]
NAN = float("nan")


def write(file: Path, first: int = 0, count: int = 20, change: Change | None = None) -> Path:
    """A Parquet file of rows, changed in some way."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_batches([to_arrow(random_transitions(count, first=first))])
    pq.write_table(change(table) if change else table, file)
    return file


def log(folder: Path, runs: dict[str, int]) -> Path:
    """A log of some runs with parts of thirty rows."""
    for run, count in runs.items():
        log = TransitionLog(folder, run, rows_per_part=30)
        for first in range(0, count, 10):
            log.append(to_arrow(random_transitions(10, first=first)))
        log.close()
    return folder


def load(*paths: Any, spaces: TaskSpaces = SPACES) -> Transitions:
    data = OfflineData([str(path) for path in paths], spaces)
    data.check(lambda batch, first_row: None)
    return Transitions.concatenate(list(data.batches()))


def refusal(*paths: Any, algo: str = "sac", **changes: Any) -> str:
    """The sentence with which a learner refuses; it has taken in nothing."""
    core = LearnerCore(small_agent(algo, **changes))
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        core.ingest_offline([str(path) for path in paths])
    agent = core.agent
    assert len(agent.replay) == agent.offline_transitions == agent.env_steps == 0
    assert agent.rewards.smallest == float("inf")
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def assert_same_values(found: Transitions, expected: Transitions) -> None:
    """Fails where two batches differ, but for the numbers of their episodes."""
    for name in COLUMNS:
        if name != "episode_ids":
            one, other = getattr(found, name), getattr(expected, name)
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
