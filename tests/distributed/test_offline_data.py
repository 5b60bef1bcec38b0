"""Tests of offline data: what is read, what is refused and how, torn files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed.learner_core import LearnerCore
from distributed.offline_data import OfflineData
from distributed.transition_log import Part
from mnm import Transitions
from mnm.transitions import COLUMNS
from tests.distributed.offline_files import (
    NAN,
    Change,
    assert_same_values,
    load,
    log,
    refusal,
    write,
)
from tests.mnm.small_cases import SPACES, random_transitions, small_agent

# What is read


def test_a_log_is_read_whole_in_the_order_of_runs_and_parts(tmp_path: Path) -> None:
    log(tmp_path, {"b": 20, "a": 50})
    rows = load(tmp_path)
    expected = [random_transitions(10, first=10 * i) for i in (*range(5), *range(2))]
    assert_same_values(rows, Transitions.concatenate(expected))


def test_episodes_are_numbered_downwards_and_runs_kept_apart(tmp_path: Path) -> None:
    rows = load(log(tmp_path, {"a": 50, "b": 20}))  # ten steps each
    assert rows.episode_ids.tolist() == [-1 - row // 10 for row in range(70)]


def test_an_episode_that_two_files_share_stays_one(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 0, 5)
    write(tmp_path / "b.parquet", 5, 10)
    assert load(tmp_path).episode_ids.tolist() == [-1] * 10 + [-2] * 5


def test_a_file_a_runs_folder_and_a_uri_serve_too(tmp_path: Path) -> None:
    folder = log(tmp_path / "transitions", {"a": 20})
    (tmp_path / "checkpoint").mkdir()
    write(tmp_path / "checkpoint" / "replay.parquet")  # not the log's
    file = folder / "run=a" / "part-000000-0-20.parquet"
    odd = tmp_path / "data.pq"  # named itself, any ending will do
    shutil.copy(file, odd)
    expected = load(folder)
    for path in (tmp_path, file, f"file://{folder}", f"file://{file}", odd):
        assert_same_values(load(path), expected)
    assert len(load(folder, file)) == 40


def rewritten_by_pandas(source: Path, target: Path) -> None:
    frame = pd.read_parquet(source)
    frame[frame["rewards"] > 0].to_parquet(target)


def rewritten_by_duckdb(source: Path, target: Path) -> None:
    duckdb.sql(f"COPY (FROM '{source}/**/*.parquet') TO '{target}' (FORMAT parquet)")


def with_large_lists(source: Path, target: Path) -> None:
    table = pq.read_table(source)
    kinds = [
        pa.large_list(pa.float32()) if pa.types.is_fixed_size_list(field.type) else field.type
        for field in table.schema
    ]
    pq.write_table(table.cast(pa.schema(zip(table.column_names, kinds, strict=True))), target)


@pytest.mark.parametrize("rewrite", [rewritten_by_pandas, rewritten_by_duckdb, with_large_lists])
def test_what_others_have_rewritten_is_accepted(
    rewrite: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    """They turn the vectors into lists of any length, and write the partition as a column."""
    log(tmp_path / "log", {"a": 50})
    rewrite(tmp_path / "log", tmp_path / "copy.parquet")
    assert_same_values(load(tmp_path / "copy.parquet"), load(tmp_path / "log"))


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", change=lambda table: table.select(sorted(COLUMNS)))
    assert_same_values(load(file), random_transitions(20))


def test_hidden_files_and_other_kinds_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    for name in ("_metadata.parquet", ".b.parquet", "_temporary/c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no Parquet")
    (tmp_path / "README.txt").write_text("A data set")
    assert len(load(tmp_path)) == 20


def test_replays_of_checkpoints_are_no_data(tmp_path: Path) -> None:
    """Their imagined rows have the same columns."""
    write(tmp_path / "checkpoint" / "replay" / "synthetic" / "part-000000.parquet")
    (tmp_path / "checkpoint" / "replay" / "manifest.json").write_text("{}")
    assert "no Parquet file but a checkpoint's replay: name the log" in refusal(tmp_path)
    write(tmp_path / "a.parquet")
    assert len(load(tmp_path)) == 20
    assert len(load(tmp_path / "checkpoint" / "replay" / "synthetic")) == 20


def test_the_learner_takes_them_in_as_no_steps_of_its_own(tmp_path: Path) -> None:
    core = LearnerCore(small_agent("mnm", updates_to_data_ratio=5.0, num_random_steps=0))
    assert core.ingest_offline([str(log(tmp_path, {"a": 50}))]) == []
    agent = core.agent
    assert (agent.offline_transitions, len(agent.replay), agent.env_steps) == (50, 50, 0)
    assert agent.settings.updates_due(agent.env_steps) == 0
    assert agent.rewards.smallest == agent.replay.transitions().rewards.min()


def test_more_than_the_replay_holds_is_said(tmp_path: Path) -> None:
    core = LearnerCore(small_agent("sac", replay_capacity=20))
    (warning,) = core.ingest_offline([str(log(tmp_path, {"a": 50}))])
    assert "50 transitions, of which replay_capacity keeps the last 20" in warning
    assert_same_values(
        core.agent.replay.transitions(),
        Transitions.concatenate([random_transitions(10, first=first) for first in (30, 40)]),
    )


# What is refused


def with_value(column: str, row: int, value: Any) -> Change:
    """A table with one value exchanged; vectors become lists."""

    def change(table: pa.Table) -> pa.Table:
        field = table.schema.field(column)
        values = table[column].to_pylist()
        values[row] = value
        kind = pa.list_(pa.float32()) if pa.types.is_fixed_size_list(field.type) else field.type
        index = table.column_names.index(column)
        return table.set_column(index, pa.field(column, kind), pa.array(values, kind))

    return change


def cast(column: str, kind: pa.DataType) -> Change:
    def change(table: pa.Table) -> pa.Table:
        index = table.column_names.index(column)
        return table.set_column(index, column, table[column].cast(kind))

    return change


def doubled(table: pa.Table) -> pa.Table:
    return table.append_column("rewards", table["rewards"])


BAD: dict[str, tuple[Change, str]] = {
    "missing column": (lambda t: t.drop_columns("rewards"), "column rewards is missing"),
    "renamed column": (
        lambda t: t.rename_columns(["obs", *COLUMNS[1:]]),
        "column observations is missing",
    ),
    "unknown column": (
        lambda t: t.append_column("advantages", t["rewards"]),
        "column advantages is unknown",
    ),
    "column twice": (doubled, "column rewards is there more than once"),
    "double rewards": (
        cast("rewards", pa.float64()),
        "column rewards has the type double, not float; cast it",
    ),
    "integer flags": (
        cast("terminateds", pa.int8()),
        "column terminateds has the type int8, not bool",
    ),
    "short steps": (cast("steps", pa.int32()), "column steps has the type int32, not int64"),
    "double vectors": (
        cast("actions", pa.list_(pa.float64())),
        "column actions has the type list<element: double>, not lists of 1 float32 values",
    ),
    "scalar vectors": (
        lambda t: t.set_column(0, "observations", t["rewards"]),
        "column observations has the type float, not lists of 2 float32 values",
    ),
    "other task": (
        lambda t: t.set_column(1, "actions", t["observations"]),
        "column actions has 2 values a row, this task has 1",
    ),
    "ragged vectors": (
        with_value("observations", 7, [1.0]),
        "column observations, row 7: the list has not 2 values",
    ),
    "missing value": (with_value("rewards", 3, None), "column rewards, row 3: a value is missing"),
    "missing vector": (
        with_value("next_observations", 5, None),
        "column next_observations, row 5: a value is missing",
    ),
    "missing number": (
        with_value("observations", 4, [None, 1.0]),
        "column observations, row 4: a value is missing",
    ),
    "missing flag": (
        with_value("truncateds", 19, None),
        "column truncateds, row 19: a value is missing",
    ),
    "NaN reward": (with_value("rewards", 0, NAN), "column rewards, row 0: a value is not finite"),
    "infinite observation": (
        with_value("observations", 6, [1.0, float("inf")]),
        "column observations, row 6: a value is not finite",
    ),
    "action outside": (
        with_value("actions", 11, [4.5]),
        r"column actions, row 11: an action lies outside the action space, \[-2.0\] to \[4.0\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_file_column_and_row(case: str, tmp_path: Path) -> None:
    change, sentence = BAD[case]
    good = write(tmp_path / "a.parquet")
    bad = write(tmp_path / "b.parquet", 20, change=change)
    found = refusal(tmp_path)
    assert re.search(f"^{bad}: {sentence}.*; nothing was loaded\\.$", found), found
    assert len(load(good)) == 20  # the good one is as it was


def test_a_row_is_counted_over_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributed.offline_data.ROWS_PER_BATCH", 8)
    file = write(tmp_path / "a.parquet", change=with_value("rewards", 17, NAN))
    assert "column rewards, row 17:" in refusal(file)
    file = write(tmp_path / "b.parquet", change=with_value("observations", 18, [1.0]))
    assert "column observations, row 18:" in refusal(file)


@settings(deadline=None, max_examples=40)
@given(
    column=st.sampled_from(["observations", "actions", "rewards", "next_observations"]),
    row=st.integers(0, 19),
    value=st.sampled_from([NAN, float("inf"), -float("inf"), None]),
)
def test_any_bad_value_is_found(
    column: str, row: int, value: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    width = {"rewards": 0, "actions": 1}.get(column, 2)
    bad = value if width == 0 else [0.5] * (width - 1) + [value]
    file = tmp_path_factory.mktemp("bad") / "a.parquet"
    write(file, change=with_value(column, row, bad))
    assert f"{file}: column {column}, row {row}:" in refusal(file)


def test_of_many_bad_files_the_first_is_named_and_the_others_counted(tmp_path: Path) -> None:
    for index, change in enumerate(
        [None, BAD["NaN reward"][0], None, BAD["action outside"][0], BAD["ragged vectors"][0]]
    ):
        write(tmp_path / f"{index}.parquet", change=change)
    found = refusal(tmp_path)
    assert found.startswith(f"{tmp_path / '1.parquet'}: column rewards, row 0:")
    assert "(2 more of the files cannot be used either)" in found
    write(tmp_path / "6.parquet", change=BAD["missing column"][0])
    write(tmp_path / "7.parquet", change=BAD["short steps"][0])
    found = refusal(tmp_path)  # columns are looked at before any row is
    assert found.startswith(f"{tmp_path / '6.parquet'}: column rewards is missing")
    assert "(1 more of the files" in found


def test_rewards_that_the_algorithm_refuses_are_named_by_row(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", change=with_value("rewards", 13, -1.5))
    assert len(load(file)) == 20
    found = refusal(file, algo="mnm", reward_transform="shift")
    assert found.startswith(f"{file}: The reward -1.5 at row 13 is not positive with reward_shift=")
    core = LearnerCore(small_agent("mnm", reward_transform="shift", reward_shift=2.0))
    core.ingest_offline([str(file)])
    assert core.agent.rewards.smallest == -1.5


def no_parquet(folder: Path) -> Path:
    (folder / "a.parquet").write_text("observations,actions\n1,2\n" * 20)
    return folder / "a.parquet"


def damaged_footer(folder: Path) -> Path:
    content = bytearray(write(folder / "a.parquet").read_bytes())
    content[-60:-20] = b"x" * 40
    (folder / "a.parquet").write_bytes(content)
    return folder / "a.parquet"


def damaged_page(folder: Path) -> Path:
    content = bytearray(write(folder / "a.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    (folder / "a.parquet").write_bytes(content)
    return folder / "a.parquet"


def empty_folder(folder: Path) -> Path:
    return folder


def without_rows(folder: Path) -> Path:
    return write(folder / "a.parquet", count=0)


def absent(folder: Path) -> Path:
    return folder / "absent"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (no_parquet, "a.parquet: the file is damaged or no Parquet file"),
        (damaged_footer, "a.parquet: the file is damaged or no Parquet file"),
        (damaged_page, "a.parquet: the file is damaged"),
        (empty_folder, "holds no Parquet file"),
        (without_rows, "holds no transitions"),
        (absent, "There are no offline data at .*absent"),
    ],
)
def test_what_holds_no_transitions_is_refused(
    make: Callable[[Path], Path], sentence: str, tmp_path: Path
) -> None:
    assert re.search(sentence, refusal(make(tmp_path)))


def test_an_address_that_nothing_resolves_is_refused() -> None:
    assert "nosuch://bucket/data cannot be reached" in refusal("nosuch://bucket/data")


# Torn files


def cut_off(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def footer_lost(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def still_written(file: Path) -> None:
    part = Part.parse(file.name)
    assert part is not None
    cut_off(file)
    file.rename(file.with_name(part.partial_name))


@pytest.mark.parametrize("tear", [cut_off, footer_lost, emptied, still_written])
def test_a_torn_last_file_is_passed_over_and_its_rows_counted(
    tear: Callable[[Path], None], tmp_path: Path
) -> None:
    log(tmp_path, {"a": 50, "b": 20})
    tear(tmp_path / "run=a" / "part-000001-30-50.parquet")
    data = OfflineData([str(tmp_path)], SPACES)
    (warning,) = data.warnings
    assert "part-000001-30-50.parquet" in warning
    assert "its 20 rows are lost" in warning
    assert data.rows == 50
    core = LearnerCore(small_agent("sac"))
    assert core.ingest_offline([str(tmp_path)]) == [warning]
    assert core.agent.offline_transitions == 50


def test_a_torn_file_of_another_name_is_passed_over_too(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    cut_off(write(tmp_path / "b.parquet"))
    (warning,) = OfflineData([str(tmp_path)], SPACES).warnings
    assert "b.parquet was cut off" in warning
    assert "whose number nothing tells" in warning


def test_a_torn_file_in_the_middle_is_refused(tmp_path: Path) -> None:
    log(tmp_path, {"a": 90})
    footer_lost(tmp_path / "run=a" / "part-000001-30-60.parquet")
    found = refusal(tmp_path)
    assert "part-000001-30-60.parquet: the file is cut off and not the last" in found


def test_nothing_but_a_torn_file_is_refused(tmp_path: Path) -> None:
    log(tmp_path, {"a": 20})
    file = tmp_path / "run=a" / "part-000000-0-20.parquet"
    footer_lost(file)
    assert "holds no transitions" in refusal(tmp_path)
    assert "its 20 rows are lost" in refusal(file)
