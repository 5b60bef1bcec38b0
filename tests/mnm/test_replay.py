"""Tests of the ring buffer: wrap-around, hold-out, and what survives a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnm.replay import HOLDOUT_PERIOD, ReplayBuffer
from mnm.transitions import Transitions
from tests.mnm.small_cases import assert_same_rows, numbered


def filled(capacity: int, count: int) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity, 2, 1, "cpu")
    buffer.append(numbered(0, count))
    return buffer


def test_ring_overwrites_the_oldest() -> None:
    buffer = ReplayBuffer(5, 2, 1, "cpu")
    buffer.append(numbered(0, 3))
    assert (len(buffer), buffer.total) == (3, 3)
    buffer.append(numbered(3, 4))
    assert (len(buffer), buffer.total) == (5, 7)
    # Slots 0 and 1 hold rows 5 and 6, which came round the end.
    assert buffer.all_rows().rewards.tolist() == [5, 6, 2, 3, 4]
    assert_same_rows(buffer.transitions(), numbered(0, 7)[2:])


def test_batch_larger_than_the_ring_leaves_its_last_rows() -> None:
    buffer = filled(4, 2)
    buffer.append(numbered(2, 11))
    assert (len(buffer), buffer.total) == (4, 13)
    assert_same_rows(buffer.transitions(), numbered(0, 13)[9:])
    assert buffer.all_rows().rewards.tolist() == [12, 9, 10, 11], "row n is not in slot n modulo 4"


def test_empty_batch_changes_nothing() -> None:
    buffer = filled(4, 3)
    buffer.append(numbered(3, 0))
    assert_same_rows(buffer.transitions(), numbered(0, 3))


def test_columns_come_back_as_they_went_in() -> None:
    buffer = filled(10, 6)
    batch, rows = buffer.all_rows(), numbered(0, 6)
    for name in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), getattr(rows, name))
    np.testing.assert_array_equal(batch.terminateds.numpy(), rows.terminateds.astype(np.float32))


def held_out(buffer: ReplayBuffer) -> set[int]:
    """Numbers of the rows that are held out, of a buffer of `numbered` rows."""
    return set(buffer.holdout(buffer.size).rewards.int().tolist())


@pytest.mark.parametrize("count", [10, 19, 20, 57, 64, 68, 100, 203])
def test_training_and_holdout_rows_never_meet(count: int) -> None:
    buffer = filled(64, count)
    generator = torch.Generator().manual_seed(0)
    held = set(range(count - len(buffer), count))
    training = set(buffer.sample_training(4000, generator).rewards.int().tolist())
    assert training | held_out(buffer) == held
    assert training.isdisjoint(held_out(buffer))
    by_slot = buffer.all_rows().rewards
    assert training == set(by_slot[buffer.training_slots((4000,), generator)].int().tolist())
    # Of every ten in a row, one.
    whole = range(-(-min(held) // HOLDOUT_PERIOD), count // HOLDOUT_PERIOD)
    assert len(whole) >= 1
    for block in whole:
        rows = range(block * HOLDOUT_PERIOD, (block + 1) * HOLDOUT_PERIOD)
        assert len(held_out(buffer).intersection(rows)) == 1
    assert buffer.held_out == len(held_out(buffer)) == len(buffer.holdout(1000).rewards)


def test_a_row_never_changes_sides() -> None:
    buffer, sides = filled(20, 0), {}
    while buffer.total < 300:
        buffer.append(numbered(buffer.total, 7))
        if buffer.total in (84, 168, 252):  # restored with another capacity, as a ring or not
            other = ReplayBuffer(33 if buffer.total == 84 else 24, 2, 1, "cpu")
            kept = buffer.transitions()[-other.capacity :]
            other.load([kept], buffer.total - len(kept))
            buffer = other
        for number in range(buffer.total - len(buffer), buffer.total):
            assert sides.setdefault(number, number in held_out(buffer)) == (
                number in held_out(buffer)
            )
    assert set(sides.values()) == {True, False}


@pytest.mark.parametrize("count", [9999, 10_210, 10_211, 35_000])
def test_the_sides_share_all_rows_over_any_number_of_them(count: int) -> None:
    buffer = filled(15_000, count)
    held = held_out(buffer)
    slots = buffer.training_slots((200_000,), torch.Generator().manual_seed(0)).unique()
    trained_on = set(buffer.rows_at(slots).rewards.int().tolist())
    assert trained_on.isdisjoint(held)
    assert trained_on | held == set(range(count - len(buffer), count))
    assert abs(len(held) - len(buffer) / HOLDOUT_PERIOD) <= 1


@pytest.mark.parametrize("period", [10, 20, 50, 200])
def test_of_rows_that_come_in_step_every_kind_is_trained_on_and_held_out(period: int) -> None:
    """As the last of episodes of one length, or those of one of ten environments."""
    episodes = 400
    kinds = torch.tensor([number % period for number in held_out(filled(10**6, episodes * period))])
    shares = torch.bincount(kinds, minlength=period) / episodes
    # Of 400 drawn with probability 0.1, fewer than 10 or more than 80 once in a hundred million.
    assert 0.025 < shares.min() <= shares.max() < 0.2


def test_holdout_returns_no_more_rows_than_asked_for() -> None:
    assert len(filled(100, 100).holdout(4).rewards) == 4


def test_sampling_is_uniform_and_repeats_with_its_seed() -> None:
    buffer = filled(25, 25)
    drawn = buffer.sample(20_000, torch.Generator().manual_seed(3)).rewards
    counts = torch.bincount(drawn.long(), minlength=25).double()
    chi_squared = float(((counts - 800).square() / 800).sum())
    assert chi_squared < 60  # 24 degrees of freedom: beyond 60 in 7 draws of 100,000
    again = buffer.sample(20_000, torch.Generator().manual_seed(3)).rewards
    assert torch.equal(drawn, again)


def test_of_a_ring_the_newest_rows_alone_can_be_drawn() -> None:
    buffer = filled(50, 73)
    buffer.newest = 30  # numbers 43 to 72, which lie on both sides of the ring's end
    drawn = buffer.sample(2000, torch.Generator().manual_seed(0)).rewards
    numbers, counts = drawn.unique(return_counts=True)
    assert numbers.tolist() == list(range(43, 73))
    assert 35 < counts.min() < counts.max() < 105


def test_training_slots_are_uniform() -> None:
    buffer = filled(25, 25)
    slots = buffer.training_slots((3, 7000), torch.Generator().manual_seed(4))
    assert slots.shape == (3, 7000)
    counts = torch.bincount(slots.flatten(), minlength=25).double()
    counts = counts[counts > 0]
    assert len(counts) == 23
    expected = 21_000 / 23
    assert float(((counts - expected).square() / expected).sum()) < 58


def test_rows_at_keeps_the_shape_of_the_slots() -> None:
    buffer = filled(30, 30)
    slots = torch.tensor([[3, 1, 4], [1, 5, 29]])
    batch = buffer.rows_at(slots)
    assert batch.observations.shape == (2, 3, 2)
    assert batch.actions.shape == (2, 3, 1)
    assert torch.equal(batch.rewards, slots.float())
    assert torch.equal(buffer.rows_at(slots[0]).rewards, slots[0].float())


def test_sampled_rows_are_copies() -> None:
    buffer = filled(5, 5)
    batch = buffer.sample(100, torch.Generator().manual_seed(0))
    batch.rewards.zero_()
    assert buffer.all_rows().rewards.tolist() == [0, 1, 2, 3, 4]


def test_rows_are_copies() -> None:
    buffer = filled(5, 7)
    rows = buffer.transitions()
    buffer.append(numbered(7, 5))
    assert_same_rows(rows, numbered(2, 5))


appends = st.lists(st.integers(0, 12), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    history=appends, capacity=st.integers(1, 17), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1))
)
def test_any_history_keeps_the_newest_rows_by_number_and_slot(
    history: list[int], capacity: int, cuts: tuple[float, float]
) -> None:
    buffer = ReplayBuffer(capacity, 2, 1, "cpu")
    total = 0
    for count in history:
        buffer.append(numbered(total, count))
        total += count
    assert buffer.total == total
    assert len(buffer) == min(total, capacity)
    oldest = total - len(buffer)
    assert_same_rows(buffer.transitions(), numbered(oldest, len(buffer)))
    slots = buffer.all_rows().rewards.tolist()
    assert all(slots[number % capacity] == number for number in range(oldest, total))
    start, stop = sorted(oldest + round(cut * len(buffer)) for cut in cuts)
    assert_same_rows(buffer.rows(start, stop), numbered(start, stop - start))


@settings(max_examples=150, deadline=None)
@given(history=appends, after=appends, capacity=st.integers(1, 17), piece=st.integers(1, 9))
def test_loaded_rows_lie_where_they_lay(
    history: list[int], after: list[int], capacity: int, piece: int
) -> None:
    buffer, restored = (ReplayBuffer(capacity, 2, 1, "cpu") for _ in range(2))
    restored.append(numbered(1000, 5))
    for count in history:
        buffer.append(numbered(buffer.total, count))
    rows = buffer.transitions()
    pieces = [rows[start : start + piece] for start in range(0, len(rows), piece)]
    restored.load(iter(pieces), buffer.total - buffer.size, buffer.origin)
    # Appending goes on after a restore as if nothing had happened.
    for count in [0, *after]:
        for each in (buffer, restored):
            each.append(numbered(each.total, count))
        assert (restored.total, restored.size) == (buffer.total, buffer.size)
        assert torch.equal(restored.all_rows().rewards, buffer.all_rows().rewards)
        assert_same_rows(restored.transitions(), buffer.transitions())


def test_rows_that_would_leave_holes_are_refused() -> None:
    buffer = filled(5, 5)
    with pytest.raises(ValueError, match="4 rows from slot 3 on leave holes in a ring of 5"):
        buffer.load([numbered(3, 4)], 3, 0)
    assert (len(buffer), buffer.total) == (0, 0)


def test_a_load_that_breaks_off_leaves_an_empty_buffer() -> None:
    def broken() -> Iterator[Transitions]:
        yield numbered(7, 2)
        raise OSError("no more")

    buffer = filled(5, 9)
    with pytest.raises(OSError, match="no more"):
        buffer.load(broken(), 7)
    assert (len(buffer), buffer.total) == (0, 0)


def test_holdout_is_spread_over_the_whole_buffer() -> None:
    buffer = filled(1000, 1500)
    some = buffer.holdout(10).rewards.int()
    assert some.div(100, rounding_mode="floor").tolist() == list(range(5, 15))
