"""Directories of TIFF files: all that can be reached, and no damage that is more than a `ValueError`."""

import struct
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.files import tiff

RAW = np.full((8, 16), 100, np.uint16)


def directory(entries, following=0) -> bytes:
    """Little-endian, every value a LONG that stands in its entry."""
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


@pytest.fixture
def tree() -> bytes:
    """A page with a sub-directory, and a second page behind it."""
    step = len(directory([(0, 0)] * 4))
    pages = (
        directory([(256, 10), (273, 200), (279, 30), (330, 8 + step)], following=8 + 2 * step),
        directory([(256, 20), (273, 230), (279, 40), (259, 7)]),
        directory([(256, 30), (324, 270), (325, 50), (999, 1)]),
    )
    return b"II*\0" + struct.pack("<I", 8) + b"".join(pages)


def test_every_directory_is_found(tree):
    found = {page["width"]: page for page in tiff.directories(tree)}
    assert found.keys() == {(10,), (20,), (30,)}
    assert [page["width"] for page in tiff.pages(tree)] == [(10,), (30,)]
    assert list(tiff.blocks(found[20,])) == [(230, 40)]
    assert list(tiff.blocks(found[30,])) == [(270, 50)]
    assert (found[10,]["compression"], found[20,]["compression"]) == ((1,), (7,))


def test_a_dng_is_one_directory(dng):
    content = dng(RAW)
    (page,) = tiff.directories(content)
    assert (page["width"], page["height"], page["colours"], page["bits"]) == ((16,), (8,), (32803,), (16,))
    ((offset, length),) = tiff.blocks(page)
    assert content[offset : offset + length] == RAW.tobytes()


def test_damage_hides_what_it_hits_and_no_more(tree):
    for length in range(len(tree)):
        widths = {page["width"] for page in tiff.directories(tree[:length])}
        assert widths <= {(10,), (20,), (30,)}
        with pytest.raises(ValueError, match=r"ends early|no TIFF"):
            tiff.pages(tree[:length])
    assert tiff.directories(b"no TIFF file") == []


def test_loops_and_senseless_counts_end(tree):
    step = len(directory([(0, 0)] * 4))
    loop = bytearray(tree)
    struct.pack_into("<I", loop, 8 + 3 * step - 4, 8)
    assert len(tiff.directories(bytes(loop))) == 3
    with pytest.raises(ValueError, match="form a loop"):
        tiff.pages(bytes(loop))
    many = bytearray(tree)
    struct.pack_into("<I", many, 8 + 2 + 4, 2**31)
    assert tiff.directories(bytes(many)) == []
    with pytest.raises(ValueError, match="a tag of 2147483648 values"):
        tiff.pages(bytes(many))


def test_a_damaged_list_of_directories_takes_no_minutes(tree):
    """A million offsets, each of a directory that says it has 65,535 entries."""
    many = bytearray(tree) + b"\xff" * 2**22
    struct.pack_into("<HHII", many, 8 + 2 + 3 * 12, 330, 4, 2**20, len(tree))
    struct.pack_into(f"<{2**20}I", many, len(tree), *range(len(tree), len(tree) + 2**20))
    start = time.process_time()
    assert {page.get("width") for page in tiff.directories(bytes(many))} >= {(10,), (30,)}
    assert time.process_time() - start < 2


# ---------------------------------------------------------------- damage of any kind

HEADS = [
    b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0",
    b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0\x10" + b"\0" * 7, b"MM\0+\0\x08\0\0" + b"\0" * 7 + b"\x10",
]  # fmt: skip


def examined(content):
    """Everything that this module reads of a file; it raises `ValueError` alone."""
    found = tiff.directories(content)
    with suppress(ValueError):
        found += tiff.pages(content)
    for page in found:
        list(tiff.blocks(page))
        for field in tiff.fields(content, page["at"][0]).values():
            with suppress(ValueError):
                tiff.numbers(content, field)
            with suppress(ValueError):
                tiff.content(content, field, 1000)
    for at in (0, 3, 2**31, 2**63 - 1, 2**63, 2**64 - 1):
        with suppress(ValueError):
            tiff.fields(content, at)
    return found


