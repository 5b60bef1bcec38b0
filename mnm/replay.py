"""Flat ring buffer of transitions on the learner's device: one tensor, sampled by one gather."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnm.transitions import Transitions

HOLDOUT_PERIOD = 10  # of so many rows in a row, one is held out from the model and the classifier
PATTERN_BLOCKS = 1021  # then the pattern repeats; a prime, so that no data keep step with it


def _place(block: int) -> int:
    """Which row of a block is held out, 0 to 9: its bits mixed, as at the end of hash functions."""
    for _ in range(2):
        block = ((block ^ (block >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return ((block ^ (block >> 16)) & 0xFFFF) % HOLDOUT_PERIOD


# Rows of the pattern, in order: those held out and the others.
HELD_OUT = [block * HOLDOUT_PERIOD + _place(block) for block in range(PATTERN_BLOCKS)]
PATTERN_ROWS = PATTERN_BLOCKS * HOLDOUT_PERIOD
TRAINED_ON = sorted(set(range(PATTERN_ROWS)) - set(HELD_OUT))


@dataclass(frozen=True)
class Batch:
    """Rows drawn from a buffer, on its device.

    Attributes:
        observations: [N, obs].
        actions: [N, act].
        rewards: [N].
        next_observations: [N, obs].
        terminateds: [N], 1.0 where the task ended.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminateds: Tensor


