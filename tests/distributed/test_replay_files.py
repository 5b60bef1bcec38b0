"""Tests of saved replays: any history comes back, full parts are linked, damage is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pyarrow import fs

from distributed.replay_files import CACHE_PREFIX, MANIFEST_FILE, ReplayFiles
from distributed.wire import transition_schema
from mnm.replay import ReplayBuffer
from tests.mnm.small_cases import assert_same_rows, numbered, random_transitions

PART = 4  # rows of a part in most tests
capacities = st.integers(1, 17)


def ring(capacity: int, rows: int = 0, first: int = 0) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity, 2, 1, "cpu")
    buffer.append(numbered(first, rows))
    return buffer


@pytest.fixture
def files() -> Iterator[ReplayFiles]:
    made = ReplayFiles(PART)
    yield made
    made.close()


def loaded(folder: Path, capacity: int) -> ReplayBuffer:
    """What another process finds in `folder`."""
    buffer = ring(capacity)
    ReplayFiles(PART).load({"real": buffer}, folder)
    return buffer


class SavesAndLoads(RuleBasedStateMachine):
    """A buffer, saved and loaded in any order, beside a list of what it must hold.

    `slots` maps a slot to the number of the row in it, `saved` a folder to what was saved there, -1
    to the next slot and -2 to the running number that the next row gets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.files = ReplayFiles(PART)
        self.saved: dict[Path, tuple[int, dict[int, int]]] = {}
        self.rows = 0  # made in all, so that no two are alike
        self.folders = 0

    def teardown(self) -> None:
        self.files.close()
        for folder, (capacity, slots) in self.saved.items():
            self.begin(capacity)
            ReplayFiles(PART).load(self.buffers, folder)
            held = self.real.all_rows().rewards.tolist()
            assert held == [slots[slot] for slot in range(len(held))]
            assert len(held) == len(slots) - 2
        shutil.rmtree(self.folder)

    @initialize(capacity=capacities)
    def start(self, capacity: int) -> None:
        self.begin(capacity)
        self.slots: dict[int, int] = {}
        self.next_slot = self.total = 0

    def begin(self, capacity: int) -> None:
        self.capacity = capacity
        self.real, self.synthetic = ring(capacity), ring(2 * capacity)
        self.buffers = {"real": self.real, "synthetic": self.synthetic}

    @rule(count=st.integers(0, 6) | st.integers(0, 40))
    def append(self, count: int) -> None:
        for number in range(self.rows, self.rows + count):
            self.slots[self.next_slot] = number
            self.next_slot = (self.next_slot + 1) % self.capacity
        self.real.append(numbered(self.rows, count))
        self.synthetic.append(numbered(-self.rows, 2 * count))
        self.rows += count
        self.total += count

    @rule(again=st.booleans())
    def save(self, again: bool) -> None:
        if not (again and self.saved):
            self.folders += 1
        folder = self.folder / str(self.folders)
        self.files.save(self.buffers, folder)
        counts = {-1: self.next_slot, -2: self.total}
        self.saved[folder] = (self.capacity, {**self.slots, **counts})

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        folder = data.draw(st.sampled_from(sorted(self.saved)))
        shutil.rmtree(folder)
        del self.saved[folder]

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans(), move=st.booleans())
    def load(self, data: st.DataObject, fresh: bool, move: bool) -> None:
        folder = data.draw(st.sampled_from(sorted(self.saved)))
        if move:
            self.folders += 1
            moved = folder.rename(self.folder / str(self.folders))
            self.saved[moved] = self.saved.pop(folder)
            folder = moved
        if fresh:  # another process
            self.files.close()
            self.files = ReplayFiles(PART)
        capacity, slots = self.saved[folder]
        wanted = data.draw(st.one_of(st.just(capacity), capacities))
        self.begin(wanted)
        self.real.append(numbered(self.rows, 3))
        self.files.load(self.buffers, folder)
        slots = dict(slots)
        next_slot, self.total = slots.pop(-1), slots.pop(-2)
        if wanted != capacity:
            oldest = next_slot if len(slots) == capacity else 0
            numbers = [slots[(oldest + i) % capacity] for i in range(len(slots))][-wanted:]
            slots, next_slot = dict(enumerate(numbers)), len(numbers) % wanted
        self.slots, self.next_slot = slots, next_slot

    @invariant()
    def the_rows_are_in_their_slots(self) -> None:
        if not hasattr(self, "real"):
            return
        held = self.real.all_rows().rewards.tolist()
        assert held == [self.slots[slot] for slot in range(len(held))]
        assert len(held) == len(self.slots)
        oldest = self.next_slot if len(held) == self.capacity else 0
        order = np.roll(np.array([self.slots[slot] for slot in range(len(held))], int), -oldest)
        rows = self.real.transitions()
        assert_same_rows(rows, rows_numbered(order))
        # The number alone says which rows are held out: it goes on whatever the capacity.
        assert self.real.total == self.total
        assert (self.total - self.real.origin) % self.capacity == self.next_slot