@given(st.sampled_from(HEADS), st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_random_bytes_behind_a_head(head, rest):
    examined(head + rest)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_random_entries(data):
    """Directories whose tags, types, counts and places are drawn, in all four layouts."""
    big, order = data.draw(st.booleans()), data.draw(st.sampled_from("<>"))
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    whole = 2**64 - 1 if big else 2**32 - 1
    places = st.one_of(st.integers(0, 300), st.sampled_from([2**31 - 1, 2**31, whole // 2, whole // 2 + 1, whole]))
    tags = st.sampled_from([254, 256, 258, 273, 279, 324, 325, 330, 50714, 51009, 65535])
    entries = data.draw(st.lists(st.tuples(tags, st.integers(0, 20), places, places), max_size=6))
    form = "HHQQ" if big else "HHII"
    body = struct.pack(order + ("Q" if big else "H"), len(entries))
    body += b"".join(struct.pack(order + form, *entry) for entry in entries)
    body += struct.pack(order + ("Q" if big else "I"), data.draw(places))
    examined(head + body + data.draw(st.binary(max_size=200)))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("place", [2**63 - 1, 2**63, 2**64 - 1, 0x80FFFFFFFFFFFFFF])
def test_places_beyond_what_an_index_holds(order, place):
    head = {"little": b"II+\0\x08\0\0\0", "big": b"MM\0+\0\x08\0\0"}[order]
    content = head + place.to_bytes(8, order)
    assert tiff.directories(content) == []
    with pytest.raises(ValueError, match="ends early"):
        tiff.pages(content)


def test_a_bigtiff_is_read_like_any_other():
    entries = struct.pack("<HHQQ", 256, 4, 1, 77) + struct.pack("<HHQQ", 273, 16, 1, 2**40)
    content = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2) + entries + struct.pack("<Q", 0)
    for read in (tiff.directories, tiff.pages):
        (page,) = read(content)
        assert (page["width"], page["offsets"]) == ((77,), (2**40,))


@pytest.mark.parametrize("entries", [4090, 1000])
def test_entries_that_name_the_same_bytes_again_and_again_take_no_minutes(entries):
    """Each of them is a million values; all of them together would be four thousand million."""
    shared = 8 + 2 + 12 * entries + 4
    tags = sorted([256, 257, 258, 273, 277, 279, 324, 325, 330, 339] * (entries // 10))
    body = b"".join(struct.pack("<HHII", tag, 4, 2**20, shared) for tag in tags)
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", 0) + b"\1" * 2**22
    start = time.process_time()
    examined(content)
    assert time.process_time() - start < 5
    with pytest.raises(ValueError, match="too many values"):
        tiff.pages(content)


def test_a_chain_of_pages_has_an_end():
    one = directory([(256, 1)])
    content = bytearray(b"II*\0" + struct.pack("<I", 8))
    for _ in range(5000):
        content += one[:-4] + struct.pack("<I", len(content) + len(one))
    with pytest.raises(ValueError, match="more than 1000 pages"):
        tiff.pages(bytes(content))
    assert len(tiff.directories(bytes(content))) == 100


@pytest.mark.parametrize(
    ("kind", "code", "values", "expected"),
    [
        (1, "4B", (1, 2, 3, 4), (1, 2, 3, 4)),
        (5, "4I", (3, 2, 1, 0), (1.5, None)),
        (10, "2i", (-1, 4), (-0.25,)),
        (8, "2h", (-5, 7), (-5, 7)),
        (11, "1f", (0.5,), (0.5,)),
        (12, "2d", (0.1, -2), (0.1, -2)),
    ],
)
def test_numbers_of_every_type(kind, code, values, expected):
    packed = struct.pack("<" + code, *values)
    count = len(packed) // {1: 1, 5: 8, 10: 8, 8: 2, 11: 4, 12: 8}[kind]
    inline = packed if len(packed) <= 4 else struct.pack("<I", 26)
    content = b"II*\0" + struct.pack("<IHHHI", 8, 1, 50714, kind, count) + inline.ljust(4, b"\0") + b"\0" * 4 + packed
    found = tiff.numbers(content, tiff.fields(content, 8)[50714])
    assert [None if value != value else value for value in found] == list(expected)
