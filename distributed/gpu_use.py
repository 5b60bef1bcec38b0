"""How much of its GPU a process uses."""

from __future__ import annotations

import time

import torch

INTERVAL_S = 1.0  # the driver is asked at most this often


class GpuUse:
    """Asks CUDA's driver for figures by their names in `distributed.telemetry`.

    Args:
        device: that is used; zeros where it is no GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._asked_at = float("-inf")
        self._figures = {"gpu_memory_bytes": 0.0, "gpu_utilization": 0.0}

    def __call__(self) -> dict[str, float]:
        """The figures, a second old at most; a utilization that the driver does not tell is NaN."""
        if self.device.type == "cuda" and time.monotonic() >= self._asked_at + INTERVAL_S:
            self._asked_at = time.monotonic()
            self._figures = {
                "gpu_memory_bytes": float(torch.cuda.memory_reserved(self.device)),
                "gpu_utilization": self._utilization(),
            }
        return self._figures

    def _utilization(self) -> float:
        try:
            return torch.cuda.utilization(self.device) / 100
        except Exception:  # whatever NVML raises: half a GPU has none, a container may not ask
            return float("nan")
