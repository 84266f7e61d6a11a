"""`ShardDataset` as a training job uses it: crops, epochs, workers, handles."""

import copy
import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from torch.utils.data import ConcatDataset, DataLoader, Subset

from blursynth import ShardDataset
from blursynth.shards import folders
from blursynth.stages.geometry import DIHEDRAL, turn
from isp.rng import generator

COUNT = 5


@pytest.fixture
def pairs(shards) -> Iterator[ShardDataset]:
    """Crops of 32 out of 48, turned."""
    dataset = ShardDataset(shards(), crop=32, augment=True, seed=3)
    yield dataset
    dataset.close()


def whole(folder: Path, i: int) -> dict[str, torch.Tensor]:
    with h5py.File(folder / f"shard-0000{i // 2}.h5", locking=False) as file:
        return {
            name: torch.from_numpy(file[name][i % 2].astype(np.float32) / np.float32(255)).permute(2, 0, 1)
            for name in ("blur", "sharp")
        }


def equal(one: dict, other: dict) -> bool:
    return one["index"] == other["index"] and all(torch.equal(one[name], other[name]) for name in ("blur", "sharp"))


def open_shards() -> list[str]:
    targets = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(handle.readlink()))
        except FileNotFoundError:
            continue  # of the listing itself
    return [target for target in targets if target.endswith(".h5")]


def test_whole_pairs(shards):
    dataset = ShardDataset(shards())
    assert len(dataset) == COUNT
    for i in range(COUNT):
        pair = dataset[i]
        assert equal(pair, whole(shards(), i) | {"index": i})
        assert equal(dataset[i - COUNT], pair)
        assert {pair[name].dtype for name in ("blur", "sharp")} == {torch.float32}
        assert pair["blur"].is_contiguous()
    for i in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError, match=f"expected an index below 5, got {i}"):
            dataset[i]
    assert len(list(dataset)) == COUNT  # so that a for loop ends
    dataset.close()


def test_crops_are_windows_of_both_and_turned_alike(pairs, shards):
    places = set()
    for epoch in range(12):
        pairs.set_epoch(epoch)
        for i in range(COUNT):
            pair, full = pairs[i], whole(shards(), i)
            both = torch.cat([full["blur"], full["sharp"]])
            got = torch.cat([pair["blur"], pair["sharp"]])
            found = []
            for element in DIHEDRAL:
                turned = turn(got, element)
                corners = (both[:, :17, :17] == turned[:, :1, :1]).all(0).nonzero().tolist()
                found += [(element, y, x) for y, x in corners if torch.equal(both[:, y : y + 32, x : x + 32], turned)]
            assert len(found) == 1
            places |= set(found)
    assert {element for element, _, _ in places} == set(DIHEDRAL)
    tops, lefts = ({place[axis] for place in places} for axis in (1, 2))
    assert all(len(axis) > 10 and min(axis) <= 2 and max(axis) >= 14 for axis in (tops, lefts))


def test_draws_are_addressed(pairs, shards):
    first = [pairs[i] for i in range(COUNT)]
    assert all(equal(pairs[i], first[i]) for i in (3, 0, 4, 4, 1, 2))  # whatever the order
    again = ShardDataset(shards(), crop=32, augment=True, seed=3)
    assert all(equal(again[i], first[i]) for i in range(COUNT))
    again.set_epoch(1)
    second = [again[i] for i in range(COUNT)]
    assert sum(equal(one, other) for one, other in zip(first, second, strict=True)) == 0
    again.set_epoch(0)
    assert equal(again[2], first[2])
    other = ShardDataset(shards(), crop=32, augment=True, seed=4)
    assert sum(equal(other[i], first[i]) for i in range(COUNT)) == 0
    # A crop is the same with and without turns.
    plain = ShardDataset(shards(), crop=32, seed=3)
    assert any(torch.equal(turn(plain[2]["blur"], element), first[2]["blur"]) for element in DIHEDRAL)
    for dataset in (again, other, plain):
        dataset.close()


