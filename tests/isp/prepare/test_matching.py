"""Which picture belongs to which RAW file: as people keep them, and nothing where two would do."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.prepare.matching import Matches, distance, folder_key, match, name_key


def matched(*names: str) -> Matches:
    paths = [Path(name) for name in names]
    raws = [path for path in paths if path.suffix.lower() in (".dng", ".nef", ".arw", ".cr2")]
    return match(raws, [path for path in paths if path not in raws])


def chosen(*names: str) -> set[tuple[str, str]]:
    found = matched(*names)
    return {(str(raw), str(picture)) for raw, picture in (found.near | found.far).items()}


@pytest.mark.parametrize(
    ("raw", "picture"),
    [
        ("DSC_0001.NEF", "DSC_0001.JPG"),
        ("DSC01.ARW", "dsc01.jpg"),
        ("dsc01.arw", "DSC01.JPEG"),
        ("DSC01.ARW", "DSC01.png"),
        ("DSC01.ARW", "DSC01.TIFF"),
        ("raw/DSC01.ARW", "jpg/DSC01.JPG"),
        ("RAW/DSC01.ARW", "JPEG/DSC01.JPG"),
        ("raws/DSC01.ARW", "jpegs/DSC01.JPG"),
        ("DNG/DSC01.dng", "JPG/dsc01.jpg"),
        ("ARW/DSC01.ARW", "DSC01.JPG"),
        ("DSC01.ARW", "jpgs/DSC01.JPG"),
        ("trip/raw/DSC01.ARW", "trip/jpg/DSC01.JPG"),
        ("Raw/trip/DSC01.ARW", "Jpg/trip/DSC01.JPG"),
        ("RAW files/DSC01.ARW", "JPG files/DSC01.JPG"),
        ("trip_raw/DSC01.ARW", "trip_jpg/DSC01.JPG"),
        ("2024-05-01 RAW/DSC01.ARW", "2024-05-01 JPG/DSC01.JPG"),
        ("raw1/DSC01.ARW", "jpg1/DSC01.JPG"),
        ("_RAW/DSC01.ARW", "_JPG/DSC01.JPG"),
        ("card1/DCIM/100NIKON/DSC_0001.NEF", "card2/DCIM/100NIKON/DSC_0001.JPG"),
        ("originals/DSC01.ARW", "export/web/DSC01.JPG"),
        ("PXL_20240101_120000123.RAW-02.ORIGINAL.dng", "PXL_20240101_120000123.RAW-01.COVER.jpg"),
        ("PXL_20240101_120000123.RAW-02.ORIGINAL.dng", "PXL_20240101_120000123.RAW-01.MP.COVER.jpg"),
        ("PXL_20240101_120000123.NIGHT.RAW-02.ORIGINAL.dng", "PXL_20240101_120000123.NIGHT.RAW-01.COVER.jpg"),
        ("PXL_20240101_120000123.dng", "PXL_20240101_120000123.MP.jpg"),
        ("20240101_120000.dng", "20240101_120000.jpg"),
        ("IMG_20240101_120000_RAW.dng", "IMG_20240101_120000.jpg"),
        ("RAW_20240101_120000.dng", "IMG_20240101_120000.jpg"),
        ("IMG_1234.raw.dng", "IMG_1234.jpg"),
        ("Ho\u0308he.NEF", "H\u00f6he.jpg"),
        ("\udcff\udcfe.dng", "\udcff\udcfe.jpg"),
    ],
)
def test_a_pair_as_people_keep_it(raw, picture):
    assert chosen(raw, picture) == {(raw, picture)}


@pytest.mark.parametrize(
    ("files", "pairs"),
    [
        # equal names in different folders are different shots
        (
            ("100NIKON/D1.NEF", "100NIKON/D1.JPG", "101NIKON/D1.NEF", "101NIKON/D1.JPG"),
            {("100NIKON/D1.NEF", "100NIKON/D1.JPG"), ("101NIKON/D1.NEF", "101NIKON/D1.JPG")},
        ),
        (
            ("raw/100/D1.NEF", "raw/101/D1.NEF", "jpg/101/D1.JPG", "jpg/100/D1.JPG"),
            {("raw/100/D1.NEF", "jpg/100/D1.JPG"), ("raw/101/D1.NEF", "jpg/101/D1.JPG")},
        ),
        (
            ("a/raw/D1.NEF", "a/export/full/D1.JPG", "b/raw/D1.NEF", "b/export/full/D1.JPG"),
            {("a/raw/D1.NEF", "a/export/full/D1.JPG"), ("b/raw/D1.NEF", "b/export/full/D1.JPG")},
        ),
        # a JPEG before a TIFF before a PNG, also if only the JPEG lies in the twin folder
        (("D1.NEF", "D1.png", "D1.tif", "D1.jpg"), {("D1.NEF", "D1.jpg")}),
        (("D1.NEF", "D1.png", "D1.tif"), {("D1.NEF", "D1.tif")}),
        (("raw/D1.NEF", "raw/D1.png", "jpg/D1.jpg"), {("raw/D1.NEF", "jpg/D1.jpg")}),
        # the same folder before a twin, the same case before another
        (("D1.NEF", "D1.jpg", "jpg/D1.jpg"), {("D1.NEF", "D1.jpg")}),
        (("d1.dng", "D1.dng", "d1.jpg", "D1.jpg"), {("d1.dng", "d1.jpg"), ("D1.dng", "D1.jpg")}),
        # a DNG is the copy of the camera's own file
        (("D1.NEF", "D1.dng", "D1.jpg", "D1.png"), {("D1.NEF", "D1.jpg")}),
        (("nef/D1.NEF", "dng/D1.dng", "jpg/D1.jpg"), {("nef/D1.NEF", "jpg/D1.jpg")}),
        # what cannot be told apart is no pair
        (("D1.NEF", "D1.jpg", "D1.jpeg"), set()),
        (("D1.NEF", "D1.ARW", "D1.jpg"), set()),
        (("raw/D1.NEF", "nef/D1.NEF", "jpg/D1.jpg"), set()),
        (("100/D1.NEF", "101/D1.NEF", "jpg/D1.jpg"), set()),
        # a word that only begins like one of a kind, another number
        (("D1.NEF", "D10.jpg"), set()),
        (("drawings/D1.NEF", "drawings2/D2.jpg"), set()),
    ],
)
def test_the_nearest_of_several(files, pairs):
    assert chosen(*files) == pairs == chosen(*reversed(files))


def test_what_is_left_is_told():
    found = matched("D1.NEF", "D1.dng", "D1.jpg", "D1.png", "D2.NEF", "D2.jpg", "D2.jpeg", "D3.jpg", "web/D1.jpg")
    assert found.copies == {Path("D1.dng"): Path("D1.NEF")}
    assert found.undecided == {Path("D2.NEF"): ([Path("D2.NEF")], [Path("D2.jpg"), Path("D2.jpeg")])}
    assert found.unclaimed == [Path("D3.jpg")]
    assert set(found.spare) == {Path("D1.png"), Path("web/D1.jpg")}


def test_folders_far_apart_count_their_steps():
    assert distance(Path("a/raw/x"), Path("a/jpg/y")) == 0
    assert distance(Path("a/b/x"), Path("a/c/y")) == 2
    assert distance(Path("x"), Path("a/b/y")) == 2
    assert folder_key(Path("a/Draws/100NEF")) == ("a", "draws", "100nef")
    assert name_key("raw") == "raw" and name_key("IMG_1234") == "img_1234"


PARTS = st.sampled_from(["raw", "jpg", "a", "b", "A", "NEF x"])
FILES = st.lists(
    st.builds(
        lambda folder, stem, suffix: "/".join([*folder, stem + suffix]),
        st.lists(PARTS, max_size=2),
        st.sampled_from(["D1", "d1", "D1_raw", "D2"]),
        st.sampled_from([".NEF", ".dng", ".jpg", ".JPEG", ".png", ".tif"]),
    ),
    unique=True,
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(FILES)
def test_no_file_is_lost_or_used_twice(names):
    """Every file is in one place of the result, every picture belongs to one RAW file, and the order does not matter."""
    found = matched(*names)
    pairs = found.near | found.far
    raws = {Path(name) for name in names if Path(name).suffix in (".NEF", ".dng")}
    assert len(set(pairs.values())) == len(pairs)
    assert not {*pairs} & ({*found.copies} | {*found.undecided}) and {*pairs} <= raws
    undecided = {picture for _, pictures in found.undecided.values() for picture in pictures}
    pictures = [*pairs.values(), *found.unclaimed, *found.spare, *undecided]
    assert sorted(pictures) == sorted({Path(name) for name in names} - raws)
    assert pairs == matched(*reversed(names)).near | matched(*reversed(names)).far
