"""Tests that each of the four algorithms trains, repeats bit for bit and tells all its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from distributed import telemetry_export
from distributed.telemetry import METRICS
from mnm import Settings, Transitions
from mnm.settings import ALGORITHMS
from tests.mnm.small_cases import assert_same_rows, same_tensors
from tests.rllib_ext.small_configs import evaluating, tiny_config
from tests.rllib_ext.whole_algorithms import built, check_result, replay_of, weights_of

FROM_ACTORS = {"mnm_worker_transitions"}  # has no figure: every worker has one


@dataclass
class Trained:
    """Two iterations of an algorithm, and what they left."""

    settings: Settings
    results: list[dict[str, Any]]
    weights: dict[str, torch.Tensor]
    rows: Transitions
    exported: dict[str, float]  # the last values of all metrics, by the names of their figures
    handed_over: dict[tuple[str, int], int]


def train(algo: str) -> Trained:
    config = evaluating(tiny_config(algo, seed=3, updates_to_data_ratio=0.5))
    with built(config) as made:
        results = [made.train() for _ in range(2)]
        exported = dict(made._reporting.telemetry._figures)
        handed_over = dict(made.coordinator.handed_over)
        return Trained(
            config.settings(), results, weights_of(made), replay_of(made), exported, handed_over
        )


@pytest.fixture(scope="module", params=ALGORITHMS)
def trained(local_ray: None, request: pytest.FixtureRequest) -> Iterator[Trained]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry_export, "INTERVAL_S", 0.0)
        yield train(request.param)


def test_it_trains_without_actors_and_repeats_bit_for_bit(trained: Trained) -> None:
    def returns(results: list[dict[str, Any]]) -> list[float]:
        keys = ("episode_return_mean", "episode_return_max", "episode_len_mean")
        return [
            part["env_runners"][key]
            for result in results
            for part in (result, result["evaluation"])
            for key in keys
        ]

    algo, result = trained.settings.algo, trained.results[-1]
    again = train(algo)
    check_result(result, ratio=0.5)
    assert returns(trained.results) == returns(again.results)
    assert same_tensors(trained.weights, again.weights)
    assert_same_rows(trained.rows, again.rows)
    assert (result["num_synthetic_transitions_lifetime"] > 0) == (algo != "sac")
    statistics = result["learners"]["default_policy"]
    assert ("model_holdout_rmse" in statistics) == (algo != "sac")
    assert ("classifier_accuracy" in statistics) == (algo in ("mnm", "mnm-approx"))


def test_every_metric_that_it_has_gets_a_value(trained: Trained) -> None:
    """Only what the table says, under the names that it says; the last value is the result's."""
    known = {name for name, value in trained.exported.items() if math.isfinite(value)}
    figures = {
        figure for metric in METRICS if metric.name not in FROM_ACTORS for figure in metric.series
    }
    expected = {"stopping_gradient_norm"}
    if not trained.settings.has_model:
        expected |= {"model_holdout_nll", "model_holdout_rmse", "model_fit_steps"}
        expected |= {"rollout_length", "replay_synthetic"}
    if not trained.settings.has_classifier:
        expected |= {figure for figure in figures if figure.startswith(("classifier_", "bound/"))}
    if trained.settings.algo != "mnm":
        expected |= {"model_objective", "model_gradient_norm"}
    assert figures - known == expected
    result = trained.results[-1]
    assert trained.exported["env_steps"] == result["num_env_steps_sampled_lifetime"]
    returned = result["evaluation"]["env_runners"]["episode_return_mean"]
    assert trained.exported["evaluation/episode_return_mean"] == returned
    assert trained.handed_over == {("collector", 0): result["num_env_steps_sampled_lifetime"]}


def test_every_figure_of_ours_in_a_result_is_explained(trained: Trained) -> None:
    """Ours at its top are those that are exported too."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
    result = trained.results[-1]
    ours = {name for name in trained.exported if name in result}
    ours |= set(result["learners"]["default_policy"])
    ours |= {
        f"bound/{name}" for name in result.get("bound", {}) if not name.endswith(("_low", "_high"))
    }
    assert len(ours) > 20
    assert not [name for name in ours if f"`{name}`" not in page]
