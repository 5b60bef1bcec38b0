"""Tests of where actors go, by a whole run on Ray's test cluster of several nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.cluster.commands import LINE, ROOT

STORE = 80_000_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head for nobody, a node with a GPU on paper, and two nodes for those who collect."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("OMP_NUM_THREADS", "1")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE,
                "include_dashboard": False,
                "node_ip_address": "127.0.0.1",
            },
        )
        cluster.add_node(
            num_cpus=2, num_gpus=1, resources={"learner": 1}, object_store_memory=STORE
        )
        for name in ("first", "second"):
            cluster.add_node(
                num_cpus=2, resources={"collector": 2, name: 1}, object_store_memory=STORE
            )
        yield cluster
        cluster.shutdown()


def run(cluster: Cluster, *words: object) -> subprocess.CompletedProcess[str]:
    """A run in a process of its own: this one may be in another Ray."""
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster.placed_run", cluster.address, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_each_kind_of_actor_is_on_the_nodes_of_its_role(
    cluster: Cluster, tiny: Path, tmp_path: Path
) -> None:
    words = ("train", "--env", LINE, "--config", tiny, "--output", tmp_path / "run")
    placed = ("--placement", "roles", "--num-env-runners", 2, "--num-gpus-per-rollout-worker", 0.1)
    done = run(cluster, *words, "--steps", 40, "--evaluation-interval", 40, *placed)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'run'} must be on a disk that all 4 nodes share" in done.stderr
    assert "There is no place" not in done.stderr
    actors = [(kind, set(marks)) for kind, marks in json.loads(done.stdout.splitlines()[-1])]
    learner_node = {"GPU", "learner"}
    assert ("MnM", learner_node) in actors
    assert ("RolloutWorker", learner_node) in actors
    assert ("RayTrainWorker", learner_node) in actors or ("MnMLearner", learner_node) in actors
    runners = sorted(str(sorted(marks)) for kind, marks in actors if kind == "MnMEnvRunner")
    assert runners == ["['collector', 'first']", "['collector', 'second']"]
