"""Transitions from files, all checked before any is handed over: logs, Parquet files, Minari."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from distributed.minari_data import MinariSource, is_minari
from distributed.replay_files import MANIFEST_FILE
from distributed.storage import Location, resolve, without_key
from distributed.transition_log import Part
from distributed.wire import VECTORS, transition_schema
from mnm import TaskSpaces, Transitions
from mnm.transitions import COLUMNS

LOG_FOLDER = "transitions"  # of a run's folder
ROWS_PER_BATCH = 65_536
# What pandas and a read of a partitioned folder add when rows are written again.
_IGNORED_COLUMNS = ("run", "__index_level_0__")
_MAGIC = b"PAR1"  # at both ends of a Parquet file
_ACTION_TOLERANCE = 1e-4  # of the action space's width


class Source(Protocol):
    """A file or a data set.

    Attributes:
        name: for messages, without a key that a URI may have.
        group: sources of one group count their episodes together.
        rows: number of transitions.
    """

    name: str
    group: str
    rows: int

    def batches(self) -> Iterator[Transitions]:
        """All rows in order.

        Raises:
            ValueError: a row is malformed; without the source's name and a full stop.
        """


class OfflineData:
    """The transitions at some paths, in the order of the paths and of the files' names.

    A path is a Parquet file, a folder of them (a log's, a run's with its log, or any other; it is
    searched to the bottom, replays of checkpoints left out), a URI of either that `pyarrow.fs`
    resolves, the folder of a Minari data set, or `minari:ID`.

    A file that a crash has torn is passed over if it is the last of its folder.

    Args:
        paths: where to look.
        spaces: of the task.

    Attributes:
        warnings: a sentence for each file that was passed over.

    Raises:
        ValueError: nothing is there, or a file has wrong columns or types; one sentence.
    """

    def __init__(self, paths: Sequence[str], spaces: TaskSpaces) -> None:
        self.spaces = spaces
        self.warnings: list[str] = []
        self._sources: list[Source] = []
        self._problems: list[str] = []
        self._numbers: dict[tuple[str, int], int] = {}
        for path in paths:
            if is_minari(path):
                self._add(path, partial(MinariSource, path, spaces))
            else:
                self._add_files(path)
        self._raise_problems()
        if self.rows == 0:
            skipped = f" ({' '.join(self.warnings)})" if self.warnings else ""
            shown = ", ".join(map(without_key, paths))
            raise ValueError(f"{shown} holds no transitions{skipped}.")

    @property
    def rows(self) -> int:
        """Number of transitions."""
        return sum(source.rows for source in self._sources)

    def check(self, accept: Callable[[Transitions, int], None]) -> None:
        """Reads every row and hands none over.

        Args:
            accept: is given each batch and the number of its first row in its file, and raises a
                ValueError if the learner would refuse it.

        Raises:
            ValueError: names the first bad file, its column and row, and counts the other ones.
        """
        for source in self._sources:
            try:
                first_row = 0
                for batch in source.batches():
                    self._check_values(batch, first_row)
                    accept(batch, first_row)
                    first_row += len(batch)
            except ValueError as error:
                self._problems.append(f"{source.name}: {error}")
        self._raise_problems()

    def batches(self) -> Iterator[Transitions]:
        """All rows; the episodes are numbered from -1 down, so that no run's own is among them."""
        numbers = self._numbers
        for source in self._sources:
            for batch in source.batches():
                distinct, positions = np.unique(batch.episode_ids, return_inverse=True)
                batch.episode_ids = np.array(
                    [
                        numbers.setdefault((source.group, episode), -1 - len(numbers))
                        for episode in distinct.tolist()
                    ],
                    dtype=np.int64,
                )[positions]
                yield batch

    def origin(self, episode: int) -> tuple[str, int]:
        """Folder or data set of an episode of `batches`, and its number there."""
        return list(self._numbers)[-1 - episode]

    def _add(self, name: str, open_source: Callable[[], Source]) -> None:
        try:
            self._sources.append(open_source())
        except ValueError as error:
            self._problems.append(f"{name}: {error}")

    def _add_files(self, path: str) -> None:
        for file in _find_files(path):
            try:
                torn = file.is_torn()
            except OSError as error:
                self._problems.append(f"{file.name}: it cannot be read ({_first_line(error)})")
                continue
            if torn and file.is_last:
                part = Part.parse(file.path.name)
                rows = f"{part.rows} rows" if part else "rows, whose number nothing tells,"
                self.warnings.append(
                    f"{file.name} was cut off, as by a crash, and is passed over: its {rows} are "
                    "lost."
                )
            elif torn:
                self._problems.append(
                    f"{file.name}: the file is cut off and not the last of its folder, so no crash "
                    "of a run explains it; restore it or take it away"
                )
            else:
                self._add(file.name, partial(_ParquetSource, file, self.spaces))

    def _check_values(self, batch: Transitions, first_row: int) -> None:
        for name in ("observations", "actions", "rewards", "next_observations"):
            column = getattr(batch, name)
            finite = np.isfinite(column).reshape(len(column), -1).all(1)
            _refuse_rows(~finite, name, first_row, "a value is not finite")
        low, high = self.spaces.action_low, self.spaces.action_high
        margin = _ACTION_TOLERANCE * (high - low)
        outside = (batch.actions < low - margin) | (batch.actions > high + margin)
        _refuse_rows(
            outside.any(1),
            "actions",
            first_row,
            f"an action lies outside the action space, {low.tolist()} to {high.tolist()}; rescale "
            "or clip the actions",
        )

    def _raise_problems(self) -> None:
        if not self._problems:
            return
        first, *others = self._problems
        self._problems = []
        more = f" ({len(others)} more of the files cannot be used either)" if others else ""
        raise ValueError(f"{first.rstrip('.')}{more}; nothing was loaded.")


