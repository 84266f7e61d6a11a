"""Camera profiles: every file that ships, the figures of the sources, and what a bad file is told."""

import math
import os

import pytest
import torch

from isp import profile

# Matrices of capture days are shipped as published: they send white to (0.995, 0.990, 1.019) and the like.
AS_PUBLISHED = {"rsblur"}


def test_the_profiles_that_ship():
    assert profile.names() == ["a7r3", "d40", "d7000", "d90", "rsblur", "s7"]
    assert all(profile.load(name).name == name for name in profile.names())


@pytest.mark.parametrize("name", profile.names())
def test_rows_of_matrices_sum_to_1(name):
    known = profile.load(name)
    matrices = [known.matrix(shot) for shot in known.shots] or [known.matrix()]
    off_white = max(float((matrix.sum(1) - 1).abs().max()) for matrix in matrices)
    assert (off_white < 1e-6) != (name in AS_PUBLISHED)
    assert all(abs(float(torch.linalg.det(matrix))) > 0.1 for matrix in matrices)


@pytest.mark.parametrize("name", profile.names())
def test_a_shot_says_what_the_profile_knows_and_nothing_else(name):
    known = profile.load(name)
    shot = next(iter(known.shots), None)
    camera = known.camera((2.0, 1.7), "GBRG", shot, iso=160.0, focal_mm=None)
    assert (camera.name, camera.cfa) == ((name,), ("GBRG",))
    assert camera.white_balance.tolist() == [[2, 1, pytest.approx(1.7)]]
    assert torch.equal(camera.sensor_to_linear[0], known.matrix(shot).float())
    assert camera.iso is not None and camera.iso.tolist() == [160]
    assert camera.exposure_s is None and camera.focal_mm is None
    assert (camera.black is None) == (camera.white is None) == (known.levels is None)
    assert (camera.xyz_to_sensor is None) == (known.xyz_to_sensor is None)
    assert known.camera((2.0, 1.7), shot=shot).cfa == (known.cfa,)


def test_a_matrix_of_the_shot_needs_the_shot():
    with pytest.raises(
        ValueError, match=r'camera profile "rsblur": its matrix belongs to the shot; give one of its shots'
    ):
        profile.load("rsblur").matrix()


# ---------------------------------------------------------------- the A7R3


def test_a7r3_levels():
    camera = profile.load("a7r3").camera((2.0, 1.7))
    assert camera.black is not None and camera.black.tolist() == [[512, 512, 512]]
    assert camera.white is not None and camera.white.tolist() == [16383]


def test_a7r3_noise_is_the_measured_one_at_iso_160_and_follows_iso():
    noise = profile.load("a7r3").noise
    assert noise is not None
    assert noise.at(160.0) == (8.8915e-5, 2.943e-5)
    assert noise.at(320.0) == pytest.approx((2 * 8.8915e-5, 2 * 2.943e-5))
    assert noise.at(80.0) == pytest.approx((0.5 * 8.8915e-5, 2.943e-5))
    with pytest.raises(ValueError, match=r"noise: expected a known ISO, because this camera's noise follows it"):
        noise.at(None)


def test_rsblur_noise_does_not_follow_iso():
    noise = profile.load("rsblur").noise
    assert noise is not None
    assert noise.at(None) == noise.at(6400.0) == (1.0e-4, 9.1504e-4)


def test_a7r3_shots_are_the_recorded_histogram():
    """facts/rsblur.md 4.6: the rows, their counts, and the marginals computed from the file itself."""
    shots = profile.load("a7r3").shots
    assert len(shots) == 9 and sum(shot.count for shot in shots) == 3640
    assert len({(shot.iso, *shot.white_balance) for shot in shots}) == 9

    def moments(values: list[float]) -> tuple[float, float]:
        mean = sum(shot.count * value for shot, value in zip(shots, values, strict=True)) / 3640
        square = sum(shot.count * value**2 for shot, value in zip(shots, values, strict=True)) / 3640
        return mean, math.sqrt(square - mean**2)

    assert moments([shot.white_balance[0] for shot in shots]) == pytest.approx((2.275, 0.367), abs=5e-4)
    assert moments([shot.white_balance[1] for shot in shots]) == pytest.approx((1.842, 0.390), abs=5e-4)
    by_iso = {iso: sum(shot.count for shot in shots if shot.iso == iso) for iso in (100, 160, 200)}
    assert by_iso == {100: 180, 160: 3380, 200: 80}


def test_rsblur_has_19_days():
    days = [shot.day for shot in profile.load("rsblur").shots]
    assert days == [f"{day:04d}" for day in range(1, 20)]


# ---------------------------------------------------------------- reading

