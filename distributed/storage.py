"""Files on a local disk or, through `pyarrow.fs`, in a bucket."""

from __future__ import annotations

from pathlib import PurePath

from pyarrow import fs


def resolve(
    path: str | PurePath, filesystem: fs.FileSystem | None = None
) -> tuple[fs.FileSystem, str]:
    """The filesystem that an absolute path or a URI is on, and the path on it.

    Args:
        path: path on `filesystem`; absolute path or URI where that is None.
        filesystem: as RLlib hands it over; None: found from `path`.
    """
    text = path if isinstance(path, str) else path.as_posix()
    return fs.FileSystem.from_uri(text) if filesystem is None else (filesystem, text)


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
