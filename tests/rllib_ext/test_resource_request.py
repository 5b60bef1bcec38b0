"""Tests of what a config asks Ray for, actor by actor."""

from __future__ import annotations

import pytest

from rllib_ext import MnM
from rllib_ext.placement import kinds_of_actors, place, rollout_worker_bundles
from tests.rllib_ext.small_configs import LINE, MOST, plain


def test_only_the_reserved_actors_are_in_the_resource_request() -> None:
    config = plain().learners(num_learners=1).env_runners(num_env_runners=2)
    config.training(num_rollout_workers=1)
    reserved = MnM.default_resource_request(config)
    config.env_runners(**{MOST: 5}).training(max_num_rollout_workers=3).validate()
    assert MnM.default_resource_request(config) == reserved


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_resource_request_counts_the_pool(workers: int) -> None:
    config = plain().env_runners(num_env_runners=2).learners(num_learners=1)
    config.training(num_rollout_workers=workers)
    request = MnM.default_resource_request(config)
    assert len(request.bundles) == 1 + 2 + 1 + workers
    assert request.required_resources == {"CPU": 4.0 + workers}
    assert request.bundles[4:] == [{"CPU": 1.0}] * workers


def test_the_resource_request_counts_the_pools_gpus() -> None:
    config = plain().training(num_rollout_workers=2, num_gpus_per_rollout_worker=0.25)
    assert MnM.default_resource_request(config).required_resources["GPU"] == 0.5


def test_workers_with_a_part_of_a_gpu_share_the_learners_bundle() -> None:
    config = plain().env_runners(num_env_runners=1)
    config.learners(num_learners=1, num_gpus_per_learner=0.5)
    config.training(num_rollout_workers=3, num_gpus_per_rollout_worker=0.1)
    request = MnM.default_resource_request(config)
    assert request.bundles[2:] == [{"CPU": 3.0, "GPU": 0.8}]
    assert rollout_worker_bundles(config, 3) == [2, 2, 2]
    kinds = ["driver", "environment runner", "learner with 3 rollout workers"]
    assert kinds_of_actors(config, request) == kinds
    config.training(num_gpus_per_rollout_worker=1)
    request = MnM.default_resource_request(config)
    assert request.bundles[3:] == [{"CPU": 1.0, "GPU": 1.0}] * 3
    assert rollout_worker_bundles(config, 6) == [3, 4, 5]
    assert kinds_of_actors(config, request)[2:] == ["learner", *["rollout worker"] * 3]


def test_each_actor_can_ask_for_the_resource_of_its_role() -> None:
    config = plain().env_runners(num_env_runners=2).learners(num_learners=1)
    config.training(num_rollout_workers=1, num_cpus_per_rollout_worker=2)
    config.evaluation(evaluation_interval=1, evaluation_num_env_runners=1)
    place(config, "roles")
    request = MnM.default_resource_request(config)
    assert request.strategy == "SPREAD"
    asked = list(zip(kinds_of_actors(config, request), request.bundles, strict=True))
    collector = {"CPU": 1.0, "collector": 1.0}
    assert asked == [
        ("driver", {"CPU": 1.0, "learner": 0.001}),
        ("environment runner", collector),
        ("environment runner", collector),
        ("evaluation runner", collector),
        ("learner", {"CPU": 1.0, "learner": 0.001}),
        ("rollout worker", {"CPU": 2.0, "rollout_worker": 1.0}),
    ]
    with pytest.raises(ValueError, match=r"Unknown placement 'tight': use one of pack, spread"):
        place(config, "tight")


def test_the_resource_request_of_a_plain_dict_is_the_same() -> None:
    config = plain().env_runners(num_env_runners=1).training(num_rollout_workers=2)
    changes = {"env": LINE, "num_env_runners": 1, "num_rollout_workers": 2}
    assert MnM.default_resource_request(changes) == MnM.default_resource_request(config)
