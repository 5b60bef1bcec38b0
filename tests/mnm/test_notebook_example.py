"""Tests that the example for a notebook runs as it stands, at a small size."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "notebook_example.py"
SMALL: dict[str, Any] = {
    "num_random_steps": 60,
    "updates_to_data_ratio": 0.5,
    "hidden_sizes": (16,),
    "dynamics_hidden_sizes": (16, 16, 16),
    "dynamics_max_fit_steps": 50,
    "classifier_hidden_sizes": (16,),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date.*")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("notebook_example", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_example_trains(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    agents: list[Any] = []

    class RecordedAgent(example.Agent):  # type: ignore[name-defined,misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            agents.append(self)

    monkeypatch.setattr(example, "Agent", RecordedAgent)
    returns = example.train(steps=100, **SMALL)
    assert len(returns) > 2
    assert all(reward >= 0 for reward in returns)
    # InvertedPendulum pays 1 a step and 0 at the fall, so the rows add up to the steps.
    assert sum(returns) + len(returns) - 1 == 100
    (agent,) = agents
    assert (agent.settings.algo, agent.env_steps, agent.updates) == ("mnm", 100, 20)
    rows = agent.replay.transitions()
    assert rows.episode_ids[0] == 1
    assert rows.episode_ids[-1] in (len(returns) - 1, len(returns))
    ends = rows.terminateds | rows.truncateds
    assert ends.sum() == len(returns) - 1
    assert (rows.steps[1:][ends[:-1]] == 0).all()
    assert (rows.steps[1:][~ends[:-1]] == rows.steps[:-1][~ends[:-1]] + 1).all()


def test_example_repeats_with_its_seed(example: ModuleType) -> None:
    first, again, other = (example.train(steps=90, seed=seed, **SMALL) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_example_is_short_and_needs_no_ray() -> None:
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) < 60
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert imported == {"gymnasium", "mnm"}
