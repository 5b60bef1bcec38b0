"""Joining the Ray cluster that RAY_ADDRESS names, or starting one here that is large enough."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch
from ray.tune.execution.placement_groups import PlacementGroupFactory

from rllib_ext.errors import UserError

CONNECT_TIMEOUT_S = 10.0
OBJECT_STORE_BYTES = 500_000_000  # of a Ray started here; weights and batches are small


def joins_cluster() -> bool:
    """Whether `ray_session` joins a Ray that is there; else it starts one."""
    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def ray_session(request: PlacementGroupFactory) -> Iterator[None]:
    """Ray for one run: the cluster of RAY_ADDRESS, else a local one for `request`.

    A local Ray gets as many logical CPUs as the run asks for, and the custom resources: with fewer,
    Tune would wait for ever. What a cluster lacks is for `rllib_ext.room` to say: it may grow.

    Args:
        request: the trial's resources.

    Raises:
        UserError: the cluster cannot be reached, or GPUs are asked for that this machine lacks.
    """
    needed = request.required_resources
    gpus = needed.get("GPU", 0.0)
    started = False
    if not ray.is_initialized():
        started = True
        if os.environ.get("RAY_ADDRESS"):
            try:
                _check_reachable(os.environ["RAY_ADDRESS"])
                ray.init(logging_level=logging.ERROR, log_to_driver=False)
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"Cannot join the Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}: "
                    f"{first_line(error)}"
                ) from error
        else:
            if gpus > torch.cuda.device_count():
                raise UserError(
                    f"{gpus:g} GPU(s) are asked for and this machine has "
                    f"{torch.cuda.device_count()}: leave out --num-gpus, or set RAY_ADDRESS to a "
                    "cluster that has them."
                )
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, int(needed.get("CPU", 1)) + 1),
                resources={k: n for k, n in needed.items() if k not in ("CPU", "GPU")},
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Fails at once where nobody listens; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