INDICES = {
    "int8": np.int8, "uint8": np.uint8, "int32": np.int32, "int64": np.int64, "tensor": torch.tensor,
    "small tensor": lambda i: torch.tensor(i, dtype=torch.int16), "0-d array": np.array, "bool": bool,
}  # fmt: skip


@pytest.mark.parametrize("kind", INDICES.values(), ids=INDICES)
def test_any_whole_number_is_an_index(kind, pairs):
    for epoch in (0, 100):  # 100 * 5 does not fit into 8 bits
        pairs.set_epoch(epoch)
        assert equal(pairs[kind(1)], pairs[1])
        assert equal(pairs.__getitems__([kind(1)])[0], pairs[1])
    with pytest.raises((TypeError, BeartypeCallHintViolation)):
        pairs[1.0]


def test_threads_share_a_dataset(pairs, monkeypatch):
    monkeypatch.setattr("blursynth.shards.dataset._MOST_OPEN_FILES", 1)
    expected = [pairs[i] for i in range(COUNT)]
    order = generator(0, 0, "test.threads").integers(0, COUNT, 400).tolist()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(pairs.__getitem__, order))
    finally:
        sys.setswitchinterval(interval)
    assert all(equal(pair, expected[i]) for i, pair in zip(order, got, strict=True))


def test_pairs_come_on_the_cpu(shards):
    before = torch.get_default_device()
    torch.set_default_device("meta")
    try:
        dataset = ShardDataset(shards(), crop=32, augment=True)
        dataset.set_epoch(2)
        assert {dataset[0][name].device.type for name in ("blur", "sharp")} == {"cpu"}
    finally:
        torch.set_default_device(before)
    dataset.close()


# ---------------------------------------------------------------- epochs


def crops(loader) -> list[float]:
    """What tells the crops of one epoch apart, in the order of the pairs."""
    found = [(int(i), float(x.double().sum())) for b in loader for i, x in zip(b["index"], b["blur"], strict=True)]
    return [value for _, value in sorted(found)]


WRAPPED = {
    "plain": lambda pairs: pairs,
    "subset": lambda pairs: Subset(pairs, np.arange(COUNT, dtype="int32")),
    "joined": lambda pairs: ConcatDataset([Subset(pairs, [0, 1]), Subset(pairs, [2, 3, 4])]),
}


@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize(
    ("wrapped", "workers", "persistent"),
    [
        ("plain", 0, False), ("plain", 2, False), ("plain", 2, True),
        ("subset", 0, False), ("subset", 2, True), ("joined", 2, True),
    ],
)  # fmt: skip
def test_a_plain_loader_gets_new_crops_every_epoch(wrapped, workers, persistent, pairs):
    loader = DataLoader(
        WRAPPED[wrapped](pairs), batch_size=2, shuffle=True, num_workers=workers, persistent_workers=persistent
    )
    epochs = [crops(loader) for _ in range(3)]
    assert all(len(set(of_pair)) == 3 for of_pair in zip(*epochs, strict=True))
    for epoch, found in enumerate(epochs):  # and they are those of `set_epoch`
        pairs.set_epoch(epoch)
        assert found == crops([{"index": [i], "blur": pairs[i]["blur"][None]} for i in range(COUNT)])
        assert found == crops(loader)


COPIES = {
    "pickle": lambda pairs: pickle.loads(pickle.dumps(pairs)),
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda pairs: pickle.loads(pickle.dumps(copy.deepcopy(pairs))),
}


@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_tells_its_own_workers_the_epoch(copied, pairs):
    pairs.set_epoch(7)
    other = copied(pairs)
    assert equal(other[1], pairs[1])  # it begins in the epoch of the original
    loader = DataLoader(other, batch_size=2, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 5):
        other.set_epoch(epoch)
        assert crops(loader) == crops([{"index": [i], "blur": other[i]["blur"][None]} for i in range(COUNT)])
    other.set_epoch(1)
    expected = other[1]
    pairs.set_epoch(7)  # the original goes its own way
    assert equal(other[1], expected)
    other.close()


