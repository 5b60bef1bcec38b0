"""Tests of what a run is said to ask for and to lack: who finds no place, and in which words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.util.placement_group import placement_group, remove_placement_group

from rllib_ext import room
from rllib_ext.dry_run import placement_report
from rllib_ext.room import RoomWatch, describe, lacking, unplaced

CPU = {"CPU": 1.0}
LEARNER = {"CPU": 1.0, "GPU": 1.0}
RUNNER = {"CPU": 1.0, "collector": 1.0}
GPU_NODE = {"CPU": 4.0, "GPU": 1.0, "memory": 1e9, "node:10.0.0.1": 1.0}


def test_bundles_fill_nodes_but_are_not_cut() -> None:
    two = {"CPU": 2.0}
    assert unplaced([CPU] * 4, [two, two]) == []
    assert unplaced([CPU] * 5, [two, two]) == [4]
    assert unplaced([{"CPU": 3.0}], [two, two]) == [0]


def test_what_needs_a_gpu_finds_it_whatever_the_order() -> None:
    nodes = [GPU_NODE, {"CPU": 4.0}]
    assert unplaced([CPU] * 7 + [LEARNER], nodes) == []
    assert unplaced([CPU] * 8 + [LEARNER], nodes) == [7]
    assert unplaced([LEARNER, LEARNER], nodes) == [1]


def test_parts_of_a_gpu_share_it() -> None:
    half = {"CPU": 1.0, "GPU": 0.5}
    assert unplaced([half] * 3, [GPU_NODE]) == [2]


def test_a_bundle_of_nothing_fits_anywhere() -> None:
    assert unplaced([{"CPU": 0.0}], [{}]) == []


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (LEARNER, "1 CPU, 1 GPU"),
        ({"CPU": 2.0, "GPU": 0.5, "collector": 3.0}, "2 CPUs, 0.5 GPUs, 3 collector"),
        (GPU_NODE, "4 CPUs, 1 GPU"),
    ],
)
def test_resources_in_words(resources: dict[str, float], words: str) -> None:
    assert describe(resources) == words


@pytest.mark.parametrize(
    ("bundles", "nodes", "sentence"),
    [
        (
            [CPU, RUNNER, RUNNER, LEARNER],
            [{"CPU": 4.0}],
            "There is no place for 2 environment runners (1 CPU, 1 collector), the learner (1 CPU, "
            "1 GPU): no node has 1 GPU; no node has 1 collector.",
        ),
        (
            [CPU, RUNNER, RUNNER, LEARNER],
            [GPU_NODE, {"CPU": 9.0, "collector": 1.0}],
            "There is no place for 1 of 2 environment runners (1 CPU, 1 collector): of 2 collector "
            "the nodes have 1.",
        ),
        (
            [CPU, RUNNER, RUNNER, LEARNER],
            [GPU_NODE, {"CPU": 1.0, "collector": 1.0}, {"CPU": 1.0}, {"collector": 1.0}],
            "There is no place for 1 of 2 environment runners (1 CPU, 1 collector): no node has "
            "all of it together.",
        ),
        ([CPU, RUNNER, RUNNER, LEARNER], [GPU_NODE, {"CPU": 2.0, "collector": 2.0}], None),
        ([CPU] * 4, [], "the driver (1 CPU)"),
    ],
)
def test_what_is_lacking_is_said_in_one_sentence(
    bundles: list[Any], nodes: list[Any], sentence: str | None
) -> None:
    kinds = ["driver", "environment runner", "environment runner", "learner"]
    said = lacking(bundles, kinds, nodes)
    if sentence is None:
        assert said is None
    else:
        assert said is not None
        assert sentence in said
        assert "\n" not in said


@pytest.mark.usefixtures("local_ray")
def test_the_report_names_who_finds_no_place() -> None:
    cpus = ray.cluster_resources()["CPU"]
    kinds = ["driver", "learner"]
    lines, fits = placement_report(PlacementGroupFactory([CPU, CPU]), kinds)
    assert fits
    assert lines[0] == "The run asks for 2 CPUs (PACK):"
    assert lines[1:3] == ["  1 x driver: 1 CPU", "  1 x learner: 1 CPU"]
    assert f"The cluster has {cpus:g} CPUs" in lines[3]
    assert lines[-1] == "It fits."
    runners = ["environment runner"] * int(cpus)
    request = PlacementGroupFactory([CPU, LEARNER] + [CPU] * int(cpus))
    lines, fits = placement_report(request, kinds + runners)
    assert not fits
    assert "the learner (1 CPU, 1 GPU)" in lines[-1]
    assert f"1 of {cpus:g} environment runners (1 CPU)" in lines[-1]


@pytest.mark.usefixtures("local_ray")
def test_a_run_that_waits_says_what_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = PlacementGroupFactory([CPU, LEARNER])
    watch = RoomWatch(request, ["driver", "learner"])
    watch.setup()
    said = capsys.readouterr().err
    assert said.startswith("mnm: There is no place for the learner (1 CPU, 1 GPU): no node has")
    assert said.endswith("until the cluster grows.\n")
    group = request.to_placement_group()
    clock = SimpleNamespace(monotonic=lambda: 1e12)
    try:
        watch.on_step_end(1, [])
        assert capsys.readouterr().err == "", "a short wait is nothing to talk about"
        monkeypatch.setattr(room, "time", clock)
        watch.on_step_end(2, [])
        assert "still waits: There is no place for the learner" in capsys.readouterr().err
        watch.on_step_end(3, [])
        assert capsys.readouterr().err == "", "it says so from time to time"
    finally:
        remove_placement_group(group)


@pytest.mark.usefixtures("local_ray")
def test_a_run_waits_for_what_others_hold_and_then_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = PlacementGroupFactory([{"CPU": ray.cluster_resources()["CPU"]}])
    watch = RoomWatch(request, ["driver"])
    watch.setup()
    others = placement_group([CPU])
    ray.get(others.ready())
    group = request.to_placement_group()
    try:
        monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: 1e12))
        watch.on_step_end(1, [])
        assert "of what the nodes have" in capsys.readouterr().err
        remove_placement_group(others)
        assert group.wait(30)
        monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: 1e15))
        watch.on_step_end(2, [])
        assert capsys.readouterr().err == ""
    finally:
        remove_placement_group(group)
