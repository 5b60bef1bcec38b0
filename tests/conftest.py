"""Settings of every test run: torch on one thread, so that figures repeat and cores are shared."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
