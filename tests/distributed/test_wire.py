"""Tests of the Arrow schema of transitions: round trip, shared memory, refusals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed.wire import from_arrow, to_arrow, transition_schema
from mnm import Transitions
from mnm.transitions import COLUMNS
from tests.mnm.small_cases import assert_same_rows, random_transitions

NUMERIC = [name for name in COLUMNS if name not in ("terminateds", "truncateds")]


@settings(deadline=None)
@given(
    count=st.integers(0, 40),
    observation_dim=st.integers(1, 7),
    action_dim=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_round_trip(count: int, observation_dim: int, action_dim: int, seed: int) -> None:
    transitions = random_transitions(count, seed, observation_dim, action_dim)
    transitions.terminateds = np.random.default_rng(seed).random(count) < 0.3
    batch = to_arrow(transitions)
    assert batch.num_rows == count
    assert_same_rows(from_arrow(batch), transitions)


def test_schema_names_widths_and_types() -> None:
    schema = transition_schema(5, 2)
    assert tuple(schema.names) == COLUMNS
    assert not any(field.nullable for field in schema)
    assert schema.field("observations").type == pa.list_(pa.float32(), 5)
    assert schema.field("next_observations").type == pa.list_(pa.float32(), 5)
    assert schema.field("actions").type == pa.list_(pa.float32(), 2)
    assert schema.field("rewards").type == pa.float32()
    assert schema.field("terminateds").type == schema.field("truncateds").type == pa.bool_()
    assert schema.field("episode_ids").type == schema.field("steps").type == pa.int64()
    assert to_arrow(random_transitions(3, 0, 5, 2)).schema == schema


def test_numeric_columns_share_memory_both_ways() -> None:
    transitions = random_transitions(50, observation_dim=3, action_dim=2)
    received = from_arrow(to_arrow(transitions))
    shared = [
        name
        for name in NUMERIC
        if np.shares_memory(getattr(transitions, name), getattr(received, name))
    ]
    assert shared == NUMERIC


def test_large_episode_ids_and_values_that_are_not_finite_survive() -> None:
    transitions = random_transitions(4)
    transitions.episode_ids = np.array([0, 7 << 40, 2**62, 3], dtype=np.int64)
    transitions.rewards = np.array([np.nan, np.inf, -np.inf, 0.0], dtype=np.float32)
    batch = to_arrow(transitions)
    assert batch.column("rewards").null_count == 0
    assert_same_rows(from_arrow(batch), transitions)


def test_a_slice_and_a_file_bring_the_same_rows() -> None:
    transitions = random_transitions(20)
    batch = to_arrow(transitions)
    assert_same_rows(from_arrow(batch.slice(5, 7)), transitions[5:12])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    (read,) = pa.ipc.open_stream(sink.getvalue())
    assert_same_rows(from_arrow(read), transitions)


def test_strided_columns_are_written_by_value() -> None:
    whole = random_transitions(20)
    every_other = Transitions(*(getattr(whole, name)[::2] for name in COLUMNS))
    assert_same_rows(from_arrow(to_arrow(every_other)), every_other)


@pytest.mark.parametrize("change", ["missing", "renamed", "other order"])
def test_other_columns_are_refused(change: str) -> None:
    batch = to_arrow(random_transitions(3))
    columns, found = list(batch.columns), list(COLUMNS)
    if change == "missing":
        columns, found = columns[:-1], found[:-1]
    elif change == "renamed":
        found[0] = "obs"
    else:
        columns, found = columns[::-1], found[::-1]
    with pytest.raises(ValueError, match="A batch of transitions has the columns"):
        from_arrow(pa.RecordBatch.from_arrays(columns, names=found))
