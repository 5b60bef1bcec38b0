"""Tests of places on a disk and in a bucket: the same calls do the same on both."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.storage import KeyedUri, Location, without_key
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Server]:
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(params=["path", "file", "s3", "s3 with a query"])
def folder(request: pytest.FixtureRequest, bucket: S3Server, tmp_path: Path) -> Location:
    name = request.node.name
    endpoint = bucket.address.removeprefix("http://")
    places = {
        "path": str(tmp_path / "run"),
        "file": f"file://{tmp_path}/run",
        "s3": f"s3://bucket/{tmp_path.name}/run",
        "s3 with a query": f"s3://bucket/{tmp_path.name}/{len(name)}/run?scheme=http"
        f"&endpoint_override={endpoint}&region=us-east-1",
    }
    return Location.of(places[request.param])


def test_what_is_written_is_there_and_what_is_removed_is_not(folder: Location) -> None:
    assert not folder.exists()
    (folder / "run.json").write(b"{}")
    (folder / "deep" / "er" / "part").write(b"rows")
    assert folder.is_dir()
    assert (folder / "run.json").is_file()
    assert folder.names() == ["deep", "run.json"]
    assert (folder / "deep" / "er" / "part").read() == b"rows"
    (folder / "run.json").write(b"other")
    assert (folder / "run.json").read() == b"other"
    (folder / "run.json").remove()
    (folder / "nothing").remove()
    assert folder.names() == ["deep"]
    folder.remove()
    assert not folder.exists()


def test_folders_and_files_are_moved_and_copied(folder: Location, tmp_path: Path) -> None:
    (folder / "old" / "inner" / "part").write(b"rows")
    (folder / "file").write(b"1")
    (folder / "old").move(folder / "new")
    (folder / "file").move(folder / "other")
    (folder / "new").copy(folder / "twin")
    assert folder.names() == ["new", "other", "twin"]
    assert (folder / "twin" / "inner" / "part").read() == b"rows"
    (folder / "new").copy(Location.of(tmp_path / "here"))
    assert (tmp_path / "here" / "inner" / "part").read_bytes() == b"rows"


def test_names_can_be_used_again_and_sent_to_other_processes(folder: Location) -> None:
    (folder / "a" / "b").write(b"1")
    again = Location.of((folder / "a").name)
    assert again.names() == ["b"]
    assert again.last == "a"
    assert again.parent.path == folder.path
    assert Location.of(again.parent.name).names() == ["a"]
    assert pickle.loads(pickle.dumps(again)).names() == ["b"]


def test_a_key_in_a_uri_is_not_shown() -> None:
    location = Location.of("s3://key:secret@bucket/run?region=us-east-1")
    assert str(location / "run.json") == "s3://bucket/run/run.json?region=us-east-1"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://KEY:SECRET@bucket/run?region=a", "s3://bucket/run?region=a"),
        ("s3://KEY:SEC@RET@bucket/run@2", "s3://bucket/run@2"),
        ("s3://KEY:SEC/RET@bucket/run", "s3://bucket/run"),
        ("s3://KEY:/SECRET@bucket/run", "s3://bucket/run"),
        ("s3://KEY@bucket/run", "s3://bucket/run"),
        ("s3://KEY:12/SEC+RET@bucket/run", "s3://bucket/run"),
        ("S3://KEY:SECRET@bucket/run", "S3://bucket/run"),
        ("abfss://data:SECRET@account.net/run@2", "abfss://data@account.net/run@2"),
        ("abfss://:SECRET@account.net/data/run", "abfss://account.net/data/run"),
        ("abfs://account:SEC/RET==@data/run", "abfs://account@data/run"),
        ("https://KEY:SECRET@host:9000/run@2", "https://host:9000/run@2"),
        ("hdfs://me:SECRET@host:9000/run@2", "hdfs://me@host:9000/run@2"),
        ("abfs://bucket/run?client_secret=SECRET&x=1", "abfs://bucket/run?client_secret=***&x=1"),
        ("abfs://bucket/run?sv=2024&sig=SECRET", "abfs://bucket/run?sv=2024&sig=***"),
    ],
)
def test_no_part_of_a_key_is_shown(uri: str, shown: str) -> None:
    assert without_key(uri) == shown
    assert without_key(shown) == shown


@pytest.mark.parametrize(
    "name",
    [
        "runs/a:b@c/d",
        "s3://bucket/run@2",
        "http://host:9000/run@2",
        "hdfs://me@host:9000/run@2",
        "abfss://data@account.dfs.core.windows.net/run",
        "gs://anonymous@bucket/run",
        "file:///a/b@c",
        "s3://bucket/run?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
    ],
)
def test_names_without_a_key_are_shown_whole(name: str) -> None:
    assert without_key(name) == name


@pytest.mark.parametrize(
    "uri", ["abfss://data@account.dfs.core.windows.net/run", "gs://anonymous@bucket/run"]
)
def test_the_name_that_is_shown_leads_to_the_same_place(uri: str) -> None:
    location = Location.of(uri)
    again = Location.of(str(location))
    assert (again.path, again.filesystem) == (location.path, location.filesystem)


@pytest.mark.parametrize("uri", ["nowhere://KEY:SECRET@bucket/run", "s3://KEY:SEC/RET@bucket/run"])
def test_pyarrows_own_sentences_have_no_key(uri: str) -> None:
    with pytest.raises(ValueError, match="bucket/run") as refused:
        Location.of(uri)
    assert "SEC" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_uri_of_a_config_is_whole_to_who_opens_it_alone(folder: Location) -> None:
    uri = KeyedUri("s3://KEY:SECRET@bucket/run")
    assert str(uri) == "s3://bucket/run"
    assert os.fspath(uri) == "s3://KEY:SECRET@bucket/run"
    assert "SECRET" not in json.dumps([uri], default=str) + repr({"output": [uri]})
    assert pickle.loads(pickle.dumps(uri)) == uri
    assert Location.of(KeyedUri(folder.name)) == folder


def test_a_relative_path_is_shown_as_it_was_given() -> None:
    location = Location.of("runs/a")
    assert str(location / "b") == "runs/a/b"
    assert location.path == (Path.cwd() / "runs/a").as_posix()


def test_an_unknown_kind_of_uri_is_refused() -> None:
    with pytest.raises(ValueError, match="Unrecognized filesystem"):
        Location.of("nowhere://bucket/run")
