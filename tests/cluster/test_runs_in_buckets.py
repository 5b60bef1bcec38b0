"""Tests of runs whose folder is in a bucket, on a server that speaks S3's protocol."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from distributed.storage import Location
from tests.cluster.commands import LINE, Mnm, assert_one_sentence
from tests.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("local_ray")

SECRET = "not-to-be-shown"
PICKLE = "basic-variant-state"  # of Tune: named .json, and a pickle


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def run(server: S3Server) -> Location:
    """Named with all that a client needs: Ray's processes do not have this test's variables."""
    query = f"scheme=http&region=us-east-1&endpoint_override={server.address[7:]}"
    return Location.of(f"s3://key:{SECRET}@bucket/runs/line?{query}")


def steps_of(run: Location) -> list[int]:
    progress = pd.read_csv(io.BytesIO((run / "progress.csv").read()))
    return progress["num_env_steps_sampled_lifetime"].astype(int).tolist()


def test_a_run_is_made_and_resumed_and_evaluated_there(
    mnm: Mnm, tiny: Path, tmp_path: Path, run: Location, server: S3Server
) -> None:
    words = ("--num-env-runners", 0, "--num-rollout-workers", 0, "--evaluation-interval", 40)
    task = ("--env", LINE, "--config", tiny, "--steps", 120, "--log-transitions")
    done = mnm("train", *task, *words, "--output", run.name)
    assert done.code == 0, done.err
    assert SECRET not in done.out + done.err
    results = {"run.json", "progress.csv", "result.json", "summary.json", "learning_curve.png"}
    found = server.names("runs/line")
    assert found >= results | {"checkpoint", "transitions", "bound.png"}
    assert not {name for name in found if "partial" in name}
    keyed = {key for key, content in server.objects.items() if SECRET.encode() in content}
    assert not {key for key in keyed if not key.endswith(".pkl") and PICKLE not in key}
    # It could be followed: results were there before the last checkpoint.
    last = max(i for i, key in enumerate(server.written) if "/checkpoint_" in key)
    assert "runs/line/progress.csv" in server.written[:last]
    first = steps_of(run)
    assert len(first) == 3
    assert first[-1] >= 120

    assert_one_sentence(mnm("train", *task, "--output", run.name))
    # The last evaluation before it and the first after it are the two in a row that end a run.
    done = mnm("train", "--resume", run.name, "--steps", 400, "--stop-return", -1000)
    assert done.code == 0, done.err
    steps = steps_of(run)
    assert steps[:3] == first
    assert len(steps) == 4
    assert json.loads((run / "summary.json").read())["env_steps"] == steps[-1] >= 160
    assert not {name for name in server.names("runs/line") if "part-" in name}
    log = run / "transitions"
    rows = pq.read_table(log.path, filesystem=log.filesystem, partitioning=None)
    assert rows.num_rows == steps[-1]

    checkpoint = run / "checkpoint"
    done = mnm("evaluate", checkpoint.name, "--episodes", 1)
    assert done.code == 0, done.err
    file = tmp_path / "policy.safetensors"
    assert mnm("export", checkpoint.name, "--output", file).code == 0
    assert json.loads(mnm("evaluate", file, "--episodes", 1).out) == json.loads(done.out)


def test_bad_addresses_get_one_sentence(mnm: Mnm, run: Location) -> None:
    for option, name, sentence in (
        ("--output", "nowhere://bucket/run", "nowhere://bucket/run cannot be used"),
        ("--output", run.name.replace("bucket/runs/line", "bucket"), "is a whole bucket"),
        ("--resume", (run.parent / "none").name, "is not a run's folder: it has no run.json"),
        ("--resume", run.name.replace("bucket/runs", "nobucket/runs"), "run.json"),
    ):
        done = mnm("train", "--env", LINE, option, name)
        assert_one_sentence(done)
        assert sentence in done.err
        assert SECRET not in done.err
