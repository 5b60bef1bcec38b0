"""The part of MnM's configuration that says what a run starts from and where it logs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from distributed.minari_data import MINARI_PREFIX
from distributed.storage import KeyedUri, without_key
from distributed.transition_log import ROWS_PER_PART

if TYPE_CHECKING:
    from typing_extensions import Self

# What of RLlib's offline_data() MnM follows; the rest belongs to its pipeline of episodes.
FOLLOWED_SETTINGS = ("input_", "output", "output_max_rows_per_file")


class OfflineDataConfig(AlgorithmConfig):
    """`offline_data` for a learner that reads and logs flat transitions."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.offline_updates = 0
        self.output_run: str | None = None
        self.output_max_rows_per_file = ROWS_PER_PART
        self.output_write_episodes = False  # the log has a row for each transition

    def offline_data(
        self,
        *,
        input_: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = NotProvided,
        offline_updates: int = NotProvided,
        output: str | os.PathLike[str] | None = NotProvided,
        output_run: str | None = NotProvided,
        output_max_rows_per_file: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets what transitions a run starts from, and where it logs its own.

        Args:
            input_: Paths of transitions that go into the replay before the first step: Parquet
                files or folders of them, as a log's, URIs of them, or `minari:ID`. They are no
                steps of the run. The learner reads them: on a cluster, where it can. A key in a URI
                is kept from what shows this config, and stands in its pickles.
            offline_updates: Joint updates on them before the first step, beside
                `updates_to_data_ratio`.
            output: Folder, or URI of one, in which every real transition is logged as Parquet, in a
                partition for each run; None: no log. The learner writes it.
            output_run: Name of the run, for its partition and its metrics (docs/metrics.md); None:
                that of the trial's folder under Tune, else of the algorithm's own log folder.
            output_max_rows_per_file: Rows after which a file is written, rounded up to whole
                batches; a minute and a checkpoint write what there is.
            **kwargs: RLlib's other settings belong to its pipeline of episodes and are refused.

        Returns:
            This config.
        """
        for name in kwargs:
            _refuse_ignored(name)
        if input_ is not NotProvided:
            paths = [input_] if isinstance(input_, str | os.PathLike) else input_
            self.input_ = [_absolute(path) for path in paths]
        if offline_updates is not NotProvided:
            self.offline_updates = offline_updates
        if output is not NotProvided:
            self.output = None if output is None else _absolute(output)
        if output_run is not NotProvided:
            self.output_run = output_run
        if output_max_rows_per_file is not NotProvided:
            self.output_max_rows_per_file = output_max_rows_per_file
        return self

    @property
    def is_offline(self) -> bool:
        """Never RLlib's kind: no pipeline of episodes is built, the learner reads `input_`."""
        return False

    @property
    def offline_paths(self) -> list[str]:
        """The paths of `input_`, with the keys that their URIs may have."""
        if self.input_ == "sampler":
            return []
        paths = [self.input_] if isinstance(self.input_, str | KeyedUri) else self.input_
        return [os.fspath(path) if isinstance(path, KeyedUri) else path for path in paths]

    def check_offline_data(self) -> None:
        """Checks what `offline_data` set, the paths' contents aside.

        Raises:
            ValueError: a setting is wrong, or one that would be ignored is set.
        """
        plain = AlgorithmConfig()
        for name in inspect.signature(AlgorithmConfig.offline_data).parameters:
            followed = name in (*FOLLOWED_SETTINGS, "self", "output_write_episodes")
            if not followed and getattr(self, name) != getattr(plain, name):
                _refuse_ignored(name)
        if not all(isinstance(path, str) and path for path in self.offline_paths):
            shown = [without_key(str(path)) for path in self.offline_paths]
            raise ValueError(
                f"input_={shown!r} is not valid: name files, folders, URIs or minari:ID."
            )
        if self.offline_updates and not self.offline_paths:
            raise ValueError(
                "offline_updates need transitions: name them with offline_data(input_=...)."
            )
        if self.output is not None and not isinstance(self.output, str | KeyedUri):
            raise ValueError(
                f"output={self.output!r} is not valid: name a folder, or a URI of one, that the "
                "learner can write."
            )
        for name, least in (("offline_updates", 0), ("output_max_rows_per_file", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={value!r} is not valid: use {least} or more.")


def _refuse_ignored(name: str) -> None:
    raise ValueError(
        f"{name} has no effect on MnM: of offline_data() it follows "
        f"{', '.join(FOLLOWED_SETTINGS)}, output_run and offline_updates."
    )


def _absolute(path: str | os.PathLike[str]) -> str | KeyedUri:
    """Tune runs a trial in a folder of its own: relative paths are taken from here."""
    path = os.fspath(path)
    if without_key(path) != path:  # Tune's params.json and the trackers show what is in a config
        return KeyedUri(path)
    is_uri = "://" in path or path.startswith(MINARI_PREFIX)
    return path if is_uri or not path else os.path.abspath(path)
