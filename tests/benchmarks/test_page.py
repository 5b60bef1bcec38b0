"""The page of the learning experiments: what it names for a task, compares and draws."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.learning import page
from benchmarks.learning.experiments import AS_TUNED, EXPERIMENTS, Experiment
from benchmarks.learning.figures import draw_returns, draw_theory
from benchmarks.learning.runs import runs_of
from benchmarks.learning.summary import groups
from mnm.settings import ALGORITHMS
from tests.benchmarks.small_experiment import table


def answer(tables: Path) -> str:
    """The row of the page's first table for the small experiment's task."""
    (row,) = (line for line in page.text(tables).splitlines()[:10] if "| Pendulum-v1 |" in line)
    return row


def test_an_experiments_reference_is_shown_beside_it_up_to_its_steps(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = replace(
        small,
        steps=200,
        seeds=(0,),
        variants={"less": {"mnm": {"rollouts_per_step": 1}}},
        references=("small",),
    )
    monkeypatch.setitem(EXPERIMENTS, "parts", parts)
    returns = {("mnm", 0): [-900, -150, -100], ("sac", 0): [-900, -500, -400]}
    content = table({**returns, ("mnm", 1): [-1, -1, -1]})
    content["bound_log_return"], content["bound_estimate"] = 2.0, 1.0
    content.to_csv(tmp_path / "small.csv", index=False)
    assert groups("parts", tmp_path) == []
    own = content[(content["algo"] == "mnm") & (content["seed"] == 0)].assign(
        variant="less", return_mean=-300.0
    )
    runs = runs_of("parts", seeds=(0,))
    assert [(run.plan.algo, run.variant) for run in runs] == [("mnm", "less")]
    own["settings"] = runs[0].digest
    own.to_csv(tmp_path / "parts.csv", index=False)
    found = groups("parts", tmp_path)
    assert [(group.algo, group.variant) for group in found] == [
        ("mnm", AS_TUNED),
        ("sac", AS_TUNED),
        ("mnm", "less"),
    ]
    assert [group.returns.tolist() for group in found] == [[-150], [-500], [-300]]
    assert all(group.finished for group in found)
    text = page.text(tmp_path)
    assert "Beside them stand the tuned runs of small, up to these steps." in text
    assert text.count("| Pendulum-v1 | mnm |") == 1  # the theory's table has it once
    draw_returns(found, tmp_path / "parts.png")
    content["bound_estimate"] = -1e30  # nothing is drawn so far off, and yet a figure
    content.to_csv(tmp_path / "small.csv", index=False)
    draw_theory(groups("small", tmp_path), tmp_path / "theory.png")
    assert (tmp_path / "theory.png").stat().st_size > 0


def test_runs_of_unequal_length_are_compared_at_the_steps_that_all_have_made(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {("mnm", seed): [-900, -300 - 10 * seed, -100] for seed in range(3)}
    returns |= {("sac", seed): [-800, -700 - 10 * seed] for seed in range(3)}
    returns["sac", 0] += [-1]
    table(returns, interval=102).to_csv(tmp_path / "small.csv", index=False)
    lines = page.text(tmp_path).splitlines()
    (heading,) = (line for line in lines if line.startswith("| Pendulum-v1 | runs"))
    assert "| return at 200 steps, IQM (95 %) |" in heading
    (mnm,) = (line for line in lines if line.startswith("| mnm | 3 |"))
    assert "| -310 (-320 to -300) |" in mnm
    (sac,) = (line for line in lines if line.startswith("| sac | 3, to 306, 204, 204 steps |"))
    assert "| -710 (-720 to -700) |" in sac


def test_the_page_names_what_solved_most_seeds_first_and_what_is_behind(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = {("mnm", seed): [-900, -180, -170] for seed in range(3)}
    returns |= {("sac", seed): [-900, -210 - 20 * seed, -100] for seed in range(3)}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    row = answer(tmp_path)
    named = "| Pendulum-v1 | `mnm train --env Pendulum-v1 --algo mnm --steps 300` | 3 of 3 | 200 |"
    assert row.startswith(named)
    assert row.endswith("|  | sac (3) |")
    assert "Hopper-v5 (not run)" in page.text(tmp_path)
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, tuned_as="Pendulum-v1"))
    monkeypatch.setitem(EXPERIMENTS, "usual", small)
    table(returns).to_csv(tmp_path / "usual.csv", index=False)
    usual, own = (line for line in page.text(tmp_path).splitlines()[:10] if " 3 of 3 " in line)
    assert "mnm train" in usual
    assert "make learn-small" in own


def test_of_algorithms_that_are_not_told_apart_the_page_names_the_one_that_computes_least(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {("mnm", seed): [-900, -180, -170] for seed in range(3)}
    returns |= {("sac", seed): [-900, -190 - 20 * seed, -100] for seed in range(3)}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    assert "--algo sac --steps 300` | 3 of 3 | 300 |" in answer(tmp_path)
    assert answer(tmp_path).endswith("| mnm (3) |  |")


def test_where_no_return_counts_as_solved_those_at_the_end_are_compared(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {("mnm", seed): [0.0, 0.0, 100.0 + 10 * seed] for seed in range(3)}
    returns |= {("sac", seed): [0.0, 0.0, 90.0 + 5 * seed] for seed in range(3)}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    mnm, sac = (replace(group, env="Reacher-v5") for group in groups("small", tmp_path))
    assert not sac.is_behind(mnm)  # to 100, and from 100
    sac.returns[2] = 99.0
    assert sac.is_behind(mnm)
    assert not mnm.is_behind(sac)


def test_a_run_that_did_not_solve_the_task_counts_as_one_that_did_after_its_end(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {("mnm", seed): [-900, -900, -170] for seed in range(3)}
    returns |= {("sac", seed): [-900, -900, -900] for seed in range(3)}
    table(returns, interval=102).to_csv(tmp_path / "small.csv", index=False)
    mnm, sac = groups("small", tmp_path)
    assert mnm.steps_to_solve().tolist() == [300, 300, 300]  # and not 306
    assert sac.steps_to_solve().tolist() == [400, 400, 400]
    assert answer(tmp_path).endswith("|  | sac (3) |")


def test_an_algorithm_that_solved_fewer_seeds_is_not_named_also_where_it_is_not_told_apart(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {("mnm", seed): [-900, -170, -170] for seed in range(2)}
    returns |= {("sac", seed): [-900, -900, -900] for seed in range(3)}
    returns["mnm", 2] = [-900, -900, -900]
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    assert "--algo mnm --steps 300` | 2 of 3 |" in answer(tmp_path)
    assert answer(tmp_path).endswith("| sac (3) |  |")


def test_behind_and_not_told_apart_are_meant_of_the_named_algorithm(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "small", replace(small, algos=ALGORITHMS, steps=500))

    def solved_at(*steps: int) -> list[list[float]]:
        return [[-900.0] * (at // 100 - 1) + [-150.0] * (6 - at // 100) for at in steps]

    runs = {
        "mnm": solved_at(100, 100, 100),
        "sac": solved_at(200, 300, 300),  # behind mnm
        "mbpo": solved_at(100, 200, 200),  # not told from mnm, nor from sac and mnm-approx
        "mnm-approx": solved_at(200, 200, 300),  # behind mnm
    }
    returns = {(algo, seed): run for algo, own in runs.items() for seed, run in enumerate(own)}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    assert "--algo mbpo" in answer(tmp_path)
    assert answer(tmp_path).endswith("| mnm (3), mnm-approx (3), sac (3) |  |")
    returns |= {("sac", seed): run for seed, run in enumerate(solved_at(300, 300, 400))}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    assert answer(tmp_path).endswith("| mnm (3), mnm-approx (3) | sac (3) |")


def test_the_page_names_nothing_where_no_seed_solved_the_task(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {(algo, seed): [-900.0] * 3 for algo in ("mnm", "sac") for seed in range(3)}
    table(returns).to_csv(tmp_path / "small.csv", index=False)
    row = "| Pendulum-v1 | none of mnm (3), sac (3) | 0 of 3 | – | -900 (-900 to -900) |  |  |"
    assert answer(tmp_path) == row


def test_the_page_compares_whole_runs_of_three_seeds_or_more(
    small: Experiment, tmp_path: Path
) -> None:
    returns = {(algo, seed): [-900, -180, -170] for algo in ("mnm", "sac") for seed in range(3)}
    one_less = {key: value for key, value in returns.items() if key != ("mnm", 2)}
    table(one_less).to_csv(tmp_path / "small.csv", index=False)
    assert "--algo sac" in answer(tmp_path)
    assert answer(tmp_path).endswith("|  |  |")
    for of_too_little in (
        {key: value for key, value in returns.items() if key[1] < 2},
        {key: value[:2] for key, value in returns.items()},
    ):
        table(of_too_little).to_csv(tmp_path / "small.csv", index=False)
        assert "| Pendulum-v1 | `mnm train" not in page.text(tmp_path)
        assert "Pendulum-v1 (runs: mnm " in page.text(tmp_path)


def test_the_page_shows_the_course_of_gap_and_optimism(small: Experiment, tmp_path: Path) -> None:
    content = table({("mnm", 0): [-900, -150, -300], ("mnm", 1): [-900, -500, -400]})
    content["bound_log_return"] = [1.0, 2.0, 3.0] * 2
    content["bound_estimate"] = [math.nan, 1.5, 1.0, math.nan, 0.5, 2.5]
    content["model_optimism"] = [math.nan, 0.25, -0.5] * 2
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert group.figure("bound_gap").to_dict() == {200: 1.0, 300: 1.25}
    row = "| Pendulum-v1 | mnm | +1, +1, +1.25 | +0.25, +0.25, -0.5 |  |  |"
    assert row in page.text(tmp_path).splitlines()


def test_figures_at_the_end_are_of_every_run_also_one_that_ended_before_the_others(
    small: Experiment, tmp_path: Path
) -> None:
    content = table({("mnm", 0): [-900, -150, -300], ("mnm", 1): [-900, -500]})
    content["bound_log_return"], content["bound_estimate"] = 8.0, [7.0, 6.0, 5.0, 8.0, 7.0]
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert group.last_median("bound_gap") == 2.0
    assert group.course("bound_gap") == (0.5, 1.0, 2.0)
    assert group.course("model_optimism") == ()


def test_what_tells_the_return_is_compared_at_the_evaluations_that_have_both_figures(
    small: Experiment, tmp_path: Path
) -> None:
    rising = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    content = table({("mnm", seed): rising for seed in range(3)}, interval=40)
    content["bound_estimate"] = [math.nan, *rising[1:]] * 3
    content["model_holdout_nll"] = [-9.0, *(-value for value in rising[1:])] * 3
    content.loc[content["seed"] == 2, "model_holdout_nll"] *= -1.0
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert group.correlation("bound_estimate") == (1.0, 3)
    assert group.correlation("model_holdout_nll") == (-1.0, 3)  # the median of -1, -1 and 1
    content.loc[content["seed"] == 0, "return_mean"] = 0.0  # nothing to tell
    content.to_csv(tmp_path / "small.csv", index=False)
    (group,) = groups("small", tmp_path)
    assert group.correlation("bound_estimate") == (1.0, 2)
    assert group.correlation("model_holdout_nll") == (0.0, 2)


def test_notes_written_by_hand_stand_below_their_table(small: Experiment, tmp_path: Path) -> None:
    table({("sac", 0): [-900, -150, -300]}).to_csv(tmp_path / "small.csv", index=False)
    (tmp_path / page.NOTES).mkdir()
    (tmp_path / page.NOTES / "small.md").write_text("It does.\n")
    section = page.text(tmp_path).partition("## small")[2].partition("\n## ")[0]
    assert section.strip().endswith("It does.")
    (tmp_path / page.NOTES / "findings.md").write_text("It did not.\n")
    assert page.text(tmp_path).endswith("## What held the returns back\n\nIt did not.\n")


def test_the_page_is_the_one_that_its_tables_make() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()


def test_figures_are_the_same_each_time(small: Experiment, tmp_path: Path) -> None:
    table({("mnm", 0): [-900, -150], ("mnm", 1): [-900, -500, -400]}).to_csv(
        tmp_path / "small.csv", index=False
    )
    found = groups("small", tmp_path)
    for name in ("a.png", "b.png"):
        draw_returns(found, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_was_not_run_is_named_with_its_task(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = replace(small, envs=("Pendulum-v1", "Reacher-v5"))
    monkeypatch.setitem(EXPERIMENTS, "small", two)
    (run,) = runs_of("small", seeds=(0,), only="Pendulum-v1/mnm/")
    content = table({("mnm", 0): [-900, -500, -400]})
    content.assign(settings=run.digest).to_csv(tmp_path / "small.csv", index=False)
    assert "\n\nNot run: sac, mnm on Reacher-v5.\n" in page.text(tmp_path)
