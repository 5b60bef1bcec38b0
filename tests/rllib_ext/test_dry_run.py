"""Tests of what --dry-run says: which bundles find a place, and in which words."""

from __future__ import annotations

import pytest
import ray
from ray.tune.execution.placement_groups import PlacementGroupFactory

from rllib_ext.dry_run import describe, placement_report, unplaced

CPU = {"CPU": 1.0}
LEARNER = {"CPU": 1.0, "GPU": 1.0}
GPU_NODE = {"CPU": 4.0, "GPU": 1.0, "memory": 1e9, "node:10.0.0.1": 1.0}


def test_bundles_fill_nodes_but_are_not_cut() -> None:
    two = {"CPU": 2.0}
    assert unplaced([CPU] * 4, [two, two]) == []
    assert unplaced([CPU] * 5, [two, two]) == [CPU]
    assert unplaced([{"CPU": 3.0}], [two, two]) == [{"CPU": 3.0}]


def test_what_needs_a_gpu_finds_it_whatever_the_order() -> None:
    nodes = [GPU_NODE, {"CPU": 4.0}]
    assert unplaced([CPU] * 7 + [LEARNER], nodes) == []
    assert unplaced([CPU] * 8 + [LEARNER], nodes) == [CPU]
    assert unplaced([LEARNER, LEARNER], nodes) == [LEARNER]


def test_parts_of_a_gpu_share_it() -> None:
    half = {"CPU": 1.0, "GPU": 0.5}
    assert unplaced([half] * 3, [GPU_NODE]) == [half]


def test_a_bundle_of_nothing_fits_anywhere() -> None:
    assert unplaced([{"CPU": 0.0}], [{}]) == []


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (LEARNER, "1 CPU, 1 GPU"),
        ({"CPU": 2.0, "GPU": 0.5, "collector": 3.0}, "2 CPUs, 0.5 GPUs, 3 collectors"),
        (GPU_NODE, "4 CPUs, 1 GPU"),
    ],
)
def test_resources_in_words(resources: dict[str, float], words: str) -> None:
    assert describe(resources) == words


@pytest.mark.usefixtures("local_ray")
def test_the_report_names_what_finds_no_place() -> None:
    cpus = ray.cluster_resources()["CPU"]
    lines, fits = placement_report(PlacementGroupFactory([CPU, CPU]))
    assert fits
    assert lines[0] == "The run asks for 2 CPUs:"
    assert lines[1] == "  2 x 1 CPU"
    assert f"The cluster has {cpus:g} CPUs" in lines[2]
    assert lines[-1] == "It fits."
    lines, fits = placement_report(PlacementGroupFactory([LEARNER] + [CPU] * int(cpus + 1)))
    assert not fits
    assert "no place for" in lines[-1]
    assert "1 x 1 CPU, 1 GPU" in lines[-1]
    assert "1 x 1 CPU" in lines[-1]
