"""The actors of an `MnM` that RLlib does not make: the pool, and runners beside the reserved."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium as gym
import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune.execution.placement_groups import PlacementGroupFactory

from distributed.collector_group import REQUESTS_PER_COLLECTOR
from distributed.elasticity import ElasticActors
from distributed.rollout_pool import RolloutPool
from rllib_ext.config import MnMConfig
from rllib_ext.environments import resolve_termination, task_spaces
from rllib_ext.placement import kinds_of_actors, rollout_worker_bundles, rollout_worker_resources
from rllib_ext.room import alive_nodes, lacking

logger = logging.getLogger(__name__)


def build_pool(config: MnMConfig, spaces: tuple[gym.Space, gym.Space]) -> RolloutPool | None:
    """The rollout workers, in their bundles of the trial's placement group; None without any."""
    if config.num_rollout_workers == 0:
        return None
    group = ray.util.get_current_placement_group()
    bundles = None if group is None else rollout_worker_bundles(config, group.bundle_count)
    return RolloutPool(
        config,
        config.num_rollout_workers,
        task_spaces(*spaces),
        config.settings(),
        resolve_termination(config),
        rollout_worker_resources(config),
        bundles,
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


def warn_if_too_large(config: MnMConfig, request: PlacementGroupFactory) -> None:
    """Says so where Ray has no place for all actors: they would wait for ever without a word.

    Under Tune the placement group has seen to it.

    Args:
        config: of the actors.
        request: of a trial of it.
    """
    if ray.util.get_current_placement_group() is not None:
        return
    # The first bundle is this process.
    kinds = kinds_of_actors(config, request)[1:]
    lack = lacking(request.bundles[1:], kinds, alive_nodes())
    if lack is not None:
        logger.warning("%s Unless the cluster grows they wait for ever.", lack)


def end_hanging(group: EnvRunnerGroup, timeout_s: float | None) -> None:
    """Kills those of a group of runners that hang: RLlib, when it stops the group, would wait for
    them for ever.

    Args:
        group: whose runners may be at the requests that they have.
        timeout_s: that one request may take; None: as long as it likes.
    """
    if timeout_s is None:
        return
    pings = {actor.ping.remote(): actor for actor in group._worker_manager.actors().values()}
    if not pings:
        return
    patience = REQUESTS_PER_COLLECTOR * timeout_s  # a ping comes after them
    _, silent = ray.wait(list(pings), num_returns=len(pings), timeout=patience)
    for ping in silent:
        ray.kill(pings[ping])
