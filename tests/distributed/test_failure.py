"""Tests of how seldom dead actors are asked whether they are back."""

from __future__ import annotations

import pytest

from distributed import failure
from distributed.failure import Seldom


def test_it_says_yes_at_once_and_then_after_each_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(failure.time, "monotonic", lambda: now)
    seldom = Seldom(2.0)
    answers = []
    for now in (100.0, 100.1, 101.9, 102.0, 103.9, 110.0, 111.9, 112.0):  # noqa: B007
        answers.append(seldom())
    assert answers == [True, False, False, True, False, True, False, True]
