"""What every test run shares: torch on one thread, so that figures repeat, and a small Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One small Ray on the loopback for all tests of this process that need actors.

    `mnm train` joins it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Actors find the tests' own tasks whatever folder pytest was started in.
        root = str(Path(__file__).resolve().parent.parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        ray.init(
            address="local",
            num_cpus=8,
            include_dashboard=False,
            object_store_memory=150_000_000,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
        ray.shutdown()
