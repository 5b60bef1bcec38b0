"""Tests of the transition log: each row once, cut by restores, readable by others, crashes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed import transition_log
from distributed.transition_log import Part, TransitionLog
from distributed.wire import from_arrow, to_arrow, transition_schema
from mnm import Transitions
from mnm.transitions import COLUMNS
from tests.mnm.small_cases import assert_same_rows, random_transitions

NAMES = ["run=a/part-000000-0-30.parquet", "run=a/part-000001-30-50.parquet"]


def append(log: TransitionLog, first: int, count: int, seed: int = 0) -> None:
    log.append(to_arrow(random_transitions(count, seed, first=first)))


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def read(folder: Path, run: str = "a") -> Transitions:
    files = sorted((folder / f"run={run}").glob("*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    return Transitions.concatenate([from_arrow(b) for t in tables for b in t.to_batches()])


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """Fifty rows of a run in two parts, and twenty of another."""
    for run, count in (("a", 50), ("b", 20)):
        log = TransitionLog(tmp_path, run, rows_per_part=30)
        for first in range(0, count, 10):
            append(log, first, 10)
        log.close()
    return tmp_path


# What is written


def test_rows_are_written_once_in_order_by_run_and_part(logged: Path) -> None:
    assert files_in(logged) == [*NAMES, "run=b/part-000000-0-20.parquet"]
    assert_same_rows(read(logged), Transitions.concatenate(_tens(5)))


def test_the_schema_is_that_of_the_wire(logged: Path) -> None:
    schema = pq.ParquetFile(logged / NAMES[0]).schema_arrow
    assert schema.names == transition_schema(2, 1).names
    assert [field.nullable for field in schema] == [False] * len(COLUMNS)
    assert schema.field("observations").type.list_size == 2
    assert schema.field("episode_ids").type == pa.int64()


def test_nothing_is_written_before_there_are_rows_enough(tmp_path: Path) -> None:
    log = TransitionLog(tmp_path, "a", rows_per_part=30)
    append(log, 0, 29)
    append(log, 29, 0)
    assert files_in(tmp_path) == []
    log.flush()
    assert files_in(tmp_path) == ["run=a/part-000000-0-29.parquet"]
    log.flush()
    log.close()
    assert files_in(tmp_path) == ["run=a/part-000000-0-29.parquet"]


def test_rows_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TransitionLog(tmp_path, "a")
    append(log, 0, 5)
    monkeypatch.setattr(transition_log, "SECONDS_PER_PART", 0.0)
    append(log, 5, 5)
    monkeypatch.undo()
    append(log, 10, 5)
    log.close()
    assert files_in(tmp_path) == [
        "run=a/part-000000-0-10.parquet",
        "run=a/part-000001-10-15.parquet",
    ]


def test_a_batch_may_change_after_it_was_appended(tmp_path: Path) -> None:
    """As when the object store reuses its memory."""
    rows = random_transitions(5)
    log = TransitionLog(tmp_path, "a")
    log.append(to_arrow(rows))
    rows.observations[:] = 7.0
    log.close()
    assert not (read(tmp_path).observations == 7.0).any()


def test_a_name_that_is_no_folder_name_is_escaped(tmp_path: Path) -> None:
    log = TransitionLog(tmp_path, "a/b=c d")
    append(log, 0, 5)
    log.close()
    assert files_in(tmp_path) == ["run=a%2Fb%3Dc%20d/part-000000-0-5.parquet"]
    assert set(pd.read_parquet(tmp_path)["run"]) == {"a/b=c d"}


def test_a_run_that_is_there_already_is_left_alone(logged: Path) -> None:
    for expected in ("a-2", "a-3"):
        log = TransitionLog(logged, "a")
        append(log, 0, 10, seed=1)
        log.close()
        assert log.partition == expected
    assert len(read(logged)) == 50
    assert len(read(logged, "a-2")) == len(read(logged, "a-3")) == 10


def test_a_disk_that_fails_stops_the_run_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transition_log.pq, "write_table", full)
    log = TransitionLog(tmp_path, "a", rows_per_part=10)
    append(log, 0, 10)
    for _ in range(2):  # it stays so
        with pytest.raises(ValueError, match=r"transition log .* cannot be written: .*No space"):
            append(log, 10, 10)
    with pytest.raises(ValueError, match="No space"):
        log.flush()
    log.close()


# Readers


def test_pandas_arrow_duckdb_and_ray_read_it(logged: Path, local_ray: None) -> None:
    """A part that was being written when its process was killed does not disturb them."""
    (logged / "run=b" / Part(1, 20, 30).partial_name).write_bytes(b"PAR1 and a bit")
    sums = {}
    for name, run in (("a", read(logged)), ("b", read(logged, "b"))):
        sums[name] = (len(run), pytest.approx(float(run.rewards.sum()), rel=1e-5))
    frame = pd.read_parquet(logged)
    by_run = frame.groupby("run", observed=True)["rewards"]
    assert {run: (len(part), part.sum()) for run, part in by_run} == sums
    assert np.stack(frame["observations"].to_numpy()).shape == (70, 2)

    table = pa.dataset.dataset(logged, partitioning="hive").to_table()
    assert table.num_rows == 70
    assert set(table["run"].to_pylist()) == {"a", "b"}

    query = f"SELECT run, count(*), sum(rewards) FROM '{logged}/**/*.parquet' GROUP BY run"
    assert {run: (n, total) for run, n, total in duckdb.sql(query).fetchall()} == sums

    dataset = ray.data.read_parquet(str(logged))
    assert dataset.count() == 70
    rows = dataset.take_all()
    assert {row["run"] for row in rows} == {"a", "b"}
    assert np.shape(rows[0]["observations"]) == (2,)


# Restores


def _tens(count: int) -> list[Transitions]:
    return [random_transitions(10, first=10 * index) for index in range(count)]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (0, []),
        (10, ["run=a/part-000000-0-10.parquet"]),
        (30, NAMES[:1]),
        (31, [NAMES[0], "run=a/part-000001-30-31.parquet"]),
        (50, NAMES),
        (70, NAMES),
    ],
)
def test_rows_after_a_checkpoint_are_taken_back(logged: Path, step: int, left: list[str]) -> None:
    log = TransitionLog(logged, "a")
    log.resume("a", step)
    append(log, step, 7, seed=1)
    assert [name for name in files_in(logged) if name.startswith("run=a")] == left
    log.close()
    rows = read(logged)
    assert len(rows) == min(step, 50) + 7
    assert_same_rows(rows[: min(step, 50)], Transitions.concatenate(_tens(5))[: min(step, 50)])
    assert_same_rows(rows[min(step, 50) :], random_transitions(7, 1, first=step))
    assert len(read(logged, "b")) == 20


def test_a_checkpoint_that_is_only_looked_at_leaves_the_log(logged: Path) -> None:
    """As for an evaluation, perhaps while the run that wrote it goes on."""
    partial = logged / "run=a" / Part(2, 50, 80).partial_name
    partial.write_bytes(b"PAR1")
    before = files_in(logged)
    log = TransitionLog(logged, "a")
    log.resume("a", 10)
    assert log.state == {"run": "a", "partition": "a"}
    log.flush()
    log.close()
    assert files_in(logged) == before
    assert len(read(logged)) == 50


def test_a_partial_file_is_cleared_away_by_the_run_that_goes_on(logged: Path) -> None:
    partial = logged / "run=a" / Part(2, 50, 80).partial_name
    partial.write_bytes(b"PAR1")
    log = TransitionLog(logged, "a")
    log.resume("a", 50)
    append(log, 50, 5)
    log.close()
    assert not partial.exists()
    assert len(read(logged)) == 55


def test_a_torn_file_does_not_keep_a_run_from_going_on(logged: Path) -> None:
    torn = logged / NAMES[1]
    torn.write_bytes(torn.read_bytes()[:-9])
    log = TransitionLog(logged, "a")
    log.resume("a", 40)
    append(log, 40, 5)
    log.close()
    assert files_in(logged / "run=a") == [
        "part-000000-0-30.parquet",
        "part-000001-30-50.parquet",
        "part-000002-40-45.parquet",
    ]


@pytest.mark.parametrize("state", [None, {"run": "b", "partition": "b"}, "b", "a-x"])
def test_another_runs_checkpoint_begins_a_partition(logged: Path, state: Any) -> None:
    """As when population-based training clones a trial."""
    log = TransitionLog(logged, "a")
    log.resume(state, 20)
    append(log, 20, 5)
    log.close()
    assert log.partition == "a-2"
    assert len(read(logged)) == 50
    assert len(read(logged, "b")) == 20
    assert files_in(logged / "run=a-2") == ["part-000000-20-25.parquet"]


def test_a_later_beginning_of_the_same_run_is_its_own(logged: Path) -> None:
    first = TransitionLog(logged, "a")
    append(first, 0, 10)
    first.close()
    log = TransitionLog(logged, "a")
    log.resume(first.state, 5)
    append(log, 5, 1)
    log.close()
    assert log.partition == "a-2"
    assert len(read(logged, "a-2")) == 6
    assert len(read(logged)) == 50


@pytest.mark.parametrize("has_run", [True, False])
def test_a_run_whose_name_looks_like_a_later_beginning_is_another(
    logged: Path, has_run: bool
) -> None:
    """Run a goes on from a checkpoint of the run a-2; older ones do not say whose they are."""
    other = TransitionLog(logged, "a-2", rows_per_part=10)
    for first in range(0, 50, 10):
        append(other, first, 10)
    other.close()
    before = files_in(logged / "run=a-2")
    log = TransitionLog(logged, "a")
    log.resume(other.state if has_run else other.partition, 20)
    append(log, 20, 5)
    log.close()
    assert files_in(logged / "run=a-2") == before
    assert len(read(logged, "a-2")) == 50
    assert log.partition == "a-3"
    assert len(read(logged)) == 50


def test_a_state_without_its_run_is_that_of_the_run_named_like_the_partition(logged: Path) -> None:
    """As older checkpoints have it."""
    log = TransitionLog(logged, "a")
    log.resume("a", 20)
    append(log, 20, 5)
    assert log.state == {"run": "a", "partition": "a"}
    log.close()
    assert len(read(logged)) == 25


Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 25)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("restore"), st.integers(0, 5)),
        st.tuples(st.just("crash"), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, rows_per_part=st.integers(1, 40))
def test_any_sequence_of_appends_checkpoints_and_restores_gives_back_the_rows(
    steps: Sequence[Step], rows_per_part: int
) -> None:
    """A crash loses what was not flushed; the run then goes on from one of its checkpoints."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = TransitionLog(folder, "a", rows_per_part)
        rows: list[Transitions] = []
        checkpoints: list[tuple[dict[str, str] | None, list[Transitions]]] = []

        is_ahead = False  # rows that a restore took back are there until the next one comes

        def count() -> int:
            return sum(map(len, rows))

        for seed, (action, value) in enumerate(steps):
            if action == "append":
                rows.append(random_transitions(value, seed, first=count()))
                log.append(to_arrow(rows[-1]))
                is_ahead = is_ahead and value == 0
            elif action == "flush":
                log.flush()
            elif action == "checkpoint":
                log.flush()
                checkpoints.append((log.state, list(rows)))
            elif checkpoints:
                # Those made later end here: their rows are cut from the log.
                del checkpoints[value % len(checkpoints) + 1 :]
                state, rows = checkpoints[-1]
                rows = list(rows)
                if action == "crash":
                    log._thread.shutdown()  # what it was writing was on the disk
                    log = TransitionLog(folder, "a", rows_per_part)
                log.resume(state, count())
                is_ahead = True
        log.close()
        whole = Transitions.concatenate([random_transitions(0), *rows])
        partition = log.partition
        if partition is not None and (folder / f"run={partition}").is_dir() and len(whole):
            written = read(folder, partition)
            assert_same_rows(written[: len(whole)] if is_ahead else written, whole)
        else:
            assert len(whole) == 0
        for file in folder.rglob("*"):
            part = Part.parse(file.name)
            assert file.is_dir() or (part is not None and file.name == part.name)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    log = TransitionLog(tmp_path / "log", "a")
    with pytest.raises(ValueError, match=r"log cannot be written: .*log is a file"):
        append(log, 0, 5)
    log.close()