def rows_numbered(numbers: np.ndarray):
    """`numbered` rows in any order."""
    every = numbered(0, int(numbers.max(initial=-1)) + 1)
    return type(every)(*(getattr(every, name)[numbers] for name in vars(every)))


TestSavesAndLoads = SavesAndLoads.TestCase
TestSavesAndLoads.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


# Files


def parts_of(folder: Path, name: str = "real") -> dict[str, os.stat_result]:
    return {file.name: file.stat() for file in sorted((folder / name).iterdir())}


def test_only_new_parts_are_written(files: ReplayFiles, tmp_path: Path) -> None:
    buffer = ring(100, 2 * PART + 3)
    files.save({"real": buffer}, tmp_path / "a")
    buffer.append(numbered(buffer.total, 3))
    files.save({"real": buffer}, tmp_path / "b")
    first, second = parts_of(tmp_path / "a"), parts_of(tmp_path / "b")
    assert list(first) == [f"part-{i:06d}.parquet" for i in range(3)]
    assert list(second) == [f"part-{i:06d}.parquet" for i in range(4)]
    same = [name for name in first if first[name].st_ino == second[name].st_ino]
    assert same == list(first)[:2], "the full parts, and not the third, which has grown"
    assert first["part-000002.parquet"].st_nlink == 1, "the old one is no longer kept"


def test_an_unchanged_replay_is_not_written_again(files: ReplayFiles, tmp_path: Path) -> None:
    buffer = ring(100, 2 * PART + 3)
    for name in "ab":
        files.save({"real": buffer}, tmp_path / name)
    inodes = [[s.st_ino for s in parts_of(tmp_path / name).values()] for name in "ab"]
    assert inodes[0] == inodes[1]


def test_parts_that_left_the_ring_are_not_saved(files: ReplayFiles, tmp_path: Path) -> None:
    buffer = ring(10, 10)
    files.save({"real": buffer}, tmp_path / "a")
    buffer.append(numbered(10, 7))  # rows 7 to 16 are held
    files.save({"real": buffer}, tmp_path / "b")
    first, second = parts_of(tmp_path / "a"), parts_of(tmp_path / "b")
    assert [name[7:11] for name in second] == ["0001", "0002", "0003", "0004"]
    assert second["part-000001.parquet"].st_ino == first["part-000001.parquet"].st_ino
    saved = json.loads((tmp_path / "b" / MANIFEST_FILE).read_text())["real"]
    assert (saved["capacity"], saved["total"], saved["size"]) == (10, 17, 10)
    assert saved["parts"][0] == {"file": "real/part-000001.parquet", "first_row": 4, "rows": 4}
    shutil.rmtree(tmp_path / "a")
    assert_same_rows(loaded(tmp_path / "b", 10).transitions(), numbered(7, 10))


def test_an_old_save_keeps_its_rows_when_a_part_of_its_name_is_written_anew(
    files: ReplayFiles, tmp_path: Path
) -> None:
    buffer = ring(100, 3)
    files.save({"real": buffer}, tmp_path / "a")
    buffer.append(numbered(3, 4))
    files.save({"real": buffer}, tmp_path / "b")
    assert_same_rows(loaded(tmp_path / "a", 100).transitions(), numbered(0, 3))