MATRIX = "sensor_to_linear: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]\n"
GOOD = "name: mine\nmodel: Mine\n" + MATRIX


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    camera = profile.load(str(path)).camera((1.5, 1.25))
    assert camera.name == ("mine",)
    assert torch.equal(camera.sensor_to_linear[0], torch.eye(3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name: mine\nmodel: Mine\n",
            "expected one of xyz_to_sensor, sensor_to_linear, or color_correction in every shot",
        ),
        (GOOD + MATRIX.replace("sensor_to_linear", "xyz_to_sensor"), "expected one of xyz_to_sensor, sensor_to_linear"),
        (GOOD + "levels: {black: 600, white: 512}", "expected white above black, got black 600 and white 512"),
        (GOOD + "cfa: RGBG", "'RGGB', 'BGGR', 'GRBG' or 'GBRG'"),
        (GOOD + "cfaa: RGGB", 'cfaa: unknown key; did you mean "cfa"\\?'),
        (GOOD + "levels: {blakc: 512, white: 600}", 'levels.blakc: unknown key; did you mean "black"\\?'),
        (GOOD + "name: other", 'the key "name" appears twice in the block that begins in line 1; keep one'),
        (GOOD + "noise: {shot_gain: .inf, read_std: 0}", "noise.shot_gain.*finite"),
        ("- name", "got: no mapping of keys"),
        (GOOD + "noise: {shot_gain: 0, read_std: -1}", "(?s)noise.shot_gain.*greater than 0.*noise.read_std"),
        (GOOD + "shots: [{white_balance: [2, 0]}]", r"shots.0.white_balance.1"),
        ("name: [", "expected a camera profile like isp/cameras/a7r3.yaml, got: while parsing"),
        ("", "expected a camera profile like isp/cameras/a7r3.yaml"),
        ("!!python/object/apply:os.getcwd []", 'expected no tag, got .*os.getcwd" in line 1; leave it out'),
    ],
)
def test_a_bad_profile_is_refused_in_words(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as refusal:
        profile.load(str(path))
    assert str(refusal.value).startswith(f"{path}: expected a camera profile like isp/cameras/a7r3.yaml, got: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "levels: {black: 12:30, white: 16383}", 'expected a whole number .*, got "12:30" in line 4'),
        (GOOD + "levels: {black: .nan, white: 16383}", "levels.black: Input should be a finite number"),
        (
            GOOD + "levels: {black: -1.0e+300, white: 16383}",
            "levels.black: Input should be greater than or equal to -1",
        ),
        (GOOD + "shots: [{white_balance: [2, yes]}]", 'expected true or false, got "yes" in line 4'),
        (GOOD + "shots: [{white_balance: [2, true]}]", "expected no truth value, got true"),
        (GOOD + "shots: [{white_balance: [2, 2], day: 2024-01-31}]", 'got "2024-01-31" in line 4; put it in quotes'),
        (GOOD + "shots: [" + "1," * 5000 + "]", "shots.0: .*; and 4970 more$"),
        (GOOD + "".join(f"k{at}: 1\n" for at in range(100_000)), "expected at most 20,000 values"),
        (GOOD + "cfa: " + "x" * 10**7, "expected a camera profile of at most 1,048,576 bytes"),
        (GOOD + "cfa: " + "[" * 10**5, "expected a few levels of blocks in blocks"),
    ],
    ids=range(10),
)
def test_a_profile_from_elsewhere_ends_in_a_sentence(tmp_path, text, words):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as refusal:
        profile.load(str(path))
    assert str(refusal.value).startswith(f"{path}: ") and len(str(refusal.value)) < 4000


def test_a_profile_is_a_regular_file_and_read_again_when_it_changes(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ValueError, match=r"pipe.yaml: expected a camera profile, a regular file, got a named pipe"):
        profile.load(str(tmp_path / "pipe.yaml"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "mine.yaml"
        path.write_text(GOOD.replace("mine", name))
        os.utime(path, ns=(0, 0))
        monkeypatch.chdir(tmp_path / name)
        assert profile.load("mine.yaml").name == name
    path.write_text(GOOD.replace("mine", "six"))  # as long as before
    os.utime(path, ns=(0, 0))
    assert profile.load("mine.yaml").name == "six"


def test_unknown_names_are_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r'expected one of a7r3, .* or a .yaml file, got "a7r"; did you mean "a7r3"\?'):
        profile.load("a7r")
    with pytest.raises(ValueError, match=r'or a .yaml file, got "hasselblad"$'):
        profile.load("hasselblad")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("A7R3", "a7r3"),
        ("d7000-virtual", "d7000"),
        ("a7r3-virtual+d90-virtual", None),
        ("SONY/ILCE-7RM3", "a7r3"),
        ("SONY/ILCE-7RM3A", None),
        ("NIKON CORPORATION/NIKON D90", "d90"),
        ("nikon d7000", "d7000"),
        ("samsung/SM-G935F", "s7"),
        ("samsung/SM-G935L", None),
        ("/NIKON", None),
        ("", None),
    ],
)
def test_a_camera_is_known_by_what_exif_and_weights_call_it(said, name):
    assert profile.of_camera(said) == name
