"""The actors of an `MnM` that RLlib does not make: the pool, and runners beside the reserved."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium as gym
import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune.execution.placement_groups import PlacementGroupFactory

from distributed.elasticity import ElasticActors
from distributed.rollout_pool import RolloutPool
from rllib_ext.config import MnMConfig
from rllib_ext.environments import resolve_termination, task_spaces

logger = logging.getLogger(__name__)


def rollout_worker_bundle(config: MnMConfig) -> dict[str, float]:
    """Resources of one rollout worker."""
    gpus = config.num_gpus_per_rollout_worker
    return {"CPU": 1.0, "GPU": gpus} if gpus else {"CPU": 1.0}


def build_pool(config: MnMConfig, spaces: tuple[gym.Space, gym.Space]) -> RolloutPool | None:
    """The rollout workers, in the last bundles of the trial's placement group; None without any."""
    if config.num_rollout_workers == 0:
        return None
    group = ray.util.get_current_placement_group()
    first = 0 if group is None else group.bundle_count - config.num_rollout_workers
    return RolloutPool(
        config,
        config.num_rollout_workers,
        task_spaces(*spaces),
        config.settings(),
        resolve_termination(config),
        first,
        config.num_gpus_per_rollout_worker,
        config.max_num_rollout_workers,
    )


def elastic_env_runners(group: EnvRunnerGroup, most: int | None) -> ElasticActors | None:
    """Lets a group of runners grow to `most`; None: it does not."""
    if most is None:
        return None
    return ElasticActors(
        group._worker_manager, lambda index: start_env_runner_outside(group, index), most
    )


def start_env_runner_outside(group: EnvRunnerGroup, worker_index: int) -> Any:
    """Starts a runner like those of `group`, outside any placement group and without restarts.

    Args:
        group: gives class, arguments and resources; it does not know of the runner.
        worker_index: of the new runner; none in `group` has it.

    Returns:
        The actor's handle; it may have no resources yet.
    """
    actor = ray.remote(**{**group._remote_args, "max_restarts": 0})(group.env_runner_cls)
    return actor.options(scheduling_strategy="DEFAULT").remote(
        env_creator=group._env_creator,
        validate_env=None,
        default_policy_class=group._policy_class,
        config=group._remote_config_obj_ref,
        worker_index=worker_index,
        num_workers=group._remote_config.num_env_runners,
        recreated_worker=False,
        log_dir=group._logdir,
        spaces=None,
        dataset_shards=None,
        tune_trial_id=group._tune_trial_id,
    )


def warn_if_too_large(request: PlacementGroupFactory) -> None:
    """Says so where Ray has too few CPUs for the actors: they would wait for ever without a word.

    Under Tune the placement group has seen to it.
    """
    if ray.util.get_current_placement_group() is not None:
        return
    # The first bundle is this process.
    needed = sum(bundle.get("CPU", 0) for bundle in request.bundles[1:])
    there = ray.cluster_resources().get("CPU", 0)
    if needed > there:
        logger.warning(
            "The actors of this config need %g CPUs and Ray has %g: unless the cluster grows they "
            "wait for ever; start Ray with ray.init(num_cpus=%d) or ask for fewer actors.",
            needed,
            there,
            needed,
        )