def test_after_a_load_the_numbers_stand_for_other_rows(files: ReplayFiles, tmp_path: Path) -> None:
    """What was saved before a load must not be taken for what is there after it."""
    buffer, other = ring(100, 2 * PART), ring(100, 2 * PART, first=500)
    ReplayFiles(PART).save({"real": other}, tmp_path / "other")
    files.save({"real": buffer}, tmp_path / "a")
    files.load({"real": buffer}, tmp_path / "other")
    files.save({"real": buffer}, tmp_path / "b")
    assert_same_rows(loaded(tmp_path / "b", 100).transitions(), numbered(500, 2 * PART))


def test_a_save_replaces_what_the_folder_held(files: ReplayFiles, tmp_path: Path) -> None:
    files.save({"real": ring(100, 30)}, tmp_path)
    ReplayFiles(PART).save({"real": ring(100, 2)}, tmp_path)
    assert list(parts_of(tmp_path)) == ["part-000000.parquet"]
    assert_same_rows(loaded(tmp_path, 100).transitions(), numbered(0, 2))


def test_kept_parts_that_someone_removed_are_written_again(
    files: ReplayFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    buffer = ring(100, 2 * PART)
    files.save({"real": buffer}, tmp_path / "a")
    shutil.rmtree(tmp_path / "temporary")
    files.save({"real": buffer}, tmp_path / "b")
    assert_same_rows(loaded(tmp_path / "b", 100).transitions(), numbered(0, 2 * PART))


def test_without_hard_links_parts_are_copied(
    files: ReplayFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    files.save({"real": ring(100, 9)}, tmp_path / "a")
    files.save({"real": ring(100, 9)}, tmp_path / "b")
    assert all(stat.st_nlink == 1 for stat in parts_of(tmp_path / "b").values())
    assert_same_rows(loaded(tmp_path / "b", 100).transitions(), numbered(0, 9))


def test_a_bucket_gets_the_same_rows(files: ReplayFiles, tmp_path: Path) -> None:
    """A filesystem that is not the local one, here below a root of its own."""
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    buffer = ring(10, 17)
    for folder in ("some/a", "some/b"):
        files.save({"real": buffer}, folder, bucket)
    assert all(stat.st_nlink == 1 for stat in parts_of(tmp_path / "some" / "b").values())
    restored = ring(10)
    ReplayFiles(PART).load({"real": restored}, "some/b", bucket)
    assert_same_rows(restored.transitions(), numbered(7, 10))


def test_a_part_is_a_parquet_file_of_the_one_schema(tmp_path: Path) -> None:
    buffer = ReplayBuffer(100, 5, 3, "cpu")
    rows = random_transitions(30, observation_dim=5, action_dim=3)
    rows.observations[0] = [np.nan, np.inf, -0.0, 1e-45, 3.4e38]
    buffer.append(rows)
    ReplayFiles().save({"real": buffer}, tmp_path)
    table = pq.read_table(tmp_path / "real" / "part-000000.parquet")
    assert table.schema.equals(transition_schema(5, 3))
    assert table.num_rows == 30
    restored = ReplayBuffer(100, 5, 3, "cpu")
    ReplayFiles().load({"real": restored}, tmp_path)
    assert restored.transitions().observations.tobytes() == rows.observations.tobytes()
    assert_same_rows(restored.transitions(), rows)


def test_an_empty_replay_is_saved_and_loaded(files: ReplayFiles, tmp_path: Path) -> None:
    files.save({"real": ring(5)}, tmp_path)
    buffer = ring(5, 9)
    files.load({"real": buffer}, tmp_path)
    assert (buffer.size, buffer.total) == (0, 0)


# Damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """Changes one bit of the data, which lies at the front; the length stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 8] ^= 1
    file.write_bytes(content)


def manifest_without_its_second_part(file: Path) -> None:
    content = json.loads(file.read_text())
    del content["real"]["parts"][1]
    file.write_text(json.dumps(content))


def other_rows(file: Path) -> None:
    pq.write_table(pq.read_table(file).slice(0, 3), file)


DAMAGES = {
    "no manifest": (MANIFEST_FILE, Path.unlink, "not whole: manifest.json is missing"),
    "cut manifest": (MANIFEST_FILE, cut, "damaged: manifest.json cannot be read"),
    "another manifest": (
        MANIFEST_FILE,
        lambda file: file.write_text('{"real": [1]}'),
        "damaged: manifest.json cannot be read",
    ),
    "a list for a manifest": (
        MANIFEST_FILE,
        lambda file: file.write_text("[]"),
        "damaged: manifest.json cannot be read",
    ),
    "a gap in the manifest": (
        MANIFEST_FILE,
        manifest_without_its_second_part,
        "damaged: manifest.json cannot be read",
    ),
    "no part": ("real/part-000001.parquet", Path.unlink, "not whole: real/part-000001.parquet is"),
    "cut part": ("real/part-000001.parquet", cut, "damaged: real/part-000001.parquet cannot be"),
    "part of fewer rows": (
        "real/part-000001.parquet",
        other_rows,
        "damaged: real/part-000001.parquet holds 3 rows instead of 4",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_is_refused_before_anything_changes(
    damage: str, files: ReplayFiles, tmp_path: Path
) -> None:
    file, do_damage, sentence = DAMAGES[damage]
    files.save({"real": ring(100, 11)}, tmp_path)
    do_damage(tmp_path / file)
    buffer = ring(100, 5, first=40)
    with pytest.raises(ValueError, match=sentence) as caught:
        files.load({"real": buffer}, tmp_path)
    assert "\n" not in str(caught.value)
    assert_same_rows(buffer.transitions(), numbered(40, 5))


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    files = ReplayFiles()
    files.save({"real": ring(5000, 5000)}, tmp_path)
    flip(tmp_path / "real" / "part-000000.parquet")
    buffer = ring(5000)
    with pytest.raises(ValueError, match=r"damaged: real/part-000000\.parquet cannot be read"):
        files.load({"real": buffer}, tmp_path)
    assert len(buffer) == 0


def test_rows_of_another_task_are_refused(files: ReplayFiles, tmp_path: Path) -> None:
    files.save({"real": ring(100, 11)}, tmp_path)
    other = ReplayBuffer(100, 3, 1, "cpu")
    with pytest.raises(ValueError, match=r"of another task: .* than 3 observations and 1 actions"):
        files.load({"real": other}, tmp_path)


def test_replays_of_another_algorithm_are_refused(files: ReplayFiles, tmp_path: Path) -> None:
    files.save({"real": ring(100, 11)}, tmp_path)
    with pytest.raises(ValueError, match="holds real transitions, not real and synthetic"):
        files.load({"real": ring(100), "synthetic": ring(100)}, tmp_path)


# The temporary folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def kept(temporary: Path) -> list[Path]:
    return list(temporary.glob(f"{CACHE_PREFIX}*"))


def test_closing_removes_the_kept_parts(temporary: Path) -> None:
    files = ReplayFiles(PART)
    assert kept(temporary) == []
    for _ in range(2):  # it can be used again
        files.save({"real": ring(100, 9)}, temporary / "saved")
        assert len(kept(temporary)) == 1
        files.close()
        assert kept(temporary) == []
    assert_same_rows(loaded(temporary / "saved", 100).transitions(), numbered(0, 9))


def test_what_a_killed_process_left_is_removed_and_nothing_else(temporary: Path) -> None:
    living = ReplayFiles(PART)
    living.save({"real": ring(100, 9)}, temporary / "a")
    (own,) = kept(temporary)
    killed = textwrap.dedent(
        f"""
        import os, signal
        from distributed.replay_files import ReplayFiles
        from mnm.replay import ReplayBuffer
        files = ReplayFiles()
        files.save({{"real": ReplayBuffer(5, 2, 1, "cpu")}}, {str(temporary / "b")!r})
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    ended = subprocess.run([sys.executable, "-c", killed], env=environment, check=False)
    assert ended.returncode == -9
    assert len(kept(temporary)) == 2
    files = ReplayFiles(PART)
    files.save({"real": ring(100, 9)}, temporary / "c")
    assert own in kept(temporary)
    assert len(kept(temporary)) == 2, "that of the killed process is gone, ours is new"
    files.close()
    living.close()
