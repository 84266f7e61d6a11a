"""Frames follow each other by their numbers; no window bridges a gap."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blursynth.sources import Frames
from blursynth.sources.numbering import numbering_of


def film(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


FORMS = [
    "{:06d}.png",
    "{}.png",
    "frame{:04d}.jpg",
    "GOPR0372_07_00_{:06d}.png",
    "v2_{:03d}_left.tif",
    "img-{}.JPG",
    "{:06d}.7.png",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("numbers", "runs", "gaps"),
    [
        ([1, 2, 3, 40, 41], [[1, 2, 3], [40, 41]], 1),
        ([8, 9, 10, 11, 99, 100, 101], [[8, 9, 10, 11], [99, 100, 101]], 1),
        ([0, 10, 20, 30], [[0, 10, 20, 30]], 0),
        ([0, 10, 20, 50, 60, 70], [[0, 10, 20], [50, 60, 70]], 1),
        ([1, 3, 5, 7, 8, 9], [[1, 3, 5, 7], [8], [9]], 2),
        ([2, 4, 6, 9, 12], [[2, 4, 6], [9], [12]], 2),
        ([1, 2, 40], [[1, 2], [40]], 1),
        ([1, 2, 4, 5, 7, 8], [[1, 2], [4, 5], [7, 8]], 2),
        ([0, 33, 67, 100, 133, 200, 233], [[0, 33, 67, 100, 133], [200, 233]], 1),
        ([5], [[5]], 0),
    ],
)
def test_runs_end_at_gaps(form, numbers, runs, gaps):
    found = numbering_of(form.format(number) for number in numbers)
    assert found.runs == [tuple(form.format(number) for number in run) for run in runs]
    assert len(found.gaps) == gaps
    assert (found.doubles, found.unnumbered) == (0, 0)


def test_clocks_are_not_exact():
    times = [1403636579763555584, 1403636579813555456, 1403636579863555584, 1403636579914555392, 1403636580013555456]
    found = numbering_of(f"{time}.png" for time in times)
    assert list(map(len, found.runs)) == [4, 1]
    assert len(numbering_of(f"{time}.png" for time in (0, 40_000, 90_000, 150_000)).runs) == 1


@given(
    first=st.integers(0, 10**6), step=st.sampled_from([1, 2, 3, 10]), kept=st.sets(st.integers(0, 60), min_size=1),
    form=st.sampled_from(FORMS),
)  # fmt: skip
def test_the_frames_of_a_run_are_equally_far_apart(first, step, kept, form):
    """The right value without knowing how the step is learned."""
    numbers = {form.format(first + step * each): each for each in kept}
    found = numbering_of(numbers)
    assert sorted(name for run in found.runs for name in run) == sorted(numbers)
    for run in found.runs:
        places = [numbers[name] for name in run]
        distances = [after - before for before, after in pairwise(places)] or [1]
        assert 0 < max(distances) <= 1.3 * min(distances)  # as far as rounding goes: 7, 8 or 9


# ---------------------------------------------------------------- several sequences in a folder


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["a1", "a2", "a3", "b4", "b5"], [["a1", "a2", "a3"], ["b4", "b5"]]),
        (["c1_1", "c1_2", "c2_1", "c2_2", "c2_3"], [["c1_1", "c1_2"], ["c2_1", "c2_2", "c2_3"]]),
        (["c1_1", "c1_2", "c1_3", "c2_4", "c2_5"], [["c1_1", "c1_2", "c1_3"], ["c2_4", "c2_5"]]),
        (["1_c1", "1_c2", "2_c1", "2_c2", "3_c1", "3_c2"], [["1_c1", "2_c1", "3_c1"], ["1_c2", "2_c2", "3_c2"]]),
        (["f1_t100", "f2_t133", "f3_t167", "f4_t300"], [["f1_t100", "f2_t133", "f3_t167"], ["f4_t300"]]),
        (["s1_5", "s2_9", "s3_20"], [["s1_5", "s2_9"], ["s3_20"]]),
    ],
)  # fmt: skip
def test_sequences_are_told_apart_by_what_does_not_count(names, runs):
    found = numbering_of(f"{name}.png" for name in names)
    assert sorted(found.runs) == sorted(tuple(f"{name}.png" for name in run) for run in runs)


# ---------------------------------------------------------------- the same frame twice


@pytest.mark.parametrize(
    ("names", "run", "doubles"),
    [
        (["1.png", "1.jpg", "2.png", "2.jpg", "3.png", "3.jpg"], ["1.png", "2.png", "3.png"], 3),
        (["1.tif", "1.jpeg", "2.tif"], ["1.tif", "2.tif"], 1),
        (["1.jpg", "2.jpg", "3.jpg", "2.png"], ["1.jpg", "2.jpg", "3.jpg"], 1),
        (["1.JPG", "1.jpg", "2.jpg"], ["1.JPG", "2.jpg"], 1),
        (["1.png", "2.jpg", "3.png"], ["1.png", "2.jpg", "3.png"], 0),
    ],
)
def test_a_frame_in_two_formats_counts_once(names, run, doubles):
    found = numbering_of(names)
    assert found.runs == [tuple(run)]
    assert found.doubles == doubles


@pytest.mark.parametrize("names", [["1.png", "01.png"], ["f007.png", "f07.jpg", "f08.jpg"]])
def test_one_number_in_two_names_is_refused(tmp_path, names):
    with pytest.raises(ValueError, match=r"clip: expected each frame number once, got .* and .*; remove or rename one"):
        Frames(window=3).open(film(tmp_path / "clip", *names).parent)


# ---------------------------------------------------------------- what the source makes of it


def test_no_window_bridges_a_gap_and_gaps_are_named_and_counted(tmp_path):
    film(tmp_path / "clip", *(f"{number:06d}.png" for number in (*range(1, 8), *range(40, 45), 90)))
    footage = Frames(window=5, stride=1).open(tmp_path)
    assert [clip.files.frames for clip in footage.clips] == [
        tuple(f"{number:06d}.png" for number in range(start, start + 5)) for start in (1, 2, 3, 40)
    ]
    assert footage.skipped == {"clip shorter than the window": 1, "gap in the numbering": 2}
    assert footage.notes == (
        "gaps in the numbering, which no window bridges: clip/000007.png to 000040.png, clip/000044.png to 000090.png",
    )


def test_a_folder_that_gaps_leave_nothing_of_is_refused(tmp_path):
    film(tmp_path / "clip", *(f"{number:06d}.png" for number in (1, 2, 3, 40, 41)))
    with pytest.raises(
        ValueError,
        match=r"expected a clip of at least 5 frames in one folder, got 2 with at most 3; choose a smaller "
        r"source\.window, or another folder; gaps in the numbering: clip/000003\.png to 000040\.png",
    ):
        Frames(window=5).open(tmp_path)


def test_other_steps_doubles_and_pictures_without_a_number_are_counted(tmp_path):
    film(tmp_path / "a", *(f"{number}.png" for number in (0, 10, 20)), "10.jpg", "poster.jpg")
    film(tmp_path / "b", *(f"{number}.png" for number in (5, 6, 7)))
    footage = Frames(window=3).open(tmp_path)
    assert [clip.name for clip in footage.clips] == ["a/10.png", "b/6.png"]
    assert footage.skipped == {"image without a frame number": 1, "second file of a frame": 1}
    assert footage.notes == ("frames that are not numbered 1, 2, 3: 1 sequences in steps of 10",)


def test_pictures_without_numbers_are_no_frames(tmp_path):
    with pytest.raises(ValueError, match="at least 3 frames in one folder, got 0 with at most 0"):
        Frames(window=3).open(film(tmp_path, "left.png", "middle.png", "right.png"))