@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize(("workers", "shuffle"), [(0, False), (1, True), (1, False)])
def test_a_rank_that_was_forked_has_an_epoch_of_its_own(workers, shuffle, pairs):
    """Also if its workers were started before anything asked for the length, as they are without a shuffle."""
    pairs.set_epoch(9)
    expected = [float(pairs[i]["blur"].double().sum()) for i in range(COUNT)]
    pairs.set_epoch(1)
    pid = os.fork()
    if pid == 0:
        right = False
        try:
            loader = DataLoader(
                pairs, batch_size=COUNT, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0
            )
            first = crops(loader)
            pairs.set_epoch(9)
            right = crops(loader) == expected != first
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_ranks_draw_different_crops_of_a_pair(pairs, monkeypatch):
    seen = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        asked_before = pickle.loads(pickle.dumps(pairs))
        seen += [crops(DataLoader(asked_before, batch_size=2))[0] for _ in range(2)]
        asked_before.close()
    assert len(set(seen)) == 6


def test_one_process_does_without_shared_memory(shards, monkeypatch):
    def refuse(tensor):
        raise RuntimeError(
            "unable to open shared memory object </torch_1> in read-write mode: Read-only file system (30)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    dataset = ShardDataset(shards(), crop=32)
    loader = DataLoader(dataset, batch_size=2)
    assert crops(loader) != crops(loader)
    dataset.close()


@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_persistent_workers_see_the_epoch(method, pairs):
    pairs[0]  # so that there is an open file to inherit
    loader = DataLoader(
        pairs, batch_size=2, num_workers=2, persistent_workers=True, multiprocessing_context=method, timeout=60
    )
    workers = set()
    for epoch in (0, 3):
        pairs.set_epoch(epoch)
        batches = list(loader)
        workers.add(tuple(worker.pid for worker in loader._iterator._workers))
        expected = [pairs[i] for i in range(COUNT)]
        assert torch.equal(torch.cat([batch["index"] for batch in batches]), torch.arange(COUNT))
        for name in ("blur", "sharp"):
            assert torch.equal(torch.cat([batch[name] for batch in batches]), torch.stack([p[name] for p in expected]))
    assert len(workers) == 1  # the same processes in both epochs
    loader._iterator._shutdown_workers()


def test_pickled_without_handles(pairs):
    expected = pairs[4]
    assert pairs._open
    copied = pickle.loads(pickle.dumps(pairs))
    assert not copied._open
    assert equal(copied[4], expected)
    copied.close()
    assert equal(pairs[4], expected)  # still open


@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_forked_child_opens_its_own(pairs):
    expected = pairs[0]
    inherited = {id(file) for file in pairs._open.values()}
    pid = os.fork()
    if pid == 0:
        # A child that fails in whatever way must not come back into pytest.
        right = False
        try:
            right = equal(pairs[0], expected) and inherited.isdisjoint(map(id, pairs._open.values()))
            pairs.close()
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert equal(pairs[0], expected)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files through /proc")
def test_no_handle_is_left(pairs, monkeypatch):
    before = open_shards()
    for i in range(COUNT):
        pairs[i]
    assert len(open_shards()) == len(before) + 3
    pairs.close()
    assert open_shards() == before
    pairs[0]  # opens again
    assert len(open_shards()) == len(before) + 1
    pairs.close()
    monkeypatch.setattr("blursynth.shards.dataset._MOST_OPEN_FILES", 2)
    for i in (0, 2, 4, 0, 2, 4):
        pairs[i]
        assert len(open_shards()) <= len(before) + 2
    pairs.close()
    assert open_shards() == before


def test_sixteen_bits(recipe_file, tmp_path):
    from blursynth import make

    command = ["--recipe", recipe_file(bits=16), "--out", str(tmp_path), "--count", "1", "--workers", "0"]
    assert make.main(command) == 0
    dataset = ShardDataset(tmp_path, crop=48)
    with h5py.File(tmp_path / "shard-00000.h5", locking=False) as file:
        stored = file["blur"][0]
    assert torch.equal(
        dataset[0]["blur"], torch.from_numpy(stored.astype(np.float32) / np.float32(65535)).permute(2, 0, 1)
    )
    dataset.close()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("crop", [0, -1, 49])
def test_impossible_crops(crop, shards):
    with pytest.raises(ValueError, match=f"crop: expected a side of 1 to 48 .* got {crop}"):
        ShardDataset(shards(), crop=crop)


def test_unfinished_and_incomplete_folders(copied, tmp_path):
    with pytest.raises(ValueError, match=r"expected a finished folder of shards, .*; run blursynth\.make again"):
        ShardDataset(tmp_path)
    folder = copied()
    (folder / "shard-00001.h5").unlink()
    with pytest.raises(ValueError, match=r"got none of shard-00001\.h5; run python -m blursynth\.verify --repair"):
        ShardDataset(folder)
    (folder / folders.MANIFEST).unlink()
    with pytest.raises(ValueError, match="expected a finished folder"):
        ShardDataset(folder)


def test_a_manifest_cannot_lead_elsewhere(copied):
    folder = copied()
    manifest = (folder / folders.MANIFEST).read_text()
    shutil.move(folder / "shard-00001.h5", folder.parent)
    (folder / folders.MANIFEST).write_text(manifest.replace("shard-00001.h5", "../shard-00001.h5"))
    with pytest.raises(ValueError, match="expected the name of a shard"):
        ShardDataset(folder)


def work_of_opening(folder: Path, shards: int) -> int:
    """How many calls it takes to open a folder whose manifest lists so many shards."""
    manifest = json.loads((folder / folders.MANIFEST).read_text())
    first, per_shard = manifest["shards"][0], manifest["recipe"]["samples_per_shard"]
    names = [f"shard-{number:05d}.h5" for number in range(shards)]
    for name in names[1:]:
        (folder / name).unlink(missing_ok=True)
        os.link(folder / names[0], folder / name)
    entries = [first | {"shard": name, "first_index": at * per_shard} for at, name in enumerate(names)]
    (folder / folders.MANIFEST).write_text(json.dumps(manifest | {"shards": entries}))
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        dataset = ShardDataset(folder)
    finally:
        sys.setprofile(before)
    assert len(dataset) == shards * first["count"]
    dataset.close()
    return calls


def test_the_work_of_opening_grows_with_the_number_of_shards(copied):
    folder = copied()
    work_of_opening(folder, 3)  # what is done once in a process
    few, some, many = (work_of_opening(folder, shards) for shards in (100, 200, 800))
    assert many - few < 1.05 * 7 * (some - few)  # a sum over all earlier shards for each would add 63 times as much


def test_flipped_bit_is_not_read(copied):
    folder = copied()
    path = folder / "shard-00000.h5"
    with h5py.File(path, locking=False) as file:
        position = file["blur"].id.get_chunk_info(0).byte_offset + 77
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)
    dataset = ShardDataset(folder)
    with pytest.raises(
        OSError,
        match=r"shard-00000\.h5: expected /blur of pair 0, got: pixels that do not match their CRC-32; run .*verify --repair",
    ):
        dataset[0]
    assert dataset[1]["index"] == 1
    dataset.close()


def test_empty_shards_are_passed_over(copied):
    folder = copied()
    manifest = json.loads((folder / folders.MANIFEST).read_text())
    skipped = [{"index": index, "source": "a.png", "reason": "damaged"} for index in range(2)]
    manifest["shards"][0] |= {"count": 0, "skipped": skipped}
    (folder / folders.MANIFEST).write_text(json.dumps(manifest))
    dataset = ShardDataset(folder)
    assert len(dataset) == 3
    assert torch.equal(dataset[0]["blur"], whole(folder, 2)["blur"])
    dataset.close()
