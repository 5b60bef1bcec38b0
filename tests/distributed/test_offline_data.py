"""Tests of offline data: what is read, what is refused and how, torn files, Minari."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import gymnasium as gym
import minari
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer

from distributed.learner_core import LearnerCore
from distributed.offline_data import OfflineData
from distributed.transition_log import Part, TransitionLog
from distributed.wire import to_arrow
from mnm import TaskSpaces, Transitions
from mnm.transitions import COLUMNS
from tests.mnm.small_cases import SPACES, random_transitions, small_agent

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari.*")

Change = Callable[[pa.Table], pa.Table]


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


def assert_same_rows(found: Transitions, expected: Transitions) -> None:
    for name in COLUMNS:
        if name != "episode_ids":
            one, other = getattr(found, name), getattr(expected, name)
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)


# What is read


def test_a_log_is_read_whole_in_the_order_of_runs_and_parts(tmp_path: Path) -> None:
    log(tmp_path, {"b": 20, "a": 50})
    rows = load(tmp_path)
    expected = [random_transitions(10, first=10 * i) for i in (*range(5), *range(2))]
    assert_same_rows(rows, Transitions.concatenate(expected))


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
        assert_same_rows(load(path), expected)
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
    assert_same_rows(load(tmp_path / "copy.parquet"), load(tmp_path / "log"))


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", change=lambda table: table.select(sorted(COLUMNS)))
    assert_same_rows(load(file), random_transitions(20))


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
    assert_same_rows(
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


NAN = float("nan")
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


# Minari


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def box(width: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (width,), np.float64)


ACTIONS = gym.spaces.Box(-2.0, 4.0, (1,), np.float32)
DICTIONARY = gym.spaces.Dict({"b": box(1), "a": box(1)})


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
        algorithm_name="a",
        author="a",
        author_email="a@b.c",
        code_permalink="a",
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
    assert_same_rows(rows, expected)
    assert rows.episode_ids.tolist() == [-1] * 5 + [-2] * 6 + [-3] * 7
    for folder in (minari_root / "line" / "tests-v0", minari_root / "line" / "tests-v0" / "data"):
        assert_same_rows(load(folder), expected)


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
        algorithm_name="a",
        author="a",
        author_email="a@b.c",
        code_permalink="a",
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
