"""Tests of the nodes on which runs are placed, on Ray's test cluster of several nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.cluster.commands import ROOT

STORE = 80_000_000
GPU_NODES, CPU_NODES = {"mark-gpu-1", "mark-gpu-2"}, {"mark-cpu-1", "mark-cpu-2"}
SHARED_GPU = {"num_gpus": 0.5, "num_gpus_per_rollout_worker": 0.1, "num_rollout_workers": 2}
RUNS: list[dict[str, Any]] = [
    {"placement": "roles", "num_env_runners": 4, **SHARED_GPU},
    {"placement": "roles", "num_env_runners": 4, "num_gpus": 1, "num_rollout_workers": 2},
    {"placement": "spread", "num_env_runners": 3, **SHARED_GPU},
    {"placement": "pack", "num_env_runners": 2, **SHARED_GPU},
    {"placement": "roles", "num_env_runners": 5, **SHARED_GPU},
]


@pytest.fixture(scope="module")
def placed() -> list[Any]:
    """Where the bundles of `RUNS` are: who sits in each, and the mark of its node.

    A head for nobody, two nodes with a GPU on paper and two without. The runs are asked for by a
    process of its own: this one may be in another Ray.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE,
                "include_dashboard": False,
            },
        )
        try:
            for mark in sorted(GPU_NODES):
                cluster.add_node(
                    num_cpus=3,
                    num_gpus=1,
                    resources={"learner": 1, mark: 1},
                    object_store_memory=STORE,
                )
            for mark in sorted(CPU_NODES):
                cluster.add_node(
                    num_cpus=3,
                    resources={"collector": 2, "rollout_worker": 2, mark: 1},
                    object_store_memory=STORE,
                )
            words = [cluster.address, *map(json.dumps, RUNS)]
            done = subprocess.run(
                [sys.executable, "-m", "tests.hosts.placed_groups", *words],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=120,
            )
        finally:
            cluster.shutdown()
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def marks_of(pairs: list[tuple[str, list[str]]], kind: str) -> list[str]:
    return sorted(mark for who, marks in pairs for mark in marks if who == kind)


def test_each_kind_of_actor_is_on_the_nodes_of_its_role(placed: list[Any]) -> None:
    # The runs fill the two nodes: with room to spare Ray only prefers to spread, and may not.
    for pairs in placed[:2]:
        assert set(marks_of(pairs, "driver")) <= GPU_NODES
        assert marks_of(pairs, "environment runner") == sorted([*CPU_NODES, *CPU_NODES])
    assert set(marks_of(placed[1], "learner")) <= GPU_NODES
    assert marks_of(placed[1], "rollout worker") == sorted(CPU_NODES)


def test_workers_with_a_part_of_a_gpu_are_on_the_learners_node(placed: list[Any]) -> None:
    for pairs in (placed[0], placed[2], placed[3]):
        (mark,) = marks_of(pairs, "learner with 2 rollout workers")
        assert mark in GPU_NODES
        assert not marks_of(pairs, "rollout worker")


def test_actors_are_spread_over_many_nodes_or_packed_on_few(placed: list[Any]) -> None:
    spread, packed = ({mark for _, marks in pairs for mark in marks} for pairs in placed[2:4])
    assert len(spread) == 4
    assert len(packed) == 2


def test_what_finds_no_place_waits(placed: list[Any]) -> None:
    assert placed[4] is None
