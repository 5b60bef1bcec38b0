"""Prints as JSON on which nodes of a cluster the bundles of some runs are placed, for tests.

Words: the cluster's address, then one JSON object a run: fields of a `RunPlan`. For each a line:
pairs of who sits in a bundle and the marks of the bundle's node; null where it finds no place.
"""

from __future__ import annotations

import json
import logging
import sys
import time

import ray
from ray.util.placement_group import placement_group_table, remove_placement_group

from distributed.storage import Location
from rllib_ext import MnM
from rllib_ext.placement import kinds_of_actors
from rllib_ext.run_plan import RunPlan
from tests.rllib_ext.small_configs import LINE, TINY

PATIENCE_S = 20  # with a request that has a place
WAIT_S = 2  # with one that has none


def wait_until_free() -> None:
    """Waits until the scheduler sees all nodes free: what it still takes for used it avoids.

    Raises:
        TimeoutError: they are not free after `PATIENCE_S`.
    """
    end = time.monotonic() + PATIENCE_S
    while ray.available_resources() != ray.cluster_resources():
        if time.monotonic() > end:
            raise TimeoutError(f"Free: {ray.available_resources()} of {ray.cluster_resources()}.")
        time.sleep(0.1)


if __name__ == "__main__":
    ray.init(address=sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
    nodes = {
        node["NodeID"]: [kind for kind in node["Resources"] if kind.startswith("mark")]
        for node in ray.nodes()
    }
    for text in sys.argv[2:]:
        plan = RunPlan(LINE, "mnm", TINY, 100, **json.loads(text))
        config = plan.config(Location.of("run"))
        request = MnM.default_resource_request(config)
        kinds = kinds_of_actors(config, request)
        group = request.to_placement_group()
        placed = group.wait(PATIENCE_S if plan.num_env_runners < 5 else WAIT_S)
        bundles = placement_group_table(group)["bundles_to_node_id"]
        pairs = [(kind, nodes[bundles[i]]) for i, kind in enumerate(kinds)] if placed else None
        print(json.dumps(pairs))
        remove_placement_group(group)
        wait_until_free()
