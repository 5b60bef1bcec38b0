"""The one Arrow schema of transitions: on the wire, in the log, in the replay's columns."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from mnm import Transitions
from mnm.transitions import COLUMNS

VECTORS = ("observations", "actions", "next_observations")


@cache
def transition_schema(observation_dim: int, action_dim: int) -> pa.Schema:
    """Arrow schema of transitions of a task with these widths."""
    widths = {
        "observations": observation_dim,
        "actions": action_dim,
        "next_observations": observation_dim,
    }
    scalars = {
        "rewards": pa.float32(),
        "terminateds": pa.bool_(),
        "truncateds": pa.bool_(),
        "episode_ids": pa.int64(),
        "steps": pa.int64(),
    }
    return pa.schema(
        pa.field(
            name,
            pa.list_(pa.float32(), widths[name]) if name in VECTORS else scalars[name],
            nullable=False,
        )
        for name in COLUMNS
    )


def to_arrow(transitions: Transitions) -> pa.RecordBatch:
    """Transitions as an Arrow record batch; numeric columns are not copied."""
    schema = transition_schema(transitions.observations.shape[1], transitions.actions.shape[1])
    columns = []
    for field in schema:
        values = getattr(transitions, field.name)
        if field.name in VECTORS:
            flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type))
        else:
            columns.append(pa.array(values, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def from_arrow(batch: pa.RecordBatch) -> Transitions:
    """The transitions of a record batch made by `to_arrow`; numeric columns share its memory.

    Raises:
        ValueError: the columns are not those of `transition_schema`.
    """
    if tuple(batch.schema.names) != COLUMNS:
        raise ValueError(
            f"A batch of transitions has the columns {batch.schema.names}, not {list(COLUMNS)}."
        )
    columns = []
    for name in COLUMNS:
        column = batch.column(name)
        if name in VECTORS:
            width = column.type.list_size
            flat = column.flatten().to_numpy(zero_copy_only=True)
            columns.append(flat.reshape(len(batch), width))
        else:
            columns.append(column.to_numpy(zero_copy_only=False))
    return Transitions(*columns)
