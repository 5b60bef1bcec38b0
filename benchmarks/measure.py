"""Timing by alternation: medians of repeats, the sides taking turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

REPEATS = 5

Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        name: the suite, a colon, and what was measured.
        unit: of the figures; says so where less is better.
        ours: median.
        peer: the other side's median, or None.
        peer_name: who that is, or None.
        ratio: ours / peer, or None.
        limit: what the machine's arithmetic or the environment's pace would allow, or None.
        limit_share: ours / limit, or None.
        spread: (largest - smallest) / median of ours over the repeats.
    """

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str | None
    ratio: float | None
    limit: float | None
    limit_share: float | None
    spread: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def rate(work: Callable[[], int]) -> float:
    """Units of work a second of one call; `work` returns how many it did."""
    start = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - start)


def milliseconds(work: Callable[[], int]) -> float:
    """Milliseconds a unit of work of one call; less is better."""
    return 1000 / rate(work)


def alternate(
    sides: Mapping[str, Callable[[], Result]], repeats: int = REPEATS
) -> dict[str, list[Result]]:
    """What each side returned, the sides taking turns: every one once, then all over again."""
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            results[name].append(side())
    return results


def summarise(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float] = (),
    peer_name: str | None = None,
    limit: float | None = None,
) -> Row:
    """The row of one comparison from the figures of both sides' repeats.

    Args:
        name: the suite, a colon, and what was measured.
        unit: of the figures.
        ours: one figure a repeat.
        peer: the other side's; none where there is no other side.
        peer_name: who that is.
        limit: what the machine's arithmetic or the environment's pace would allow.
    """
    median = statistics.median(ours)
    other = statistics.median(peer) if peer else None
    return Row(
        name=name,
        unit=unit,
        ours=median,
        peer=other,
        peer_name=peer_name if other is not None else None,
        ratio=median / other if other else None,
        limit=limit,
        limit_share=median / limit if limit else None,
        spread=(max(ours) - min(ours)) / median if median else 0.0,
    )


def compare(
    name: str,
    unit: str,
    ours: Callable[[], int],
    peer: Callable[[], int] | None = None,
    peer_name: str | None = None,
    limit: float | None = None,
    repeats: int = REPEATS,
    figure: Callable[[Callable[[], int]], float] = rate,
) -> Row:
    """Measures both sides in turns, after one call of each to warm up.

    Args:
        name: the suite, a colon, and what was measured.
        unit: of the figures.
        ours: does some work and returns how much.
        peer: the other side's work.
        peer_name: who that is.
        limit: what the machine's arithmetic or the environment's pace would allow.
        repeats: of each side.
        figure: what is taken of one call, `rate` or `milliseconds`.
    """
    works = {"ours": ours} if peer is None else {"ours": ours, "peer": peer}
    for work in works.values():
        work()
    figures = alternate({side: partial(figure, work) for side, work in works.items()}, repeats)
    return summarise(name, unit, figures["ours"], figures.get("peer", ()), peer_name, limit)