@dataclass(frozen=True)
class _File:
    """A Parquet file that was found; `is_last` in its folder."""

    name: str
    path: PurePosixPath
    size: int
    filesystem: fs.FileSystem
    is_last: bool

    def is_torn(self) -> bool:
        """Whether a log was still writing it, or it begins as a Parquet file and ends otherwise."""
        if _is_partial(self.path):
            return True
        with self.filesystem.open_input_file(str(self.path)) as stream:
            size = len(_MAGIC)
            head = stream.read_at(size, 0)
            tail = stream.read_at(size, self.size - size) if self.size > 2 * size else b""
        return _MAGIC.startswith(head) and tail != _MAGIC


def _find_files(path: str) -> list[_File]:
    """The Parquet files at a path, sorted.

    Raises:
        ValueError: the path cannot be reached, or nothing is there.
    """
    shown = without_key(path)  # as all names are in messages
    try:
        if "://" in path:
            filesystem, root = resolve(path)
            root = root.rstrip("/") or root
        else:
            filesystem, root = fs.LocalFileSystem(), os.path.abspath(path)
        place = Location(filesystem, root, path)
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.Directory:
            log = filesystem.get_file_info(f"{root}/{LOG_FOLDER}")
            top = log.path if log.type == fs.FileType.Directory else root
            found = filesystem.get_file_info(fs.FileSelector(top, recursive=True))
        else:
            top, found = os.path.dirname(root), [info]
    except (OSError, ValueError) as error:
        raise ValueError(f"{shown} cannot be reached: {_first_line(error)}.") from error
    if info.type == fs.FileType.NotFound:
        raise ValueError(f"There are no offline data at {shown}.")
    # A checkpoint's replays, folder/real and folder/synthetic, are the same rows again or imagined.
    replays = {PurePosixPath(e.path).parent for e in found if e.base_name == MANIFEST_FILE}
    entries = []
    for entry in sorted((e for e in found if e.is_file), key=lambda e: _sorting_key(e.path)):
        inner = PurePosixPath(entry.path).relative_to(top)
        hidden = any(part.startswith((".", "_")) for part in inner.parts)
        is_replay = not replays.isdisjoint(PurePosixPath(entry.path).parents)
        is_parquet = inner.suffix == ".parquet" and not hidden and not is_replay
        if is_parquet or entry.path == root or _is_partial(inner):
            entries.append(entry)
    if not entries:
        what = "no Parquet file but a checkpoint's replay: name the log" if replays else ""
        raise ValueError(f"{shown} holds {what or 'no Parquet file'}.")
    last = {PurePosixPath(entry.path).parent: entry.path for entry in entries}
    return [
        _File(
            str(place / entry.path[len(root) + 1 :] if entry.path != root else place),
            PurePosixPath(entry.path),
            entry.size,
            filesystem,
            is_last=entry.path in last.values(),
        )
        for entry in entries
    ]


