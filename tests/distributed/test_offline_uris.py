"""Tests of offline data in a bucket whose URI has a key: read with it, and named without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.offline_data import OfflineData
from distributed.storage import Location
from tests.distributed.offline_files import assert_same_values, load, log, refusal
from tests.mnm.small_cases import SPACES
from tests.s3_server import S3Server

SECRET = "TOPSECRET"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def query(server: S3Server) -> str:
    return f"?scheme=http&region=us-east-1&endpoint_override={server.address[7:]}"


@pytest.fixture
def keyed(query: str, tmp_path: Path) -> str:
    """A run's folder with a log of two files."""
    uri = f"s3://AKIAKEY:{SECRET}@bucket/{tmp_path.name}{query}"
    for file in sorted(log(tmp_path / "transitions", {"a": 50}).rglob("*.parquet")):
        (Location.of(uri) / str(file.relative_to(tmp_path))).write(file.read_bytes())
    return uri


def test_the_key_opens_it(keyed: str, tmp_path: Path) -> None:
    assert_same_values(load(keyed), load(tmp_path))


def test_a_bad_file_is_named_without_it(keyed: str, query: str) -> None:
    file = Location.of(keyed) / "transitions" / "run=a" / "part-000000-0-30.parquet"
    file.write(b"PAR1" + b"0" * 99)
    assert refusal(keyed).startswith(f"s3://{file.path}{query}: the file is cut off and not the")
    assert refusal(file.name).startswith(f"s3://{file.path}{query} holds no transitions")


def test_a_torn_file_is_named_without_it(keyed: str, query: str) -> None:
    file = Location.of(keyed) / "transitions" / "run=a" / "part-000001-30-50.parquet"
    file.write(b"PAR1" + b"0" * 99)
    (warning,) = OfflineData([keyed], SPACES).warnings
    assert warning.startswith(f"s3://{file.path}{query} was cut off")


def test_nothing_at_all_is_named_without_it(keyed: str, tmp_path: Path, query: str) -> None:
    none = (Location.of(keyed) / "none").name
    assert refusal(none) == f"There are no offline data at s3://bucket/{tmp_path.name}/none{query}."
    (Location.of(none) / "README").write(b"nothing")
    assert refusal(none) == f"s3://bucket/{tmp_path.name}/none{query} holds no Parquet file."


@pytest.mark.parametrize(
    "uri", [f"nowhere://AKIAKEY:{SECRET}@bucket/log", f"s3://AKIAKEY:A/{SECRET}@bucket/log"]
)
def test_a_uri_that_cannot_be_reached_is_named_without_it(uri: str) -> None:
    sentence = refusal(uri)
    assert f"{uri.partition(':')[0]}://bucket/log cannot be reached: " in sentence
    assert SECRET not in sentence
