"""Saves replays as Parquet parts that do not change, so that the next checkpoint links them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from distributed.storage import read_file, resolve, write_file
from distributed.wire import from_arrow, to_arrow, transition_schema
from mnm import Transitions
from mnm.replay import ReplayBuffer

PART_ROWS = 50_000  # parts are cut at multiples of this running number
MANIFEST_FILE = "manifest.json"
CACHE_PREFIX = "mnm-replay-"


@dataclass(frozen=True)
class Part:
    """A file of consecutive rows.

    Attributes:
        file: its path in the replay's folder.
        first_row: running number of its first row.
        rows: how many it holds.
    """

    file: str
    first_row: int
    rows: int

    @property
    def stop(self) -> int:
        """Running number behind its last row."""
        return self.first_row + self.rows


@dataclass(frozen=True)
class SavedReplay:
    """What the manifest says of one buffer.

    Attributes:
        capacity: of the ring.
        total: running number that the next row gets.
        size: rows held; the first part may begin with older ones.
        parts: in order.
        origin: number of a row in slot 0.
    """

    capacity: int
    total: int
    size: int
    parts: list[Part]
    origin: int = 0

    @property
    def first(self) -> int:
        """Running number of the oldest row held."""
        return self.total - self.size

    def is_consistent(self) -> bool:
        """Whether the parts follow on one another and hold all rows."""
        stops = [part.stop for part in self.parts]
        firsts = [part.first_row for part in self.parts]
        if self.size == 0:
            return not self.parts
        return firsts[1:] == stops[:-1] and firsts[0] <= self.first and stops[-1] == self.total


class ReplayFiles:
    """Saves replays to folders and loads them back, writing each row about once.

    A part that is full and lies in the ring never changes. Parts are kept in a temporary folder of
    this process, and every save links them from there, or copies them to another disk or a bucket:
    what becomes of earlier saves does not matter.

    Args:
        part_rows: rows of a full part.
    """

    def __init__(self, part_rows: int = PART_ROWS) -> None:
        self.part_rows = part_rows
        self._cache: _CacheFolder | None = None
        self._cached: dict[str, Part] = {}

    def save(
        self,
        buffers: Mapping[str, ReplayBuffer],
        folder: str | Path,
        filesystem: fs.FileSystem | None = None,
    ) -> None:
        """Saves all rows of `buffers`, each under its name; the manifest last.

        Args:
            buffers: the same ones in every call; in between rows may be appended to them, and
                loaded by this object alone.
            folder: what it held before is deleted.
            filesystem: that `folder` is on; None: found from `folder`.
        """
        filesystem, target = resolve(folder, filesystem)
        if self._cache is None:
            self._cache = _CacheFolder()
        filesystem.delete_dir_contents(target, missing_dir_ok=True)
        saved, kept = {}, {}
        for name, buffer in buffers.items():
            filesystem.create_dir(f"{target}/{name}")
            parts = [self._written(part, buffer) for part in self._parts(name, buffer)]
            kept.update({part.file: part for part in parts})
            saved[name] = SavedReplay(
                buffer.capacity, buffer.total, buffer.size, parts, buffer.origin
            )
        for file in self._cached.keys() - kept.keys():
            (self._cache.path / file).unlink(missing_ok=True)
        self._cached = kept
        for file in kept:
            _link_or_copy(self._cache.path / file, filesystem, f"{target}/{file}")
        content = json.dumps({name: asdict(replay) for name, replay in saved.items()}, indent=1)
        write_file(filesystem, f"{target}/{MANIFEST_FILE}", content.encode())

    def load(
        self,
        buffers: Mapping[str, ReplayBuffer],
        folder: str | Path,
        filesystem: fs.FileSystem | None = None,
    ) -> None:
        """Replaces the rows of `buffers` by those saved, each with the number and slot it had.

        A buffer of another capacity than the saved one takes the newest rows, from slot 0 on.

        Raises:
            ValueError: a file is missing or damaged, or the rows are of another task; nothing is
                changed unless the damage is within a file of the right length.
        """
        filesystem, source = resolve(folder, filesystem)
        saved = _read_manifest(filesystem, source)
        if saved.keys() != buffers.keys():
            raise ValueError(
                f"The saved replay {source} holds {_listed(saved)} transitions, not "
                f"{_listed(buffers)}: restore with the algorithm it was made with."
            )
        for name, buffer in buffers.items():
            for part in saved[name].parts:
                _check_part(filesystem, source, part, buffer)
        self.close()  # the cached parts are of other rows
        for name, buffer in buffers.items():
            replay = saved[name]
            first = max(replay.first, replay.total - buffer.capacity)
            origin = replay.origin if buffer.capacity == replay.capacity else None
            buffer.load(_rows(filesystem, source, replay.parts, first), first, origin)

    def close(self) -> None:
        """Removes the temporary folder."""
        if self._cache is not None:
            self._cache.remove()
        self._cache, self._cached = None, {}

    def _parts(self, name: str, buffer: ReplayBuffer) -> Iterator[Part]:
        """The parts that the rows of a buffer fall into."""
        first = buffer.total - buffer.size
        for number in range(first // self.part_rows, -(-buffer.total // self.part_rows)):
            start = max(number * self.part_rows, first)
            stop = min((number + 1) * self.part_rows, buffer.total)
            if start < stop:
                yield Part(f"{name}/part-{number:06d}.parquet", start, stop - start)

    def _written(self, part: Part, buffer: ReplayBuffer) -> Part:
        """The cached part that holds these rows, written if there is none yet."""
        assert self._cache is not None
        path = self._cache.path / part.file
        known = self._cached.get(part.file)
        if known is not None and known.stop == part.stop and path.exists():
            return known  # it may begin with rows that have left the ring
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # never written into: checkpoints link it
        batch = to_arrow(buffer.rows(part.first_row, part.stop))
        pq.write_table(
            pa.Table.from_batches([batch]),
            path,
            compression="lz4",
            use_dictionary=False,  # floats that rarely repeat: three times slower, no smaller
            write_statistics=False,
            write_page_checksum=True,
        )
        return part


class _CacheFolder:
    """A temporary folder that goes with its process.

    What a killed process left, seen by its lock being free, is removed by the next one.
    """

    def __init__(self) -> None:
        for abandoned in Path(tempfile.gettempdir()).glob(f"{CACHE_PREFIX}*"):
            lock = _lock(abandoned)
            if lock is not None:
                shutil.rmtree(abandoned, ignore_errors=True)
                os.close(lock)
        lock = None
        while lock is None:  # another process may take the new folder for an abandoned one
            self._folder = tempfile.TemporaryDirectory(
                prefix=CACHE_PREFIX, ignore_cleanup_errors=True
            )
            lock = _lock(Path(self._folder.name))
        self._held: int = lock
        self.path = Path(self._folder.name)

    def remove(self) -> None:
        """Removes the folder and what is in it."""
        self._folder.cleanup()
        os.close(self._held)


def _lock(folder: Path) -> int | None:
    """An open, locked descriptor of a folder; None where another process has it or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _link_or_copy(source: Path, filesystem: fs.FileSystem, target: str) -> None:
    """Puts a local file to a place where none is yet."""
    if isinstance(filesystem, fs.LocalFileSystem):
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, target)
    else:
        fs.copy_files(str(source), target, fs.LocalFileSystem(), filesystem)