def _is_partial(path: PurePosixPath) -> bool:
    part = Part.parse(path.name)
    return part is not None and path.name == part.partial_name


def _sorting_key(path: str) -> tuple[str, str]:
    """Partial files stand where the whole ones would."""
    file = PurePosixPath(path)
    return str(file.parent), file.name.removeprefix(".")


class _ParquetSource:
    """One Parquet file."""

    def __init__(self, file: _File, spaces: TaskSpaces) -> None:
        self.name = file.name
        self.group = str(file.path.parent)
        self._file = file
        self._schema = transition_schema(spaces.observation_dim, spaces.action_dim)
        with self._open() as parquet:
            self.rows: int = parquet.metadata.num_rows
            _check_schema(parquet.schema_arrow, self._schema)

    def batches(self) -> Iterator[Transitions]:
        """See `Source.batches`."""
        first_row = 0
        with self._open() as parquet:
            found = parquet.iter_batches(ROWS_PER_BATCH, columns=list(COLUMNS))
            while True:
                try:
                    batch = next(found, None)
                except (OSError, pa.ArrowException) as error:
                    raise ValueError(f"the file is damaged ({_first_line(error)})") from error
                if batch is None:
                    return
                yield Transitions(
                    *(_column(batch, field, first_row) for field in self._schema),
                )
                first_row += len(batch)

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(str(self._file.path), filesystem=self._file.filesystem)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"the file is damaged or no Parquet file ({_first_line(error)})"
            ) from error


def _check_schema(found: pa.Schema, wanted: pa.Schema) -> None:
    names = [name for name in found.names if name not in _IGNORED_COLUMNS]
    listing = f"the columns of transitions are {', '.join(COLUMNS)}"
    for name in COLUMNS:
        if names.count(name) != 1:
            there = "is missing" if name not in names else "is there more than once"
            raise ValueError(f"column {name} {there}; {listing}")
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"column {name} is unknown; {listing}")
    for field in wanted:
        kind, right = found.field(field.name).type, field.type
        if field.name not in VECTORS:
            if kind != right:
                raise ValueError(f"column {field.name} has the type {kind}, not {right}; cast it")
            continue
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        is_fixed = pa.types.is_fixed_size_list(kind)
        if not (is_list or is_fixed) or kind.value_type != right.value_type:
            raise ValueError(
                f"column {field.name} has the type {kind}, not lists of {right.list_size} float32 "
                "values; cast it"
            )
        if is_fixed and kind.list_size != right.list_size:
            raise ValueError(
                f"column {field.name} has {kind.list_size} values a row, this task has "
                f"{right.list_size}"
            )


def _column(batch: pa.RecordBatch, field: pa.Field, first_row: int) -> np.ndarray:
    """One column as NumPy; lists of any kind come out [N, width].

    Raises:
        ValueError: a value is missing, or a list has the wrong length.
    """
    column = batch.column(field.name)
    _refuse_rows(_nulls(column), field.name, first_row, "a value is missing")
    if field.name not in VECTORS:
        return column.to_numpy(zero_copy_only=False)
    width = field.type.list_size
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    wrong: np.ndarray = lengths != width
    _refuse_rows(wrong, field.name, first_row, f"the list has not {width} values")
    flat = column.flatten()
    missing = np.any(_nulls(flat).reshape(len(column), width), axis=1)
    _refuse_rows(missing, field.name, first_row, "a value is missing")
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), width)


def _nulls(column: pa.Array) -> np.ndarray:
    return column.is_null().to_numpy(zero_copy_only=False)


def _refuse_rows(bad: np.ndarray, column: str, first_row: int, reason: str) -> None:
    if bad.any():
        raise ValueError(f"column {column}, row {first_row + int(bad.argmax())}: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
