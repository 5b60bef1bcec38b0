"""The alternation, the medians and the ratios of the benchmarks; no time is asserted."""

from __future__ import annotations

import pytest

from benchmarks.measure import Row, alternate, compare, summarise

COLUMNS = ["name", "unit", "ours", "peer", "peer_name", "ratio", "limit", "limit_share", "spread"]


def test_a_row_has_the_columns_of_the_results_file():
    row = summarise("suite: thing", "rows/s", [1.0])
    assert list(row.to_dict()) == COLUMNS


def test_the_sides_take_turns():
    calls = []
    results = alternate({"a": lambda: calls.append("a") or 1, "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 3
    assert results == {"a": [1] * 3, "b": [None] * 3}


def test_both_sides_are_warmed_up_and_then_take_turns():
    calls: list[str] = []

    def side(name: str) -> int:
        calls.append(name)
        return 1

    def figure(work) -> float:
        calls.append("measured")
        return float(work())

    compare("s: n", "u", lambda: side("ours"), lambda: side("peer"), "p", repeats=2, figure=figure)
    assert calls == ["ours", "peer"] + ["measured", "ours", "measured", "peer"] * 2


def test_medians_ratio_share_and_spread():
    row = summarise("s: n", "u", [3.0, 1.0, 2.0], [10.0, 4.0, 1.0], "peer", limit=8.0)
    assert row == Row("s: n", "u", 2.0, 4.0, "peer", 0.5, 8.0, 0.25, 1.0)


def test_what_does_not_apply_is_none():
    row = summarise("s: n", "u", [2.0], (), "nobody")
    assert (row.peer, row.peer_name, row.ratio, row.limit, row.limit_share) == (None,) * 5


@pytest.mark.parametrize("figures", [[0.0], [0.0, 0.0]])
def test_a_median_of_zero_has_no_spread(figures):
    assert summarise("s: n", "MB", figures).spread == 0.0
