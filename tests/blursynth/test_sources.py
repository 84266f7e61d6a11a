"""Sources: what is found, in which order, under which digest, and what is refused."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from blursynth import digests, sources
from blursynth.sources import BUILT_IN, Frames, Pairs, Photos, Pictures, Source
from isp.files.pictures import read_image, write_image

DATA = Path(__file__).parents[2].parent / "shared" / "data"
LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache of this test alone, in which files count as settled at once; the file in it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    return folder / "blursynth" / "digests.json"


def paint(path: Path, level: int = 0, shape=(4, 6, 3), depth=np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full(shape, level, depth))
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def sha256(*paths: Path) -> str:
    each = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


def names(footage) -> list[str]:
    return [clip.name for clip in footage.clips]


# ---------------------------------------------------------------- photographs


def test_built_in_photographs():
    footage = Photos().open(None)
    assert names(footage) == [f"scikit-image/{name}" for name in sorted(BUILT_IN)]
    assert footage.default_count == 32
    assert footage.skipped == {}
    for clip in footage.clips:
        pictures = clip.read()
        assert pictures.image.shape[0] == 1
        assert min(pictures.image.shape[1:3]) >= 300
        assert pictures.image.std() > 20
        assert pictures.saturation is None
        assert (pictures.sharp == pictures.image[0]).all()


def test_photographs_of_a_folder(tmp_path):
    for name in ("b/2.JPG", "b/10.tif", "a.png", "b-1.jpeg", "b.tiff", ".hidden.png", ".cache/x.png", "b/._2.jpg"):
        paint(tmp_path / name)
    for name in ("notes.txt", "b/more.TXT", "README", "clip.mp4", ".DS_Store"):
        (tmp_path / name).write_text("x")
    footage = Photos(pairs_per_photo=3).open(tmp_path)
    assert names(footage) == ["a.png", "b-1.jpeg", "b.tiff", "b/10.tif", "b/2.JPG"]
    assert footage.skipped == {".mp4": 1, ".txt": 2, "no suffix": 1}
    assert footage.default_count == 15
    assert footage.clips[0].digest == sha256(tmp_path / "a.png")


def test_16_bit_photographs_stay_16_bit(tmp_path):
    paint(tmp_path / "a.png", 40000, (5, 7, 3), np.uint16)
    pictures = Photos().open(tmp_path).clips[0].read()
    assert pictures.image.dtype == pictures.sharp.dtype == np.uint16
    assert pictures.image.shape == (1, 5, 7, 3)
    assert (pictures.image == 40000).all()


def test_one_photograph(tmp_path):
    path = paint(tmp_path / "a.png", 7)
    paint(tmp_path / "b.png")
    footage = Photos().open(path)
    assert names(footage) == ["a.png"]
    assert footage.default_count == 8
    assert footage.clips[0].read().image[0, 0, 0].tolist() == [7, 7, 7]


def test_the_pattern_chooses(tmp_path):
    for name in ("train/a/sharp/1.png", "train/a/blur/1.png", "test/b/sharp/1.png", "train/c.png"):
        paint(tmp_path / name)
    assert names(Photos(pattern="train/*/sharp/*").open(tmp_path)) == ["train/a/sharp/1.png"]
    assert names(Photos(pattern="**/sharp/*.png").open(tmp_path)) == ["test/b/sharp/1.png", "train/a/sharp/1.png"]
    assert names(Photos(pattern="*/*").open(tmp_path)) == ["train/c.png"]


def test_relative_data_folders(tmp_path, monkeypatch):
    paint(tmp_path / "photos" / "a.png", 9)
    monkeypatch.chdir(tmp_path)
    clip = Photos().open(Path("photos")).clips[0]
    monkeypatch.chdir("/")
    assert clip.name == "a.png"
    assert clip.read().sharp[0, 0, 0] == 9


def test_links_are_followed_for_files_and_loops_end(tmp_path):
    target = paint(tmp_path / "elsewhere" / "real.png", 5)
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "linked.png").symlink_to(target)
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "other").symlink_to(target.parent)
    (folder / "broken.png").symlink_to(tmp_path / "gone.png")
    (folder / "self.png").symlink_to(folder / "self.png")
    footage = Photos().open(folder)
    assert names(footage) == ["linked.png"]
    assert footage.clips[0].digest == sha256(target)
    assert footage.skipped == {"linked folder": 2, "unreadable": 2}
    (folder / "deeper").symlink_to(folder / "deep")
    paint(folder / "deep" / "a.png")
    assert names(Photos(pattern="*/*.png").open(folder)) == ["deep/a.png", "deeper/a.png"]


@pytest.mark.parametrize("content", [b"", b"a text file", "cut"])
def test_a_bad_photograph_is_named_when_it_is_read(tmp_path, content):
    path = paint(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-20] if content == "cut" else content)
    clip = Photos().open(tmp_path).clips[0]
    with pytest.raises(ValueError, match=r"a\.png: expected .*, got .*; "):
        clip.read()


# ---------------------------------------------------------------- frames


def film(folder: Path, frames: int, first: int = 0) -> None:
    for number in range(first, first + frames):
        paint(folder / f"{number:06d}.png", number)


def test_windows_of_frames(tmp_path):
    film(tmp_path / "b" / "sharp", 7)
    film(tmp_path / "a", 3, first=100)
    film(tmp_path / "short", 2)
    footage = Frames(window=3).open(tmp_path)
    assert names(footage) == ["a/000101.png", "b/sharp/000001.png", "b/sharp/000004.png"]
    assert footage.skipped == {"clip shorter than the window": 1}
    assert footage.default_count == 3
    clip = footage.clips[2]
    assert clip.digest == sha256(*(tmp_path / "b" / "sharp" / f"00000{number}.png" for number in (3, 4, 5)))
    pictures = clip.read()
    assert pictures.image.shape == (3, 4, 6, 3)
    assert pictures.image[:, 0, 0, 0].tolist() == [3, 4, 5]
    assert pictures.sharp[0, 0, 0] == 4
    assert pictures.saturation is None


def test_frames_directly_in_the_folder(tmp_path):
    film(tmp_path, 5)
    clip = Frames(window=5, pairs_per_window=4).open(tmp_path)
    assert names(clip) == ["000002.png"]
    assert clip.default_count == 4
    assert clip.clips[0].read().image[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@given(length=st.integers(3, 30), window=st.sampled_from([3, 5, 7]), stride=st.none() | st.integers(1, 9))
def test_windows_start_a_stride_apart_and_never_overrun(tmp_path_factory, length, window, stride):
    folder = tmp_path_factory.getbasetemp() / f"film-{length}"
    if not folder.exists():
        film(folder, 1)
        for number in range(1, length):
            (folder / f"{number:06d}.png").hardlink_to(folder / "000000.png")
    middles = [start + window // 2 for start in range(0, length, stride or window) if start + window <= length]
    if middles:
        assert names(Frames(window=window, stride=stride).open(folder)) == [f"{at:06d}.png" for at in middles]
    else:
        with pytest.raises(ValueError, match=f"expected a clip of at least {window} frames"):
            Frames(window=window, stride=stride).open(folder)


def test_frames_of_two_sizes_or_depths_are_refused(tmp_path):
    film(tmp_path, 3)
    paint(tmp_path / "000002.png", shape=(4, 7, 3))
    with pytest.raises(
        ValueError, match=r"000002\.png: expected 4x6 uint8 to go with .*000000\.png, got 4x7 uint8; make .* agree"
    ):
        Frames(window=3).open(tmp_path).clips[0].read()
    paint(tmp_path / "000002.png", depth=np.uint16)
    with pytest.raises(ValueError, match=r"expected 4x6 uint8 to go with .*000000\.png, got 4x6 uint16"):
        Frames(window=3).open(tmp_path).clips[0].read()


def test_numbers_without_leading_zeros_are_in_the_order_of_numbers(tmp_path):
    for number in range(9, 12):
        paint(tmp_path / "clip" / f"f{number}.png", number)
    clip = Frames(window=3).open(tmp_path).clips[0]
    assert clip.name == "clip/f10.png"
    assert clip.read().image[:, 0, 0, 0].tolist() == [9, 10, 11]


def test_broken_links_among_frames_are_refused(tmp_path):
    film(tmp_path, 4)
    (tmp_path / "000002.png").unlink()
    (tmp_path / "000002.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"expected frames without gaps, got 1 broken links .*; repair them"):
        Frames(window=3).open(tmp_path)


def test_too_few_frames_are_refused(tmp_path):
    film(tmp_path / "a", 4)
    film(tmp_path / "b", 6)
    with pytest.raises(
        ValueError, match=r"at least 11 frames in one folder, got 2 with at most 6; choose a smaller source\.window"
    ):
        Frames().open(tmp_path)


# ---------------------------------------------------------------- pairs

TRIPLES = {
    "gopro_u": (
        "centroid_blurred_img/7_GOPR0372_07_00_000047_003754_kernel_25_blurred.png",
        "centroid_blurred_mask_100/7_GOPR0372_07_00_000047_003754_kernel_25_blurred.png",
        "target_img/7_GOPR0372_07_00_000047_003754_kernel_25_gt.png",
    ),
    "gopro_abme": (
        "GOPR0372_07_00/000001/avg_inter_img/avg_blur.png",
        "GOPR0372_07_00/000001/avg_inter_mask_100/avg_blur.png",
        "GOPR0372_07_00/000001/gt/gt_sharp.png",
    ),
    "rsblur": (
        "0001/000001/avg65_img/avg_blur.png",
        "0001/000001/avg65_mask_100/avg_blur.png",
        "0001/000001/gt/gt_sharp.png",
    ),
}


def triple(folder: Path, layout: str, change=("", "")) -> list[str]:
    files = [name.replace(*change) for name in TRIPLES[layout]]
    for level, name in enumerate(files):
        paint(folder / name, 10 * (level + 1))
    return files


@pytest.mark.parametrize("layout", TRIPLES)
@pytest.mark.parametrize("pattern", ["**/*", "**/*blur*.png", "**/*_img/*"])
def test_ready_made_pairs(tmp_path, layout, pattern):
    first = triple(tmp_path, layout)
    second = triple(tmp_path, layout, ("1/", "2/") if "1/" in first[0] else ("7_GOPR", "8_GOPR"))
    footage = Pairs(layout=layout, pattern=pattern).open(tmp_path)
    assert names(footage) == [first[0], second[0]]
    assert footage.default_count == 2
    assert footage.skipped == {}
    assert footage.clips[0].digest == sha256(*(tmp_path / name for name in first))
    pictures = footage.clips[0].read()
    assert [pictures.image[0, 0, 0, 0], pictures.saturation[0, 0, 0], pictures.sharp[0, 0, 0]] == [10, 20, 30]
    assert pictures.image.shape == (1, 4, 6, 3)
    assert pictures.saturation.shape == pictures.sharp.shape == (4, 6, 3)


@pytest.mark.parametrize("layout", TRIPLES)
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_pair_that_lacks_a_file_is_refused_with_all_three_named(tmp_path, layout, missing):
    files = triple(tmp_path, layout)
    (tmp_path / files[missing]).unlink()
    with pytest.raises(ValueError, match=r"copy the data again") as caught:
        Pairs(layout=layout).open(tmp_path)
    paths = [str(tmp_path / name) for name in files]
    assert f"expected {', '.join(paths)}, got no {paths[missing]};" in str(caught.value)


def test_images_of_no_pair_are_counted(tmp_path):
    triple(tmp_path, "rsblur")
    paint(tmp_path / "0001/000001/real_blur/real_blur.png")
    assert Pairs(layout="rsblur").open(tmp_path).skipped == {"image of no pair": 1}
    with pytest.raises(
        ValueError, match=r'expected centroid_blurred_img/\*_blurred\.png.*"gopro_u"\), got none of them'
    ):
        Pairs(layout="gopro_u").open(tmp_path)


@pytest.mark.parametrize(
    ("which", "wrong"), [(1, {"shape": (5, 6, 3)}), (2, {"shape": (4, 5, 3)}), (1, {"depth": np.uint16})]
)
def test_the_files_of_a_pair_must_agree(tmp_path, which, wrong):
    files = triple(tmp_path, "rsblur")
    paint(tmp_path / files[which], **wrong)
    with pytest.raises(ValueError, match=rf"{files[which]}: expected 4x6 uint8 to go with .*avg65_img/avg_blur\.png"):
        Pairs(layout="rsblur").open(tmp_path).clips[0].read()


def test_a_16_bit_pair_has_an_8_bit_mask(tmp_path):
    files = triple(tmp_path, "rsblur")
    for which in (0, 2):
        paint(tmp_path / files[which], 999, depth=np.uint16)
    pictures = Pairs(layout="rsblur").open(tmp_path).clips[0].read()
    assert (pictures.image.dtype, pictures.sharp.dtype) == (np.uint16, np.uint16)
    assert pictures.saturation.dtype == np.uint8


# ---------------------------------------------------------------- every source

SOURCES = [Photos(), Frames(window=3), Pairs(layout="rsblur")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.use)
def test_folders_without_images_are_refused(tmp_path, source):
    with pytest.raises(ValueError, match=r"gone: expected a folder of images, got nothing there; check --data"):
        source.open(tmp_path / "gone")
    with pytest.raises(ValueError, match=r'match source\.pattern "\*\*/\*", got none \(skipped: nothing\); check'):
        source.open(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b").write_text("x")
    with pytest.raises(
        ValueError, match=r"got none \(skipped: 1 \.txt, 1 no suffix\); check --data and source\.pattern"
    ):
        source.open(tmp_path)
    with pytest.raises(ValueError, match=r'expected a folder of images, got the file "a\.txt"; check --data'):
        source.open(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Frames(), r"one folder of frames per clip \(CLIP/000001\.png \.\.\.\), got none; give --data FOLDER"),
        (
            Pairs(layout="rsblur"),
            r"the layout rsblur \(avg65_img/avg_blur\.png, .*gt_sharp\.png\), got none; give --data",
        ),
    ],
)
def test_only_photographs_are_built_in(source, words):
    with pytest.raises(ValueError, match=words):
        source.open(None)


def test_clips_are_small_when_pickled(tmp_path):
    film(tmp_path / "GOPR0372_07_00" / "sharp", 11)
    triple(tmp_path, "gopro_u")
    triple(tmp_path, "rsblur")
    for source in (Photos(), Frames(pattern="*/sharp/*"), Pairs(layout="gopro_u"), Pairs(layout="rsblur")):
        clip = source.open(tmp_path).clips[0]
        packed = pickle.dumps(clip)
        assert pickle.loads(packed) == clip
        assert len(packed) < 700 + len(str(tmp_path))


def test_the_digest_follows_names_and_contents(tmp_path):
    paint(tmp_path / "one" / "a.png", 1)
    paint(tmp_path / "one" / "b.png", 2)
    first = Photos().open(tmp_path / "one")
    lines = "".join(f"{clip.name}\0{clip.digest}\n" for clip in first.clips)
    assert first.digest == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "one").rename(tmp_path / "two")
    assert Photos().open(tmp_path / "two").digest == first.digest
    (tmp_path / "two" / "notes.txt").write_text("x")
    assert Photos().open(tmp_path / "two").digest == first.digest
    (tmp_path / "two" / "b.png").rename(tmp_path / "two" / "c.png")
    renamed = Photos().open(tmp_path / "two").digest
    paint(tmp_path / "two" / "c.png", 3)
    assert len({first.digest, renamed, Photos().open(tmp_path / "two").digest}) == 3


def test_names_that_are_not_unicode(tmp_path, cache):
    path = paint(tmp_path / "a.png", 8)
    path.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    footage = Photos().open(tmp_path)
    assert footage.clips[0].read().sharp[0, 0, 0] == 8
    assert Photos().open(tmp_path) == footage
    assert len(json.loads(cache.read_text())) == 1


# ---------------------------------------------------------------- recipe keys


def test_sources_are_told_apart_by_use():
    adapter = TypeAdapter(Source)
    assert adapter.validate_python({"use": "photos"}) == Photos(pairs_per_photo=8, pattern="**/*")
    assert adapter.validate_python({"use": "frames", "window": 7}) == Frames(window=7)
    assert adapter.validate_python({"use": "pairs", "layout": "gopro_u"}) == Pairs(layout="gopro_u")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"use": "video"}, "does not match any of the expected tags"),
        ({"use": "photos", "pairs": 3}, "Extra inputs are not permitted"),
        ({"use": "photos", "pairs_per_photo": 0}, "greater than or equal to 1"),
        ({"use": "photos", "pairs_per_photo": "3"}, "valid integer"),
        ({"use": "frames", "window": 10}, "expected an odd number, so that there is a middle frame, got 10"),
        ({"use": "frames", "window": 1}, "greater than or equal to 3"),
        ({"use": "frames", "stride": 0}, "greater than or equal to 1"),
        ({"use": "pairs"}, "Field required"),
        ({"use": "pairs", "layout": "gopro"}, "'gopro_u', 'gopro_abme' or 'rsblur'"),
        *(
            ({"use": "photos", "pattern": pattern}, f'expected a pattern inside the data folder, .*got "{pattern}"')
            for pattern in ("", "/etc/passwd", "../x", "a/../../x", "a**b", ".")
        ),
    ],
)
def test_wrong_keys_are_refused(fields, words):
    with pytest.raises(ValidationError, match=words.replace('"**', r'"\*\*').replace("a**b", r"a\*\*b")):
        TypeAdapter(Source).validate_python(fields)


def test_sources_and_clips_are_frozen(tmp_path):
    paint(tmp_path / "a.png")
    footage = Photos().open(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        Photos().pattern = "*"
    for thing, field in ((footage, "digest"), (footage.clips[0], "digest"), (footage.clips[0].read(), "sharp")):
        with pytest.raises(AttributeError):
            setattr(thing, field, None)
    assert isinstance(footage.clips[0].read(), Pictures)


def test_frames_of_overlapping_windows_are_hashed_once(tmp_path, hashed):
    film(tmp_path, 9)
    assert len(Frames(window=5, stride=1).open(tmp_path).clips) == 5
    assert len(hashed) == 9


# ---------------------------------------------------------------- imports


def test_the_import_is_light():
    code = (
        "import sys, isp.files.pictures, blursynth.sources as s; before = {'cv2', 'h5py', 'skimage'} & {*sys.modules}; "
        "s.Photos().open(None).clips[0].read(); print(sorted(before), 'cv2' in sys.modules, 'skimage' in sys.modules)"
    )
    root = Path(sources.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"


# ---------------------------------------------------------------- real photographs


def test_the_sharp_photographs_of_the_workplace():
    if not (DATA / "sharp").is_dir():
        pytest.skip(f"{DATA / 'sharp'} is not there")
    footage = Photos().open(DATA / "sharp")
    assert names(footage) == ["kodim03.png", "target_18.png", "target_3.png", "target_8.png"]
    assert footage.skipped == {".mp4": 1}
    assert (footage.clips[0].read().sharp == read_image(DATA / "sharp" / "kodim03.png")).all()
    pairs = Photos(pattern="*_sharp.png").open(DATA / "pairs_gopro")
    assert len(pairs.clips) == 5
    assert pairs.default_count == 40
