"""What a picture of the bound shows where an estimate is far from the log return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

FAR_OFF = 1e4  # nats from any log return: beyond, as after a model that diverges, nothing is drawn


@dataclass(frozen=True)
class BoundView:
    """The vertical axis of a picture that one diverged estimate must not flatten.

    Attributes:
        limits: of the axis, in nats; None: nothing is far off, and it is left as it is.
        note: how many estimates are not shown; empty where all are.
    """

    limits: tuple[float, float] | None = None
    note: str = ""

    @staticmethod
    def of(log_returns: ArrayLike, estimates: ArrayLike, ends: ArrayLike) -> BoundView:
        """A view of the log returns and of what is within `FAR_OFF` of them.

        Args:
            log_returns: with the ends of their intervals.
            estimates: of the bound; NaN where there is none.
            ends: of the estimates' intervals.
        """
        known = np.ravel(np.asarray(log_returns, np.float64))
        known = known[np.isfinite(known)]
        if not known.size:
            return BoundView()
        values, near = _near(estimates, known)
        all_ends, near_ends = _near(ends, known)
        hidden = len(values) - len(near)
        if not hidden and len(near_ends) == len(all_ends):
            return BoundView()
        shown = np.concatenate([known, near, near_ends])
        margin = 0.05 * max(float(np.ptp(shown)), 1.0)
        limits = float(shown.min()) - margin, float(shown.max()) + margin
        noun, verb = ("estimate", "is") if hidden == 1 else ("estimates", "are")
        note = f"{hidden} {noun} beyond {FAR_OFF:,.0f} nats of the log return {verb} not shown"
        return BoundView(limits, note if hidden else "")

    def within(self, values: ArrayLike) -> np.ndarray:
        """Values to draw: what is beyond the axis just outside, as nothing can draw 1e17."""
        plain = np.asarray(values, np.float64)
        if self.limits is None:
            return plain
        low, high = self.limits
        return np.clip(plain, low - (high - low), high + (high - low))

    def apply(self, axes: Axes) -> None:
        """Sets the vertical axis, and says below the horizontal one what is not shown."""
        if self.limits is not None:
            axes.set_ylim(self.limits)
        if self.note:
            axes.set_xlabel(f"{axes.get_xlabel()}\n({self.note})")


def _near(values: ArrayLike, log_returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All values but NaN, and those of them that are near the log returns."""
    known = np.ravel(np.asarray(values, np.float64))
    known = known[~np.isnan(known)]
    low, high = log_returns.min() - FAR_OFF, log_returns.max() + FAR_OFF
    return known, known[(known >= low) & (known <= high)]
