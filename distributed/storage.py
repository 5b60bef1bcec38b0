"""Files on a local disk or, through `pyarrow.fs`, in a bucket."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from pyarrow import fs

# What stands before the @; where a slash in a secret was not written as %2F, all to the last @.
# With s3 it is the key, elsewhere a user or, in abfss://container@account, a part of the place.
_KEY = re.compile(r"(?:[^/?#]*|[^/?#:]*:.*)@", re.DOTALL)
_PASSWORD = re.compile(r"([^/?#:@]*):(?:[^/?#]*|(?!\d+(?:[/?#]|$)).*)@", re.DOTALL)  # or a port
_PLACED_BY_USER = ("abfs", "abfss", "hdfs", "viewfs")  # without it these lead elsewhere
_SECRET_IN_QUERY = re.compile(r"(?<=[?&])((?:\w*(?:secret|token|key)|sig|password)=)[^&]*")


def without_key(name: str) -> str:
    """A path or URI as it may be shown and stored: without a key or password that it may have."""
    scheme, mark, place = name.partition("://")
    if not mark:
        return name
    if scheme.lower() == "s3":
        if found := _KEY.match(place):
            place = place[found.end() :]
    elif found := _PASSWORD.match(place):
        user = f"{found[1]}@" if found[1] and scheme.lower() in _PLACED_BY_USER else ""
        place = user + place[found.end() :]
    return scheme + mark + _SECRET_IN_QUERY.sub(r"\1***", place)


class KeyedUri(os.PathLike[str]):
    """A URI with a key in it, for a config: Tune writes what it shows of that to plain files.

    `str` and `repr` have no key, `os.fspath` is the whole URI.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __fspath__(self) -> str:
        return self._uri

    def __str__(self) -> str:
        return without_key(self._uri)

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyedUri) and other._uri == self._uri

    def __hash__(self) -> int:
        return hash(self._uri)


def resolve(
    path: str | PurePath, filesystem: fs.FileSystem | None = None
) -> tuple[fs.FileSystem, str]:
    """The filesystem that an absolute path or a URI is on, and the path on it.

    Args:
        path: path on `filesystem`; absolute path or URI where that is None.
        filesystem: as RLlib hands it over; None: found from `path`.

    Raises:
        ValueError: pyarrow knows no filesystem of this URI.
        OSError: it cannot be reached.
    """
    text = path if isinstance(path, str) else path.as_posix()
    if filesystem is not None:
        return filesystem, text
    try:
        return fs.FileSystem.from_uri(text)
    except (ValueError, OSError) as error:  # its sentence has the URI, and its key
        raise type(error)(str(error).replace(text, without_key(text))) from None


def read_file(filesystem: fs.FileSystem, path: str) -> bytes:
    """A whole file.

    Raises:
        OSError: it is missing or cannot be read.
    """
    with filesystem.open_input_stream(path) as stream:
        return stream.read()


def write_file(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    """Writes a file whole or not at all: on a disk beside its place first, then renamed.

    A bucket shows an object only once all of it has come.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
    partial = f"{path}.partial"
    with filesystem.open_output_stream(partial) as stream:
        stream.write(content)
    filesystem.move(partial, path)


def file_sizes(filesystem: fs.FileSystem, folder: str) -> dict[str, int]:
    """Bytes of every file below a folder, by its path in it."""
    found = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    return {
        PurePath(file.path).relative_to(PurePath(folder)).as_posix(): file.size
        for file in found
        if file.is_file
    }


@dataclass(frozen=True)
class Location:
    """A file or folder, or the place for one, on a disk or in a bucket.

    Attributes:
        filesystem: that it is on.
        path: on it.
        name: as the user named it: a path or a URI.
    """

    filesystem: fs.FileSystem = field(hash=False)
    path: str
    name: str

    @staticmethod
    def of(name: str | os.PathLike[str] | Location) -> Location:
        """What a path or a URI names.

        Raises:
            ValueError: pyarrow knows no filesystem of this URI.
            OSError: it cannot be reached.
        """
        if isinstance(name, Location):
            return name
        text = os.fspath(name)
        if isinstance(name, PurePath) or "://" not in text:
            return Location(fs.LocalFileSystem(), Path(text).resolve().as_posix(), text)
        filesystem, path = resolve(text)
        return Location(filesystem, path.rstrip("/"), text)

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine, or one that is mounted here."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def full_name(self) -> str:
        """A name that other processes can use: a whole path or a URI."""
        return self.path if self.is_local else self.name

    @property
    def last(self) -> str:
        """The last part of its path."""
        return PurePath(self.path).name

    @property
    def parent(self) -> Location:
        """The folder that it lies in."""
        path = PurePath(self.path).parent.as_posix()
        address, query = self._parts
        name = path if self.is_local else address.rstrip("/").rpartition("/")[0] + query
        return Location(self.filesystem, path, name)

    def __truediv__(self, below: str) -> Location:
        """What lies below it."""
        address, query = self._parts
        name = f"{address.rstrip('/')}/{below}{query}"
        return Location(self.filesystem, f"{self.path}/{below}", name)

    def __str__(self) -> str:
        """The name, without a key or password that the URI may have."""
        return without_key(self.name)

    @property
    def _parts(self) -> tuple[str, str]:
        """Name without what follows the path in a URI, and that."""
        if "://" not in self.name:
            return self.name, ""
        address, mark, query = self.name.partition("?")
        return address, mark + query

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return self._type != fs.FileType.NotFound

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self._type == fs.FileType.File

    def is_dir(self) -> bool:
        """Whether there is a folder; in a bucket, something below this path."""
        return self._type == fs.FileType.Directory

    @property
    def _type(self) -> fs.FileType:
        return self.filesystem.get_file_info(self.path).type

    def names(self) -> list[str]:
        """Of what lies in this folder, in order; none where there is no folder."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(PurePath(file.path).name for file in found)

    def read(self) -> bytes:
        """The whole file; see `read_file`."""
        return read_file(self.filesystem, self.path)

    def write(self, content: bytes) -> None:
        """Writes the file whole or not at all, and the folder that it lies in; see `write_file`."""
        if self.is_local:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        write_file(self.filesystem, self.path, content)

    def remove(self) -> None:
        """Removes the file, or the folder with all below it; nothing where there is neither."""
        kind = self._type
        if kind == fs.FileType.Directory:
            self.filesystem.delete_dir(self.path)
        elif kind == fs.FileType.File:
            self.filesystem.delete_file(self.path)

    def move(self, target: Location) -> None:
        """Gives it another place on the same filesystem, where nothing is yet."""
        if self.is_local or self.is_file():
            self.filesystem.move(self.path, target.path)
        else:  # buckets have no folders that could be renamed
            self.copy(target)
            self.remove()

    def copy(self, target: Location) -> None:
        """Copies a folder to where nothing is yet; on one disk as hard links where it allows."""
        if self.is_local and target.is_local:
            shutil.copytree(self.path, target.path, copy_function=_link_or_copy)
            return
        target.filesystem.create_dir(target.path)
        fs.copy_files(
            self.path,
            target.path,
            source_filesystem=self.filesystem,
            destination_filesystem=target.filesystem,
            use_threads=False,  # uploads to S3 by several threads may block one another
        )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
