"""Directories of TIFF files: all that can be reached, and no damage that stops more than itself."""

import struct
import time

import numpy as np
import pytest

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
        with pytest.raises((struct.error, ValueError)):
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
