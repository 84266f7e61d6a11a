"""`Camera`: batches, JSON, and the CFA phase under every crop, flip and turn."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isp import cfa
from isp.camera import Camera

OPTIONAL = {
    "xyz_to_sensor": torch.eye(3)[None] * 0.5,
    "black": torch.tensor([[512.0, 513.0, 514.0]]),
    "white": torch.tensor([16383.0]),
    "iso": torch.tensor([160.0]),
    "exposure_s": torch.tensor([0.02]),
    "f_number": torch.tensor([2.8]),
    "focal_mm": torch.tensor([35.0]),
}


def camera(name: str = "a", pattern: str = "RGGB", red: float = 2.0, **known: torch.Tensor) -> Camera:
    gains = torch.tensor([[red, 1.0, 1.5]])
    return Camera(name=(name,), cfa=(pattern,), white_balance=gains, sensor_to_linear=torch.eye(3)[None], **known)


def assert_same(one: Camera, other: Camera) -> None:
    assert (one.name, one.cfa) == (other.name, other.cfa)
    for field in dataclasses.fields(Camera)[2:]:
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert (ours is None) == (theirs is None), field.name
        if ours is not None:
            assert ours.dtype == theirs.dtype == torch.float32
            assert torch.equal(ours.nan_to_num(-1), theirs.nan_to_num(-1)), field.name


def test_the_comparison_of_this_file_sees_a_difference():
    with pytest.raises(AssertionError):
        assert_same(camera(red=2.0), camera(red=2.5))
    with pytest.raises(AssertionError, match="iso"):
        assert_same(camera(), camera(iso=OPTIONAL["iso"]))


def test_every_optional_field_is_covered_here():
    unknown = [field.name for field in dataclasses.fields(Camera) if field.default is None]
    assert unknown == list(OPTIONAL)


# ---------------------------------------------------------------- batches


def test_rows_of_a_stack_are_the_cameras_that_went_in():
    alone = [
        camera("a", "RGGB", 1.5, **OPTIONAL),
        camera("b", "GBRG", 2.5, **OPTIONAL),
        camera("c", "BGGR", **OPTIONAL),
    ]
    stacked = Camera.stack(alone)
    assert len(stacked) == 3 and stacked.cfa == ("RGGB", "GBRG", "BGGR")
    for row, one in enumerate(alone):
        assert_same(stacked[row], one)
    assert_same(stacked[-1], alone[2])
    assert [row.name for row in stacked] == [("a",), ("b",), ("c",)]
    assert_same(Camera.stack([stacked[0], Camera.stack(alone[1:])]), stacked)
    with pytest.raises(IndexError):
        stacked[3]


def test_what_no_shot_knows_stays_unknown():
    stacked = Camera.stack([camera("a"), camera("b")])
    assert all(getattr(stacked, field) is None for field in OPTIONAL)


@pytest.mark.parametrize("field", OPTIONAL)
@pytest.mark.parametrize("known_first", [True, False])
def test_what_one_shot_knows_is_nan_in_the_others(field, known_first):
    pair = [camera("a", **{field: OPTIONAL[field]}), camera("b")]
    stacked = Camera.stack(pair if known_first else pair[::-1])
    known = 0 if known_first else 1
    values = getattr(stacked, field)
    assert torch.equal(values[known : known + 1], OPTIONAL[field])
    assert bool(values[1 - known].isnan().all())
    assert json.loads(stacked[1 - known].to_json())[field] is None
    assert json.loads(stacked[known].to_json())[field] == OPTIONAL[field][0].tolist()


def test_to_a_device():
    assert_same(camera(**OPTIONAL).to("cpu"), camera(**OPTIONAL))
    assert_same(camera().to(torch.device("cpu")), camera())


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        camera().cfa = ("BGGR",)


# ---------------------------------------------------------------- JSON


@given(
    values=st.lists(st.floats(2**-20, 2**20, width=32), min_size=len(OPTIONAL), max_size=len(OPTIONAL)),
    known=st.sets(st.sampled_from(sorted(OPTIONAL))),
    pattern=st.sampled_from(cfa.PATTERNS),
)
@settings(deadline=None, max_examples=50)
def test_json_round_trip_is_exact(values, known, pattern):
    fields = {
        field: torch.full_like(shape, value)
        for (field, shape), value in zip(OPTIONAL.items(), values, strict=True)
        if field in known
    }
    one = camera('naïve "name"', pattern, **fields)
    text = one.to_json()
    assert "\n" not in text
    assert {field for field, value in json.loads(text).items() if value is None} == set(OPTIONAL) - known
    assert_same(Camera.from_json(text), one)


def test_json_takes_whole_numbers():
    text = json.dumps(json.loads(camera().to_json()) | {"iso": 160, "white_balance": [2, 1, 1]})
    read = Camera.from_json(text)
    assert read.iso is not None and read.iso.tolist() == [160.0]
    assert read.white_balance.dtype == torch.float32


def test_json_refusals():
    with pytest.raises(ValueError, match=r"expected one shot, got 2; write camera\[i\].to_json\(\) for each"):
        Camera.stack([camera(), camera()]).to_json()
    record = json.loads(camera().to_json())
    with pytest.raises(ValueError, match=r"Camera.from_json: expected an object with the keys .*'iso'.*, got"):
        Camera.from_json(json.dumps(record | {"isso": 160}))
    del record["white_balance"]
    with pytest.raises(ValueError, match=r"Camera.from_json: expected an object with the keys"):
        Camera.from_json(json.dumps(record))
    with pytest.raises(ValueError, match=r"Camera.from_json: expected an object with the keys .*, got '\[1\]'"):
        Camera.from_json("[1]")


def test_nan_never_reaches_json():
    partly = camera(black=torch.tensor([[512.0, math.nan, 512.0]]))
    assert json.loads(partly.to_json())["black"] is None


# ---------------------------------------------------------------- crops, flips, turns

SIZES = [(6, 8), (6, 7), (5, 8), (5, 7)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_the_phase_follows_the_pixels(pattern, height, width):
    values = np.arange(3 * height * width, dtype=np.float32).reshape(1, 3, height, width)  # every value another
    sensor, shot = torch.from_numpy(values), camera("x", pattern, **OPTIONAL)
    bayer = cfa.mosaic(sensor, shot.cfa)

    def agree(moved: Camera, move) -> None:
        assert torch.equal(cfa.mosaic(move(sensor), moved.cfa), move(bayer))
        assert_same(dataclasses.replace(moved, cfa=shot.cfa), shot)

    for top in range(3):
        for left in range(3):
            agree(shot.crop(top, left), lambda image, top=top, left=left: image[..., top:, left:])
    agree(shot.flip("vertical", height, width), lambda image: image.flip(-2))
    agree(shot.flip("horizontal", height, width), lambda image: image.flip(-1))
    for turns in range(-2, 6):
        agree(shot.rotate(turns, height, width), lambda image, turns=turns: image.rot90(turns, (2, 3)))


def test_the_whole_dihedral_group_by_flips_and_turns():
    height, width = 5, 8
    shot = camera("x", "GRBG")
    sensor = torch.from_numpy(np.arange(3 * height * width, dtype=np.float32).reshape(1, 3, height, width))
    bayer = cfa.mosaic(sensor, shot.cfa)
    seen = set()
    for turns in range(4):
        turned = shot.rotate(turns, height, width)
        rows, columns = (height, width) if turns % 2 == 0 else (width, height)
        for flips in ((), ("horizontal",)):
            moved, image, mosaicked = turned, sensor.rot90(turns, (2, 3)), bayer.rot90(turns, (2, 3))
            for axis in flips:
                moved, image, mosaicked = moved.flip(axis, rows, columns), image.flip(-1), mosaicked.flip(-1)
            assert torch.equal(cfa.mosaic(image, moved.cfa), mosaicked)
            seen.add((tuple(mosaicked.shape), tuple(mosaicked.flatten().tolist())))
    assert len(seen) == 8


def test_a_batch_moves_together():
    mixed = Camera.stack([camera(pattern=pattern) for pattern in cfa.PATTERNS])
    assert mixed.crop(1, 0).cfa == ("GBRG", "GRBG", "BGGR", "RGGB")
    assert mixed.flip("horizontal", 4, 4).cfa == ("GRBG", "GBRG", "RGGB", "BGGR")


# ---------------------------------------------------------------- refusals


def test_wrong_cameras_are_refused_in_words():
    with pytest.raises(ValueError, match=r'camera "x": expected a CFA pattern out of .*, got \'RGBG\''):
        camera("x", "RGBG")
    with pytest.raises(ValueError, match=r'camera "b": expected a CFA pattern out of .*, got \'XXXX\''):
        dataclasses.replace(Camera.stack([camera("a"), camera("b")]), cfa=("RGGB", "XXXX"))
    two = Camera.stack([camera("a", iso=OPTIONAL["iso"]), camera("b")])
    with pytest.raises(ValueError, match=r"Camera.white_balance: expected 1 rows \(one for each cfa\), got 2"):
        dataclasses.replace(two, cfa=("RGGB",))
    with pytest.raises(ValueError, match=r"Camera.name: expected 2 names \(one for each cfa\), got 0"):
        dataclasses.replace(two, name=())
    with pytest.raises(ValueError, match=r"Camera.stack: expected at least one camera, got none"):
        Camera.stack([])
    with pytest.raises(ValueError, match=r'flip: expected the axis "vertical" or "horizontal"'):
        camera().flip("rows", 4, 4)
