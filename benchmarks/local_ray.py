"""A small Ray of the benchmarks' own, for one suite."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray

OBJECT_STORE_BYTES = 400_000_000


@contextmanager
def local_ray(num_cpus: int) -> Iterator[None]:
    """Ray on this machine with that many logical CPUs; ended with the block.

    Never the cluster of RAY_ADDRESS: the machine described in the results is this one.
    """
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()
