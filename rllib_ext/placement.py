"""Which resources each kind of actor asks for, and in which bundle of its trial it sits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.tune.execution.placement_groups import PlacementGroupFactory

# The custom resources of the nodes in cluster/: what each is for.
LEARNER, COLLECTOR, ROLLOUT_WORKER = "learner", "collector", "rollout_worker"
MARK = 0.001  # of a resource that tells a kind of node and counts nothing
PACK, SPREAD, ROLES = PLACEMENTS = ("pack", "spread", "roles")
OWN_OPTIONS = {"CPU": "num_cpus_per_rollout_worker", "GPU": "num_gpus_per_rollout_worker"}


def place(config: Any, placement: str) -> None:
    """Has the actors of a config placed in one of three ways.

    Args:
        config: an `MnMConfig` with all its numbers of actors and GPUs.
        placement: "pack": on few nodes; "spread": on many; "roles": on many, each kind of actor
            on the nodes that have the resource of its name, and the driver beside the learner.

    Raises:
        ValueError: there is no such way.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"Unknown placement {placement!r}: use one of {', '.join(PLACEMENTS)}.")
    config.resources(placement_strategy="PACK" if placement == PACK else "SPREAD")
    if placement != ROLES:
        return
    beside_learner = {LEARNER: MARK}
    config.resources(custom_resources_for_main_process=beside_learner)
    config.learners(custom_resources_per_learner=beside_learner)
    config.env_runners(custom_resources_per_env_runner={COLLECTOR: 1})
    config.training(
        custom_resources_per_rollout_worker=(
            beside_learner if _share_gpu(config) else {ROLLOUT_WORKER: 1}
        )
    )


def rollout_worker_resources(config: Any) -> dict[str, float]:
    """What one rollout worker asks for."""
    resources = {
        "CPU": float(config.num_cpus_per_rollout_worker),
        "GPU": float(config.num_gpus_per_rollout_worker),
        **config.custom_resources_per_rollout_worker,
    }
    return {kind: amount for kind, amount in resources.items() if amount}


def with_rollout_workers(base: PlacementGroupFactory, config: Any) -> PlacementGroupFactory:
    """RLlib's request of a trial and what the rollout workers ask for.

    Each has a bundle of its own, behind RLlib's. Workers with a part of a GPU and a learner that is
    an actor share the learner's, RLlib's last: a bundle is never cut, so that they are on its node.

    Args:
        base: RLlib's own request.
        config: an `MnMConfig`.
    """
    workers = [rollout_worker_resources(config)] * config.num_rollout_workers
    bundles = list(base.bundles)
    if _sit_with_learner(config):
        bundles[-1] = _sum([bundles[-1], *workers])
        workers = []
    return PlacementGroupFactory(bundles + workers, strategy=base.strategy)


def rollout_worker_bundles(config: Any, bundle_count: int) -> list[int]:
    """The bundle of each rollout worker in a placement group made by `with_rollout_workers`."""
    size = config.num_rollout_workers
    if _sit_with_learner(config):
        return [bundle_count - 1] * size
    return list(range(bundle_count - size, bundle_count))


def kinds_of_actors(config: Any, request: PlacementGroupFactory) -> list[str]:
    """For each bundle of `with_rollout_workers` who sits in it, in words."""
    workers = config.num_rollout_workers
    pool = ["rollout worker"] * workers
    learners = ["learner"] * config.num_learners
    if _sit_with_learner(config):
        learners, pool = [f"learner with {workers} rollout worker{'s' * (workers > 1)}"], []
    runners = ["environment runner"] * config.num_env_runners
    driver = "driver" if config.num_learners else "driver with the learner"
    others = len(request.bundles) - len([driver, *runners, *learners, *pool])
    return [driver, *runners, *["evaluation runner"] * others, *learners, *pool]


def check_rollout_workers(config: Any, has_model: bool) -> None:
    """Checks the number of rollout workers and what each asks for.

    Args:
        config: an `MnMConfig`.
        has_model: whether its algorithm has one to imagine with.

    Raises:
        ValueError: something is wrong; one sentence.
    """
    count = config.num_rollout_workers
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"num_rollout_workers={count!r} is not valid: use 0 or more.")
    if count and not has_model:
        raise ValueError("algo='sac' has no model to imagine with: set num_rollout_workers=0.")
    for name in OWN_OPTIONS.values():
        amount = getattr(config, name)
        if not _is_amount(amount):
            raise ValueError(f"{name}={amount!r} is not valid: use 0 or more.")
    gpus = config.num_gpus_per_rollout_worker
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"num_gpus_per_rollout_worker={gpus!r} is not valid: use a part of one GPU, or a whole "
            "number."
        )
    custom = config.custom_resources_per_rollout_worker
    if not isinstance(custom, dict) or not all(
        isinstance(kind, str) and _is_amount(amount) for kind, amount in custom.items()
    ):
        raise ValueError(
            f"custom_resources_per_rollout_worker={custom!r} is not valid: use a dict of amounts, "
            "0 or more, by name."
        )
    for kind, option in OWN_OPTIONS.items():
        if kind in custom:
            raise ValueError(f"custom_resources_per_rollout_worker has {kind!r}: use {option}.")
    if count and not rollout_worker_resources(config):
        raise ValueError(
            "A rollout worker that asks for nothing cannot be placed: set "
            "num_cpus_per_rollout_worker=1."
        )


def _share_gpu(config: AlgorithmConfig) -> bool:
    return 0 < config.num_gpus_per_rollout_worker < 1


def _sit_with_learner(config: AlgorithmConfig) -> bool:
    return _share_gpu(config) and config.num_learners == 1 and config.num_rollout_workers > 0


def _sum(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    kinds = {kind for part in parts for kind in part}
    # Ray counts resources in ten-thousandths.
    return {kind: round(sum(part.get(kind, 0) for part in parts), 4) for kind in sorted(kinds)}


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf
