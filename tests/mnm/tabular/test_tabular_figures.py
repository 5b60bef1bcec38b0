"""The command that draws: every figure appears, and every plotted number is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mnm.tabular import beyond, experiments
from mnm.tabular.beyond import policy_with_entropy
from mnm.tabular.commands import EXPERIMENTS, figures

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(figures)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def short_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "LEARNING_ITERATIONS", 41)
    monkeypatch.setattr(beyond, "RANDOM_MDPS", 5)


@pytest.mark.usefixtures("short_learning")
def test_all_figures_are_drawn_and_all_numbers_written(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    result = run("--out", tmp_path / "new" / "folder", "--seeds", 2)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "new" / "folder"
    numbers = json.loads((folder / "figures.json").read_text())
    assert list(numbers) == list(EXPERIMENTS)
    for name in EXPERIMENTS:
        picture = (folder / f"{name}.png").read_bytes()
        assert picture.startswith(PNG)
        assert len(picture) > 10_000
    assert np.shape(numbers["learning"]["returns"]["mnm"]) == (2, 3)
    assert np.shape(numbers["initial-values"]["optimistic"]["returns"]["vmbpo"]) == (2, 3)
    assert "9 figures" in result.output


def test_only_replaces_its_own_entry(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text('{"learning": {"kept": 1}, "risk": {"old": 2}}')
    result = run("--out", tmp_path, "--only", "risk", "--only", "bound")
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "figures.json").read_text())
    assert numbers["learning"] == {"kept": 1}
    assert numbers["risk"]["final_true_value"]["vmbpo"] == pytest.approx(320.345, abs=5e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bound.png",
        "figures.json",
        "risk.png",
    ]


def test_equal_numbers_give_equal_files(run: Callable[..., Any], tmp_path: Path) -> None:
    for folder in ("first", "second"):
        assert run("--out", tmp_path / folder, "--only", "risk").exit_code == 0
    for file in ("risk.png", "figures.json"):
        first = (tmp_path / "first" / file).read_bytes()
        assert first == (tmp_path / "second" / file).read_bytes()


def test_unknown_figure_is_refused_with_the_list_of_names(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    result = run("--out", tmp_path / "never", "--only", "mona-lisa")
    assert result.exit_code == 2
    assert "mona-lisa" in result.output
    assert "tight-bound" in result.output
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("content", ["{not json", "[1, 2]"])
def test_a_foreign_numbers_file_is_left_alone(
    run: Callable[..., Any], tmp_path: Path, content: str
) -> None:
    (tmp_path / "figures.json").write_text(content)
    result = run("--out", tmp_path, "--only", "risk")
    assert result.exit_code == 2
    assert (tmp_path / "figures.json").read_text() == content
    assert not (tmp_path / "risk.png").exists()


def test_tight_figure_shows_a_gap_of_rounding_error_only() -> None:
    gaps = beyond.tight_bound(1, lambda done: None)["gap"]
    assert np.abs(gaps["tight"]).max() < 1e-9
    for name in ("fixed_weight_one", "fixed_weight_gamma"):
        assert min(gaps[name]) > 1e-5
    ordered = [np.array(gaps[name]) for name in ("time_marginal", "fixed_weight_gamma")]
    assert (ordered[0] <= ordered[1] + 1e-9).all()
    assert (np.array(gaps["fixed_weight_gamma"]) <= np.array(gaps["fixed_weight_one"])).all()


def test_coefficient_figure_has_every_point_on_the_right_side() -> None:
    data = beyond.coefficient(1, lambda done: None)
    scatter = data["random_models"]
    assert len(scatter["gap_one"]) == 600
    assert (np.array(scatter["gap_gamma"]) <= np.array(scatter["gap_one"]) + 1e-12).all()
    assert min(scatter["gap_gamma"]) > 0
    best = data["best_models"]
    assert (np.array(best["gap_gamma"]) < np.array(best["gap_one"])).all()


def test_entropy_figure_starts_at_zero_and_the_fixed_point_is_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beyond, "RANDOM_MDPS", 20)
    gap = beyond.entropy_gap(1, lambda done: None)["gap"]
    for kind in ("random", "boltzmann"):
        assert gap[kind]["tightest"]["largest"][0] < 1e-9
        fixed_point = np.array(gap[kind]["tightest"]["mean"])
        assert (fixed_point <= np.array(gap[kind]["from_values"]["mean"]) + 1e-12).all()
        assert (fixed_point <= np.array(gap[kind]["fixed"]["mean"])).all()
        assert fixed_point[-1] > 0.05
    # At the same entropy a policy that follows the values leaves far less open.
    middle = len(gap["random"]["tightest"]["mean"]) // 2
    known, unknown = (gap[kind]["tightest"]["mean"][middle] for kind in ("boltzmann", "random"))
    assert known < unknown / 5


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_policy_with_entropy_has_it_and_prefers_high_scores(fraction: float) -> None:
    scores = np.random.default_rng(3).normal(size=(5, 4)) * 100
    policy = policy_with_entropy(scores, fraction * np.log(4))
    entropy = -(policy * np.log(np.where(policy > 0, policy, 1.0))).sum(axis=1).mean()
    assert entropy == pytest.approx(fraction * np.log(4), abs=1e-6)
    if fraction < 1:
        np.testing.assert_array_equal(policy.argmax(axis=1), scores.argmax(axis=1))