def _read_manifest(filesystem: fs.FileSystem, folder: str) -> dict[str, SavedReplay]:
    try:
        saved = json.loads(read_file(filesystem, f"{folder}/{MANIFEST_FILE}"))
        replays = {name: _saved_replay(content) for name, content in saved.items()}
    except FileNotFoundError as error:
        raise ValueError(
            f"The saved replay {folder} is not whole: {MANIFEST_FILE} is missing; restore from "
            "another checkpoint."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, MANIFEST_FILE) from error
    if not all(replay.is_consistent() for replay in replays.values()):
        raise _damaged(folder, MANIFEST_FILE)
    return replays


def _saved_replay(content: dict[str, Any]) -> SavedReplay:
    parts = [Part(**part) for part in content["parts"]]
    return SavedReplay(**{**content, "parts": parts})


def _check_part(filesystem: fs.FileSystem, folder: str, part: Part, buffer: ReplayBuffer) -> None:
    """Refuses a part that is missing, cut, or of another task, without reading its rows."""
    try:
        with filesystem.open_input_file(f"{folder}/{part.file}") as file:
            parquet = pq.ParquetFile(file)
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
    except FileNotFoundError as error:
        raise ValueError(
            f"The saved replay {folder} is not whole: {part.file} is missing; restore from "
            "another checkpoint."
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise _damaged(folder, part.file) from error
    if rows != part.rows:
        raise ValueError(
            f"The saved replay {folder} is damaged: {part.file} holds {rows} rows instead of "
            f"{part.rows}; restore from another checkpoint."
        )
    if not schema.equals(transition_schema(buffer.observation_dim, buffer.action_dim)):
        raise ValueError(
            f"The saved replay {folder} is of another task: {part.file} has other columns than "
            f"{buffer.observation_dim} observations and {buffer.action_dim} actions; restore into "
            "the task that it was made with."
        )


def _rows(
    filesystem: fs.FileSystem, folder: str, parts: list[Part], first: int
) -> Iterator[Transitions]:
    """The rows of parts from number `first` on."""
    for part in parts:
        if part.stop <= first:
            continue
        try:
            with filesystem.open_input_file(f"{folder}/{part.file}") as file:
                table = pq.read_table(file, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(folder, part.file) from error
        (batch,) = table.combine_chunks().to_batches()
        yield from_arrow(batch)[max(0, first - part.first_row) :]


def _damaged(folder: str, file: str) -> ValueError:
    return ValueError(
        f"The saved replay {folder} is damaged: {file} cannot be read; restore from another "
        "checkpoint."
    )


def _listed(names: Mapping[str, Any]) -> str:
    return " and ".join(sorted(names))
