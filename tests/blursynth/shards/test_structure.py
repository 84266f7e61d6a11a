"""Whatever a file holds instead of a shard is refused with a sentence, before anything of it is followed or allocated."""

import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from blursynth import ShardDataset
from blursynth.digests import digest_of
from blursynth.shards.reader import open_shard
from blursynth.shards.soundness import problems_of

Edit = Callable[[h5py.File], None]
SECRET = "secret.h5"


def like(array: np.ndarray, **changes) -> dict:
    """How a shard stores an array of pairs."""
    return {"data": array, "chunks": (1, *array.shape[1:]), "fletcher32": True} | changes


def replaced(name: str, create: Callable[[h5py.File, np.ndarray], None]) -> Edit:
    """Another object in the place of a dataset, made from the content of that dataset."""

    def edit(file: h5py.File) -> None:
        content = file[name][:]
        del file[name]
        create(file, content)

    return edit


def blur(**changes) -> Edit:
    return replaced("blur", lambda file, pixels: file.create_dataset("blur", **like(pixels, **changes)))


def blur_of(change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    return replaced("blur", lambda file, pixels: file.create_dataset("blur", **like(change(pixels))))


def external(file: h5py.File, pixels: np.ndarray) -> None:
    place = Path(file.filename).with_name("secret.bin")
    file.create_dataset("blur", pixels.shape, pixels.dtype, external=[(str(place), 0, pixels.nbytes)])


def virtual(file: h5py.File, pixels: np.ndarray) -> None:
    layout = h5py.VirtualLayout(pixels.shape, pixels.dtype)
    layout[:] = h5py.VirtualSource(str(Path(file.filename).with_name(SECRET)), "x", pixels.shape)
    file.create_virtual_dataset("blur", layout)


def empty(file: h5py.File, pixels: np.ndarray) -> None:
    file["blur"] = h5py.Empty("u1")


def compact(file: h5py.File, pixels: np.ndarray) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((2, 4, 4, 3))
    h5py.h5d.create(file.id, b"blur", h5py.h5t.STD_U8LE, space, properties)


def huge(file: h5py.File, pixels: np.ndarray) -> None:
    file.create_dataset("blur", (2, 10**6, 10**6, 3), "u1", chunks=(1, 256, 256, 3), fletcher32=True)


def references(file: h5py.File, pixels: np.ndarray) -> None:
    content = np.full((2, 1, 1, 3), file["sharp"].ref, h5py.ref_dtype)
    file.create_dataset("blur", data=content, dtype=h5py.ref_dtype, chunks=(1, 1, 1, 3))


def lists(file: h5py.File, pixels: np.ndarray) -> None:
    file.create_dataset("blur", (2,), h5py.vlen_dtype("u1"), chunks=(1,))


def records(dtype, content=None) -> Edit:
    def create(file: h5py.File, lines: np.ndarray) -> None:
        file.create_dataset("record", data=lines if content is None else content, dtype=dtype, chunks=(2,))

    return replaced("record", create)


def sums(**changes) -> Edit:
    return replaced(
        "crc32", lambda file, found: file.create_dataset("crc32", **like(found, chunks=found.shape) | changes)
    )


def soft(file: h5py.File, pixels: np.ndarray) -> None:
    file["blur"] = h5py.SoftLink("/sharp")


def elsewhere(file: h5py.File, pixels: np.ndarray) -> None:
    file["blur"] = h5py.ExternalLink(SECRET, "/x")


def group(file: h5py.File, pixels: np.ndarray) -> None:
    file.create_group("blur")


def named_type(file: h5py.File, pixels: np.ndarray) -> None:
    file["blur"] = np.dtype("u1")


def many(file: h5py.File) -> None:
    for number in range(70):
        file[f"depth{number}"] = 1


def extra(file: h5py.File) -> None:
    file.create_dataset("depth", **like(np.zeros((2, 3), np.uint8)))


def missing(file: h5py.File) -> None:
    del file["blur"]


def unrecorded(file: h5py.File) -> None:
    del file["record"]


def noted(file: h5py.File) -> None:
    file["blur"].attrs["scale"] = 2


def longer(file: h5py.File) -> None:
    file["kernel"].resize(1, axis=0)


DATASETS: dict[str, tuple[Edit, str]] = {
    "in another file": (replaced("blur", external), "/blur is stored in another file, expected in chunks"),
    "link to another file": (replaced("blur", elsewhere), "/blur is a link to another file"),
    "soft link": (replaced("blur", soft), "/blur is a soft link"),
    "view of another file": (replaced("blur", virtual), "/blur is stored as a view of other datasets"),
    "references": (replaced("blur", references), "Fletcher-32"),  # which HDF5 does not allow for references
    "lists": (replaced("blur", lists), "Fletcher-32"),
    "in one piece": (replaced("blur", lambda f, p: f.create_dataset("blur", data=p)), "/blur is stored in one piece"),
    "compact": (replaced("blur", compact), "/blur is stored in the header"),
    "a number": (replaced("blur", lambda f, p: f.create_dataset("blur", data=3)), "/blur is stored in one piece"),
    "nothing": (replaced("blur", empty), "/blur is stored "),
    "a group": (replaced("blur", group), "/blur is a group, expected a dataset"),
    "a type": (replaced("blur", named_type), "/blur is a type, expected a dataset"),
    "compressed": (blur(compression="gzip"), "/blur is not stored as it is with Fletcher-32"),
    "shuffled": (blur(shuffle=True), "/blur is not stored as it is with Fletcher-32"),
    "without checksums": (blur(fletcher32=False), "/blur is not stored as it is with Fletcher-32"),
    "other chunks": (blur(chunks=(2, 48, 48, 3)), "/blur is stored in chunks of 2 x 48 x 48 x 3, expected 1 x 48 x 48 x 3"),
    "floats": (blur_of(lambda pixels: pixels.astype("f4") * np.nan), "/blur holds float32, expected uint8"),
    "signed": (blur_of(lambda pixels: pixels.astype("i1")), "/blur holds int8, expected uint8"),
    "16 bits": (blur_of(lambda pixels: pixels.astype("u2")), "/blur holds uint16, expected uint8"),
    "other byte order": (blur_of(lambda pixels: pixels.astype(">f4")), "/blur holds >f4, expected uint8"),
    "complex": (blur_of(lambda pixels: pixels.astype("c8")), "/blur holds "),
    "texts": (blur_of(lambda pixels: pixels.astype("S1")), "/blur holds texts of 1 bytes, expected uint8"),
    "truths": (blur_of(lambda pixels: pixels > 9), "/blur holds something else, expected uint8"),
    "fields": (blur_of(lambda pixels: pixels.view([("v", "u1")])), "/blur holds several fields, expected uint8"),
    "another size": (
        blur_of(lambda pixels: pixels[:, :10, :10]),
        "/sharp has pairs of shape 48 x 48 x 3, expected 10 x 10 x 3",
    ),
    "four colours": (
        blur_of(lambda pixels: pixels[..., [0, 1, 2, 0]]),
        "/blur has pairs of shape 48 x 48 x 4, expected 48 x 48 x 3",
    ),
    "no colours": (blur_of(lambda pixels: pixels[..., 0]), "/blur has the shape 2 x 48 x 48, expected one of pairs of h w 3"),
    "no rows": (
        blur(data=np.zeros((2, 0, 48, 3), "u1"), chunks=(1, 1, 48, 3), maxshape=(2, 1, 48, 3)),
        "/blur has the shape 2 x 0 x 48 x 3",
    ),
    "one more pair": (blur_of(lambda pixels: np.concatenate([pixels, pixels[:1]])), "/blur has 3 samples, /record has 2"),
    "one pair less": (longer, "/kernel has 1 samples, /record has 2"),
    "a terapixel": (replaced("blur", huge), "/blur declares 6,000,000,000,000 bytes, more than the "),
    "an unknown array": (extra, "/depth is not an array of its recipe"),
    "a missing array": (missing, "/blur is missing"),
    "too many objects": (many, "more objects than a shard has"),
    "attributes of an array": (noted, "/blur has attributes, expected none"),
    "no records": (unrecorded, "/record is missing"),
    "records of any length": (records(h5py.string_dtype()), "/record is not stored as it is with Fletcher-32"),
    "records of numbers": (
        replaced("record", lambda f, _: f.create_dataset("record", **like(np.arange(2), chunks=(2,)))),
        "/record holds int64, expected texts of a fixed length",
    ),
    "endless records": (
        replaced("record", lambda f, _: f.create_dataset("record", (2,), "S2000000", chunks=(2,), fletcher32=True)),
        "/record holds texts of 2000000 bytes, expected texts of a fixed length, at most 1 MiB",
    ),
    "more records than samples": (
        replaced("record", lambda f, _: f.create_dataset("record", (10**9,), "S10", chunks=(9,), fletcher32=True)),
        "/record has the shape 1000000000, expected at most 2 records",
    ),
    "no sums": (lambda file: file.__delitem__("crc32"), "/crc32 is missing"),
    "sums of 64 bits": (sums(dtype="u8"), "/crc32 holds uint64, expected uint32"),
    "sums of other tiles": (
        replaced("crc32", lambda f, found: f.create_dataset("crc32", **like(found[:, 1:], chunks=(2, 3)))),
        "/crc32 has the shape 2 x 3, expected 2 x 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DATASETS)
def test_datasets(kind, copied, tmp_path):
    edit, expected = DATASETS[kind]
    folder = copied()
    path = folder / "shard-00000.h5"
    with h5py.File(folder / SECRET, "w") as file:
        file["x"] = np.full((2, 48, 48, 3), 77, np.uint8)
    (folder / "secret.bin").write_bytes(b"\x4d" * (2 * 48 * 48 * 3))
    with h5py.File(path, "r+") as file:
        edit(file)
    refused(path, expected)
    with pytest.raises(OSError, match=re.escape(f"{path}: expected a whole shard, got: ")):
        ShardDataset(folder)[0]


def refused(path: Path, expected: str) -> None:
    """Opening raises one sentence that holds `expected`, within little memory; verification says it as well."""
    tracemalloc.start()
    with pytest.raises(OSError) as raised, open_shard(path):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = str(raised.value)
    assert said.startswith(f"{path}: expected a ")
    assert expected in said
    assert "\n" not in said
    assert most < 4 << 20
    assert problems_of(path, None, None) == [said.removeprefix(f"{path}: ")]


# ---------------------------------------------------------------- attributes


def text(name: str, value: str) -> Edit:
    def edit(file: h5py.File) -> None:
        file.attrs.create(name, value.encode(), dtype=h5py.string_dtype("utf-8", len(value.encode())))

    return edit


def number(name: str, value: object, **how) -> Edit:
    return lambda file: file.attrs.create(name, value, **how)


def recipe(**changes) -> Edit:
    def edit(file: h5py.File) -> None:
        document = json.dumps(json.loads(file.attrs["recipe"]) | changes, sort_keys=True)
        text("recipe", document)(file)
        text("recipe_digest", digest_of([document]))(file)

    return edit


def not_a_recipe(document: str) -> Edit:
    def edit(file: h5py.File) -> None:
        text("recipe", document)(file)
        text("recipe_digest", digest_of([document]))(file)

    return edit


def unnamed(name: str) -> Edit:
    return lambda file: file.attrs.__delitem__(name)


def crowded(file: h5py.File) -> None:
    for each in range(70):
        file.attrs[f"a{each}"] = each


ATTRIBUTES: dict[str, tuple[Edit, str]] = {
    "unfinished": (number("complete", 0), "one that was not finished"),
    "never finished": (unnamed("complete"), "one that was not finished"),
    "of the future": (number("schema_version", 3), "one of schema 3; "),
    "of no schema": (unnamed("schema_version"), "one of schema None; "),
    "older than all": (number("schema_version", 0), "one of schema 0; "),
    "without seed": (unnamed("seed"), "one without the attributes seed"),
    "with a remark": (text("remark", "hello"), "attributes that no shard has: remark"),
    "with many": (crowded, "more attributes than a shard has"),
    "text for number": (text("seed", "7"), "its attribute seed is '7', expected int"),
    "number for text": (number("recipe", 3), "its attribute recipe is 3, expected str"),
    "fraction": (number("seed", 7.5), "its attribute seed is neither a whole number nor a text"),
    "list": (number("seed", [7, 7]), "its attribute seed is not a single value"),
    "list of texts": (number("recipe", [b"a", b"b"]), "its attribute recipe is not a single value"),
    "empty": (number("seed", h5py.Empty("i8")), "expected a whole shard, got: "),
    "of any length": (number("device", "cpu"), "its attribute device is a text of variable length"),
    "reference": (lambda f: f.attrs.create("seed", f["blur"].ref, dtype=h5py.ref_dtype), "its attribute seed is neither"),
    "not UTF-8": (number("device", b"\xff\xfe", dtype="S2"), "expected a whole shard, got: "),
    "another seed": (number("seed", -1), "seed: expected a whole number, 0 or more, got -1"),
    "another digest": (text("data_digest", "x" * 64), "data: expected a digest of 64 hexadecimal digits"),
    "pixels of nobody": (number("pixels", 0), "pixels: expected a whole number, 1 or more, got 0"),
    "negative index": (number("first_index", -2), "a first sample of -2"),
    "odd index": (number("first_index", 1), "a first sample of 1, with which no shard of 2 samples begins"),
    "another place": (number("first_index", 4), "the samples from 4 on, by its name they begin with 0: it lies in the place"),
    "another recipe": (text("recipe", "{}"), "its recipe does not match its digest"),
    "list for recipe": (not_a_recipe("[]"), "its recipe is not one of shards"),
    "no JSON": (not_a_recipe("{"), "its attribute recipe is not JSON"),
    "deep JSON": (not_a_recipe("[" * 50_000), "its attribute recipe is not JSON"),
    "12 bits": (recipe(bits=12), "its recipe is not one of shards"),
    "unknown arrays": (recipe(save=["depth"]), "its recipe is not one of shards"),
    "no samples": (recipe(samples_per_shard=0), "its recipe is not one of shards"),
    "too many samples": (recipe(samples_per_shard=10**12), "its recipe is not one of shards"),
    "fewer samples": (recipe(samples_per_shard=1), "/record has the shape 2, expected at most 1 records"),
    "skipped numbers": (text("skipped", "[1, 2]"), "its skipped samples are not a list"),
    "too many skipped": (
        text("skipped", json.dumps([{"index": 1, "source": "a", "reason": "b"}])),
        "/record has the shape 2, expected at most 1 records",
    ),
    "versions of nothing": (text("versions", "[]"), "its versions are not those of packages"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes(kind, copied, resum):
    edit, expected = ATTRIBUTES[kind]
    path = copied() / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        edit(file)
        resum(file)
    refused(path, expected)


def test_attributes_carry_a_sum(copied):
    path = copied() / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        text("versions", '{"torch": "9"}')(file)
    refused(path, "its attributes do not match their CRC-32")


# ---------------------------------------------------------------- files


def test_other_files(copied, tmp_path):
    path = copied() / "shard-00000.h5"
    whole = path.read_bytes()
    for content in (
        b"",
        b"text",
        b"\x89HDF\r\n\x1a\n",
        whole[:100],
        whole[: len(whole) // 2],
        whole[:-1],
        bytes(512) + whole,
    ):
        path.write_bytes(content)
        refused(path, "expected a whole shard, got: ")
    path.unlink()
    refused(path, "nothing there")
    path.mkdir()
    refused(path, "a folder")
    path.rmdir()
    os.mkfifo(path)  # opening it would wait for ever
    refused(path, "a named pipe")


def test_another_name_is_not_a_place(shards, tmp_path):
    """Only the name of a shard says which samples should be in it."""
    whole = (shards() / "shard-00001.h5").read_bytes()
    (tmp_path / "mine.h5").write_bytes(whole)
    with open_shard(tmp_path / "mine.h5") as shard:
        assert (shard.first_index, shard.count) == (2, 2)
    (tmp_path / "shard-00002.h5").write_bytes(whole)
    refused(tmp_path / "shard-00002.h5", "the samples from 2 on, by its name they begin with 4")
