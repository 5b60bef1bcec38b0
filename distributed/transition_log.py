"""Logs every real transition once, as Parquet files partitioned by run and part."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from distributed.storage import Location

ROWS_PER_PART = 10_000
SECONDS_PER_PART = 60.0  # a slow run writes smaller parts, so that a crash takes a minute at most
_PART = re.compile(r"part-(\d+)-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True)
class Part:
    """One file of a log.

    Attributes:
        index: of the file in its partition, from 0.
        first: real step of its first row.
        last: real step after that of its last row.
    """

    index: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """The file's name; it tells how many rows a file has that cannot be read any more."""
        return f"part-{self.index:06d}-{self.first}-{self.last}.parquet"

    @property
    def partial_name(self) -> str:
        """The name while it is written: pandas, DuckDB, Ray and Arrow pass over it."""
        return f".{self.name}.partial"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.last - self.first

    @staticmethod
    def parse(name: str) -> Part | None:
        """The part that a whole or partial file's name tells of; None if it is no part's name."""
        match = _PART.fullmatch(name.removeprefix(".").removesuffix(".partial"))
        return Part(*map(int, match.groups())) if match else None


class TransitionLog:
    """Writes record batches of real transitions to `folder/run=NAME/part-INDEX-FIRST-LAST.parquet`.

    Rows are gathered and written by a thread, one part at a time; a disk that cannot keep up slows
    the caller rather than filling the memory. A part is written under a name that readers pass
    over, fsynced and renamed, so a file under its own name is whole; so is any in a bucket.

    A partition is begun by the first row. One that is there already belongs to another run, or to
    a run of this name that began anew: it is left alone, and `run=NAME-2` and so on is begun. The
    name tells no owner, as a run may itself be called NAME-2: a checkpoint has both, see `state`.

    Args:
        folder: path on this machine, or URI of a bucket.
        run: name of the run.
        rows_per_part: rows after which a part is written, at the latest after
            `SECONDS_PER_PART`; batches are not cut.
    """

    def __init__(
        self, folder: str | PurePath, run: str, rows_per_part: int = ROWS_PER_PART
    ) -> None:
        self.folder = Location.of(folder)
        self.run = run
        self.rows_per_part = rows_per_part
        self.partition: str | None = None
        self._next_index = 0
        self._next_step = 0
        self._is_ahead = False  # there may be rows from `_next_step` on, which a restore takes back
        self._pending: list[pa.Buffer] = []
        self._pending_rows = 0
        self._pending_since = 0.0
        self._schema: pa.Schema | None = None
        self._thread = ThreadPoolExecutor(1, "transition-log")
        self._writing: Future[None] | None = None
        self._error: ValueError | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows; they are copied, so that the object store may let them go.

        Raises:
            ValueError: the folder or an earlier part could not be written, or what a restore takes
                back not be removed.
        """
        if batch.num_rows == 0:
            return
        if self._error is not None or (self._writing is not None and self._writing.done()):
            self._finish_writing()
        if self.partition is None:
            self._claim_partition()
        elif self._is_ahead:
            self._take_back()
        self._is_ahead = False
        if not self._pending:
            self._pending_since = time.monotonic()
        self._schema = batch.schema
        self._pending.append(batch.serialize())
        self._pending_rows += batch.num_rows
        waited = time.monotonic() - self._pending_since
        if self._pending_rows >= self.rows_per_part or waited >= SECONDS_PER_PART:
            self._begin_writing()

    def flush(self) -> None:
        """Writes what was taken so far and waits until it is on the disk.

        Raises:
            ValueError: it cannot be written.
        """
        self._begin_writing()
        self._finish_writing()

    def close(self) -> None:
        """Writes what was taken so far, unless that has failed before, and ends the thread."""
        if self._error is None:
            self.flush()
        self._thread.shutdown()

    @property
    def state(self) -> dict[str, str] | None:
        """What a checkpoint keeps: the partition, and the run that owns it; None before a row."""
        return None if self.partition is None else {"run": self.run, "partition": self.partition}

    def resume(self, state: Mapping[str, str] | str | None, env_steps: int) -> None:
        """Goes on after the restore of a checkpoint.

        Args:
            state: of the log of the checkpoint's run; None: it had not logged. In a partition of
                this run's own the rows that came after the checkpoint are taken back, once the next
                row comes: a checkpoint that is only looked at costs nothing. After any other
                checkpoint a partition is begun. Older checkpoints have the partition alone: it is
                this run's where it has its very name.
            env_steps: of the checkpoint.

        Raises:
            ValueError: a part cannot be written.
        """
        self.flush()
        if isinstance(state, str):
            state = {"run": state, "partition": state}
        self.partition = None
        if state is not None and state["run"] == self.run:
            self.partition = state["partition"]
        self._next_index, self._next_step, self._is_ahead = 0, env_steps, True

    def _take_back(self) -> None:
        """Removes the rows from real step `_next_step` on, and numbers parts after those left."""
        env_steps = self._next_step
        try:
            self._path.filesystem.create_dir(self._path.path)
            for name in self._path.names():
                part, file = Part.parse(name), self._path / name
                if part is None:
                    continue
                if name == part.partial_name or part.first >= env_steps:
                    file.remove()
                    continue
                if part.last > env_steps:
                    self._cut(file, part, env_steps)
                self._next_index = max(self._next_index, part.index + 1)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"The transition log {self._path} cannot be cut: {error}.") from error

    def _cut(self, file: Location, part: Part, env_steps: int) -> None:
        """Keeps a part's rows before a real step; what cannot be read is left to its reader."""
        try:
            table = pq.read_table(file.path, filesystem=file.filesystem, partitioning=None)
        except pa.ArrowInvalid:
            return
        kept = Part(part.index, part.first, env_steps)
        self._write(kept, table.slice(0, kept.rows))
        file.remove()

    @property
    def _path(self) -> Location:
        assert self.partition is not None
        return self.folder / ("run=" + quote(self.partition, safe=""))

    def _begin_writing(self) -> None:
        self._finish_writing()
        if self._pending_rows == 0:
            return
        part = Part(self._next_index, self._next_step, self._next_step + self._pending_rows)
        self._writing = self._thread.submit(self._write_batches, part, self._pending, self._schema)
        self._next_index += 1
        self._next_step = part.last
        self._pending, self._pending_rows = [], 0

    def _finish_writing(self) -> None:
        if self._error is None and self._writing is not None:
            try:
                self._writing.result()
            except (OSError, pa.ArrowException) as error:
                self._fail(error)
            self._writing = None
        if self._error is not None:
            raise self._error

    def _write_batches(self, part: Part, buffers: list[pa.Buffer], schema: pa.Schema) -> None:
        batches = [pa.ipc.read_record_batch(buffer, schema) for buffer in buffers]
        self._write(part, pa.Table.from_batches(batches).combine_chunks())

    def _claim_partition(self) -> None:
        for attempt in itertools.count(1):
            self.partition = self.run if attempt == 1 else f"{self.run}-{attempt}"
            try:
                self.folder.filesystem.create_dir(self.folder.path)
                if self._path.is_local:
                    Path(self._path.path).mkdir()
                elif self._path.exists():
                    continue
                else:
                    self._path.filesystem.create_dir(self._path.path)
            except FileExistsError:
                if self.folder.is_dir():
                    continue
                raise self._fail(f"{self.folder} is a file") from None
            except OSError as error:
                raise self._fail(error) from error
            return

    def _fail(self, reason: object) -> ValueError:
        self._error = ValueError(f"The transition log {self.folder} cannot be written: {reason}.")
        return self._error

    def _write(self, part: Part, table: pa.Table) -> None:
        if not self._path.is_local:
            file = self._path / part.name
            with file.filesystem.open_output_stream(file.path) as stream:
                _write_table(table, stream)
            return
        path = Path(self._path.path)
        partial = path / part.partial_name
        with partial.open("wb") as stream:
            _write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path / part.name)
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)  # of the new name
        finally:
            os.close(folder)


def _write_table(table: pa.Table, stream: Any) -> None:
    pq.write_table(table, stream, compression="zstd", use_dictionary=False)