class ReplayBuffer:
    """Ring buffer of `capacity` transitions, oldest overwritten first.

    Rows are numbered as they arrive. Which are held out follows from their number alone, so that a
    row never changes sides, and is as good as random, so that no kind of row that comes in step,
    such as the last of episodes of equal length, is held out for ever.

    Attributes:
        total: running number that the next row gets.
        size: rows held: those numbered `total - size` to `total - 1`.
        origin: number of a row in slot 0; row `n` lies in slot `(n - origin) % capacity`.
        newest: rows, the last ones, that `sample` draws from; all of them unless set.

    Args:
        capacity: rows kept.
        observation_dim: width of an observation.
        action_dim: width of an action.
        device: where the rows live and are sampled.
    """

    def __init__(
        self, capacity: int, observation_dim: int, action_dim: int, device: torch.device | str
    ) -> None:
        self.capacity = self.newest = capacity
        self.observation_dim = observation_dim
        self.action_dim = action_dim
        self.device = torch.device(device)
        self.size = 0
        self.total = 0
        self.origin = 0
        self._held_out = torch.tensor(HELD_OUT, device=self.device)
        self._trained_on = torch.tensor(TRAINED_ON, device=self.device)
        self._widths = [observation_dim, action_dim, 1, observation_dim, 1, 1]
        # Uninitialised memory: pages are only taken as rows arrive.
        self._rows = torch.empty(capacity, sum(self._widths), device=self.device)
        # Episode number and step are kept beside the rows, on the host: no update reads them.
        self._origins = torch.empty(capacity, 2, dtype=torch.int64)

    def __len__(self) -> int:
        return self.size

    def append(self, transitions: Transitions) -> None:
        """Adds rows at the end of the ring; of more than `capacity` rows only the last stay."""
        skipped = max(0, len(transitions) - self.capacity)
        transitions = transitions[skipped:]
        count = len(transitions)
        rows = np.concatenate(
            [
                transitions.observations,
                transitions.actions,
                transitions.rewards[:, None],
                transitions.next_observations,
                transitions.terminateds[:, None],
                transitions.truncateds[:, None],
            ],
            axis=1,
            dtype=np.float32,
        )
        origins = np.stack([transitions.episode_ids, transitions.steps], axis=1)
        slot = self._slot(self.total + skipped)
        first = min(count, self.capacity - slot)
        for target, source in ((self._rows, rows), (self._origins, origins)):
            tensor = torch.from_numpy(source)
            target[slot : slot + first] = tensor[:first].to(target.device)
            target[: count - first] = tensor[first:].to(target.device)
        self.total += skipped + count
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """`count` rows drawn uniformly with replacement from the `newest`."""
        if self.size <= self.newest:
            return self._gather(self._draw(self.size, (count,), generator))
        ages = self._draw(self.newest, (count,), generator)
        return self._gather(self._slot(self.total - 1 - ages))

    def sample_training(self, count: int, generator: torch.Generator) -> Batch:
        """`count` rows drawn from those that are not held out."""
        return self._gather(self.training_slots((count,), generator))

    @property
    def held_out(self) -> int:
        """Rows that are held out."""
        return _held_out_before(self.total) - _held_out_before(self.total - self.size)

    def holdout(self, most: int) -> Batch:
        """Up to `most` held-out rows, spread evenly over the buffer."""
        held_out = self.held_out
        count = min(most, held_out)
        drawn = torch.arange(count, device=self.device) * held_out // max(count, 1)
        ranks = drawn + _held_out_before(self.total - self.size)
        return self._gather(self._slot(_numbers(ranks, self._held_out)))

    def training_slots(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Random slots of rows that are not held out, for `rows_at`."""
        oldest = self.total - self.size
        drawn = self._draw(self.size - self.held_out, shape, generator)
        ranks = drawn + (oldest - _held_out_before(oldest))
        return self._slot(_numbers(ranks, self._trained_on))

    def rows_at(self, slots: Tensor) -> Batch:
        """The rows in given slots; `slots` [N] or [E, N], the columns then [E, N, ...]."""
        return self._gather(slots)

    def all_rows(self) -> Batch:
        """Every row, in slot order."""
        return self._split(self._rows[: self.size])

    def transitions(self) -> Transitions:
        """Every row with its episode and step, oldest first, as NumPy columns."""
        return self.rows(self.total - self.size, self.total)

    def rows(self, start: int, stop: int) -> Transitions:
        """Copies of the rows numbered `start` to `stop` - 1, all of them held, as NumPy columns."""
        slot = self._slot(start)
        first = min(stop - start, self.capacity - slot)
        rows, origins = (
            torch.cat([part[slot : slot + first].cpu(), part[: stop - start - first].cpu()]).numpy()
            for part in (self._rows, self._origins)
        )
        edges = np.cumsum(self._widths)[:-1]
        observations, actions, rewards, next_observations, terminateds, truncateds = np.split(
            rows, edges, axis=1
        )
        return Transitions(
            observations,
            actions,
            rewards[:, 0],
            next_observations,
            terminateds[:, 0] > 0.5,
            truncateds[:, 0] > 0.5,
            origins[:, 0],
            origins[:, 1],
        )

    def load(
        self, batches: Iterable[Transitions], first: int = 0, origin: int | None = None
    ) -> None:
        """Replaces all rows by those of `batches`, in their order; the first is numbered `first`.

        Args:
            batches: the rows.
            first: number of the first of them.
            origin: as that of the buffer which had them, for each to get the slot it had; None:
                the first lies in slot 0.

        Raises:
            ValueError: the rows would leave slots empty before them; nothing is kept then, nor when
                `batches` raises.
        """
        self.size, self.total = 0, first
        self.origin = first if origin is None else origin
        try:
            for batch in batches:
                self.append(batch)
            if self._slot(first) and self.size < self.capacity:
                raise ValueError(
                    f"{self.size} rows from slot {self._slot(first)} on leave holes in a ring of "
                    f"{self.capacity}: load them without an origin."
                )
        except BaseException:
            self.size = self.total = self.origin = 0
            raise

    def _slot(self, number: Any) -> Any:
        """Slot of the row, or of a tensor of rows, with this number."""
        return (number - self.origin) % self.capacity

    def _draw(self, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randint(high, shape, generator=generator, device=self.device)

    def _gather(self, slots: Tensor) -> Batch:
        if slots.dim() == 1:
            return self._split(self._rows.index_select(0, slots))
        return self._split(self._rows[slots])

    def _split(self, rows: Tensor) -> Batch:
        observations, actions, rewards, next_observations, terminateds, _ = rows.split(
            self._widths, dim=-1
        )
        return Batch(
            observations,
            actions,
            rewards.squeeze(-1),
            next_observations,
            terminateds.squeeze(-1),
        )


def _held_out_before(number: int) -> int:
    """How many of the rows numbered 0 to `number` - 1 are held out."""
    times, rest = divmod(number, PATTERN_ROWS)
    return times * len(HELD_OUT) + bisect_left(HELD_OUT, rest)


def _numbers(ranks: Tensor, pattern: Tensor) -> Tensor:
    """Numbers of the rows of one side, HELD_OUT or TRAINED_ON, with these ranks among its rows."""
    times = torch.div(ranks, len(pattern), rounding_mode="floor")
    return times * PATTERN_ROWS + pattern[ranks - times * len(pattern)]


def allocate(
    capacity: int,
    observation_dim: int,
    action_dim: int,
    device: torch.device,
    settings: str,
) -> ReplayBuffer:
    """A buffer whose capacity follows from the named settings.

    Raises:
        ValueError: there is not so much memory.
    """
    try:
        return ReplayBuffer(capacity, observation_dim, action_dim, device)
    except RuntimeError:
        raise ValueError(
            f"{capacity:,} transitions are more than the memory of {device} holds: make "
            f"{settings} smaller."
        ) from None
