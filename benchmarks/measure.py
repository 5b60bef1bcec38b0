"""Timing by alternation: medians of repeats, the sides taking turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        name: what was measured.
        unit: of the figures.
        ours: median.
        peer: the other side's median, or None.
        peer_name: who that is, or None.
        ratio: ours / peer, or None.
        limit: what the machine's arithmetic would allow, or None.
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


def compare(
    name: str,
    unit: str,
    ours: Callable[[], int],
    peer: Callable[[], int] | None = None,
    peer_name: str | None = None,
    limit: float | None = None,
    repeats: int = REPEATS,
) -> Row:
    """Measures both sides in turns, after one call of each to warm up."""
    own_rates, peer_rates = [], []
    ours()
    if peer is not None:
        peer()
    for _ in range(repeats):
        own_rates.append(rate(ours))
        if peer is not None:
            peer_rates.append(rate(peer))
    median = statistics.median(own_rates)
    other = statistics.median(peer_rates) if peer_rates else None
    return Row(
        name=name,
        unit=unit,
        ours=median,
        peer=other,
        peer_name=peer_name if other is not None else None,
        ratio=median / other if other else None,
        limit=limit,
        limit_share=median / limit if limit else None,
        spread=(max(own_rates) - min(own_rates)) / median,
    )
