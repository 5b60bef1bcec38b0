"""Fixtures of the learning experiments' tests."""

from __future__ import annotations

import pytest

from benchmarks.learning.experiments import EXPERIMENTS, Experiment
from tests.benchmarks.small_experiment import SMALL


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setitem(EXPERIMENTS, "small", SMALL)
    return SMALL
