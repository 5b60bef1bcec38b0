"""The part of MnM's configuration that lets the numbers of its actors grow and shrink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

if TYPE_CHECKING:
    from typing_extensions import Self


class ElasticConfig(AlgorithmConfig):
    """`env_runners` with a largest number beside the reserved one."""

    # RLlib's base class has a retired property of this name; a plain attribute takes its place.
    num_rollout_workers: int = 0

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.max_num_env_runners: int | None = None
        self.max_num_rollout_workers: int | None = None

    def env_runners(self, *, max_num_env_runners: int | None = NotProvided, **kwargs: Any) -> Self:
        """Sets who collects.

        Args:
            max_num_env_runners: Runners that there may be while the learner waits for real steps;
                `num_env_runners` of them are reserved, the others come and go with the cluster.
                None: always `num_env_runners`.
            **kwargs: RLlib's own.

        Returns:
            This config.
        """
        super().env_runners(**kwargs)
        if max_num_env_runners is not NotProvided:
            self.max_num_env_runners = max_num_env_runners
        return self

    def check_elastic(self) -> None:
        """Checks the largest numbers of actors against the reserved ones.

        Raises:
            ValueError: one is wrong.
        """
        if self.in_evaluation:  # its number of runners is another, and it has no learner
            return
        for name in ("num_env_runners", "num_rollout_workers"):
            least, most = getattr(self, name), getattr(self, f"max_{name}")
            if most is None:
                continue
            if not isinstance(most, int) or isinstance(most, bool) or most < least:
                raise ValueError(
                    f"max_{name}={most!r} is not valid: use {name}={least} or more, or None for a "
                    "fixed number."
                )
            if least == 0:
                raise ValueError(f"max_{name}={most} needs an actor to grow from: set {name}=1.")
            if self.num_learners == 0:
                raise ValueError(
                    f"max_{name}={most} needs a learner of its own, whose waiting is measured: "
                    "set .learners(num_learners=1)."
                )
