"""Runs one command of `mnm` on a cluster and prints where its actors were, for tests.

Words: the cluster's address, then those of the command. The last line of the output is JSON: pairs
of an actor's class and the custom resources of the node that it was on.
"""

from __future__ import annotations

import json
import logging
import sys

import ray
from ray._private.state import state

from cluster import cli


def actors_and_nodes() -> list[tuple[str, list[str]]]:
    nodes = {
        node["NodeID"]: [kind for kind in node["Resources"] if kind in cli_resources]
        for node in ray.nodes()
    }
    return [
        (str(actor["ActorClassName"]).rpartition(".")[2], sorted(nodes[actor["Address"]["NodeID"]]))
        for actor in state.actor_table(None).values()
    ]


cli_resources = ("GPU", "learner", "collector", "rollout_worker", "first", "second")

if __name__ == "__main__":
    ray.init(address=sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
    try:
        cli.main(sys.argv[2:])
    finally:
        print(json.dumps(actors_and_nodes()))
