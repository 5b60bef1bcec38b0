"""Means of figures that stay on the device until they are asked for."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningMeans:
    """Sums scalars by name on their device, so that no update waits to read one."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, **values: Tensor) -> None:
        """Counts one more value of each name."""
        for name, value in values.items():
            if name in self._sums:
                self._sums[name] += value.detach()
                self._counts[name] += 1
            else:
                self._sums[name] = value.detach().clone()
                self._counts[name] = 1

    def read(self) -> dict[str, float]:
        """The mean of every name since the last call; empty where nothing was added."""
        if not self._sums:
            return {}
        totals = torch.stack([total.float() for total in self._sums.values()]).tolist()
        means = {
            name: total / self._counts[name] for name, total in zip(self._sums, totals, strict=True)
        }
        self._sums, self._counts = {}, {}
        return means
