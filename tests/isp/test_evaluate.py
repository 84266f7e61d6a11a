"""The metrics' properties, and the tables of an ISP whose result is known."""

import json
import math

import numpy as np
import pytest
import torch

import isp
from isp import cfa, evaluate, full_size, metrics, pairs, profile, registry
from isp.contract import Limits
from isp.rng import generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pairs that rsblur/a7r3 itself rendered, without noise."""
    place = tmp_path_factory.mktemp("pairs")
    backend = isp.create("rsblur/a7r3")
    y, x = np.mgrid[:101, :120] / 120
    for at in range(3):
        optics = {"iso": 200.0, "exposure_s": 0.01, "f_number": 4.0, "focal_mm": 35.0}
        camera = profile.load("a7r3").camera((2.0, 1.6), cfa.PATTERNS[at], **optics)
        waves = [0.25 + 0.15 * np.sin(5 * (y + x) + at + channel) for channel in range(3)]
        sensor = torch.from_numpy(np.stack(waves)).float()[None] / torch.tensor([2.0, 1.0, 1.6])[None, :, None, None]
        bayer = cfa.mosaic(sensor, camera.cfa)
        raw = (bayer[0, 0] * (16383 - 512) + 512).round().numpy().astype(np.uint16)
        srgb = (backend.forward(bayer, camera)[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
        pairs.write(place / f"{at}.h5", raw, srgb, camera, "scene")
    (place / "test.txt").write_text("0.h5\n1.h5\n2.h5\n")
    return place


def test_psnr_and_ssim_of_known_differences():
    image = torch.from_numpy(generator(1, 0, "picture").random((1, 3, 40, 40), dtype="float32"))
    assert metrics.psnr_db(image, image) == math.inf
    assert metrics.psnr_db(image, image + 0.1) == pytest.approx(20, abs=1e-4)
    spoiled = image.clone()
    spoiled[..., :2, :] = 9
    assert metrics.psnr_db(spoiled, image) == math.inf
    assert metrics.ssim(image, image) == pytest.approx(1)
    assert metrics.ssim(image, 1 - image) < 0
    assert metrics.ssim(image * 0.1, image * 0.1 + 0.01, data_range=None) < metrics.ssim(
        image * 0.1, image * 0.1 + 0.01
    )


def test_windows_keep_the_phase_and_stay_inside():
    for pattern in cfa.PATTERNS:
        for top, left, height, width in metrics.five_windows((77, 90), 48, pattern):
            assert cfa.shift(pattern, top, left) == "RGGB"
            assert 0 <= top <= 77 - height and 0 <= left <= 90 - width
    with pytest.raises(ValueError, match="larger than 48x48 for the official protocol, got 48x90"):
        list(metrics.five_windows((48, 90), 48, "RGGB"))


def test_the_isp_that_rendered_the_pairs_is_nearly_perfect(folder):
    held_out = pairs.split(folder, "test")
    table = evaluate.evaluate(isp.create("rsblur/a7r3"), held_out, "paper", 0, torch.device("cpu"))
    assert set(table) == {"a7r3"}
    assert table["a7r3"]["srgb"][0] > 58  # rounding to 8 bits alone
    assert table["a7r3"]["raw"][0] > 45
    other = evaluate.evaluate(isp.create("upi/pair"), held_out, "paper", 0, torch.device("cpu"))
    assert other["a7r3"]["srgb"][0] < table["a7r3"]["srgb"][0] - 20


def test_wrong_parameters_are_wrong_and_addressed(folder):
    camera = pairs.split(folder, "test")[0].camera
    for parameter in evaluate.WRONG:
        values = [float(getattr(evaluate.with_wrong(camera, parameter, 0, index), parameter)) for index in range(20)]
        true = float(getattr(camera, parameter))
        assert all(max(value / true, true / value) >= 2 for value in values)
        assert len(set(values)) > 10
        again = float(getattr(evaluate.with_wrong(camera, parameter, 0, 3), parameter))
        assert again == values[3]
        others = [name for name in evaluate.WRONG if name != parameter]
        changed = evaluate.with_wrong(camera, parameter, 0, 0)
        assert all(torch.equal(getattr(changed, name), getattr(camera, name)) for name in others)


def test_command_line(folder, capsys):
    arguments = ["--isp", "rsblur/a7r3", "--data", str(folder)]
    assert evaluate.main([*arguments, "--wrong", "--protocol", "official", "--crop", "48", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert set(tables) == {"true", *(f"wrong {parameter}" for parameter in evaluate.WRONG)}
    # A parametric ISP does not look at optical parameters.
    assert tables["true"] == tables["wrong iso"]
    assert evaluate.main(arguments) == 0
    assert "raw" in capsys.readouterr().out
    assert evaluate.main(["--isp", "rsblur/a7r4", "--data", str(folder)]) == 1
    assert "expected one of rsblur/a7r3" in capsys.readouterr().err


def test_virtual_cameras_need_no_data(capsys):
    arguments = ["--isp", "rsblur/a7r3", "--virtual", "a7r3-virtual", "d90-virtual", "--shots", "2", "--side", "64"]
    assert evaluate.main([*arguments, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["true"]
    assert set(table) == {"a7r3-virtual", "d90-virtual"}
    # It is the A7R3's own response; the other camera renders differently.
    assert table["a7r3-virtual"]["raw"][0] > table["d90-virtual"]["raw"][0] + 3
    assert evaluate.main(["--isp", "rsblur/a7r3", "--virtual", "a7r4-virtual"]) == 1
    assert 'did you mean "a7r3-virtual"' in capsys.readouterr().err


def test_an_isp_that_needs_a_reference_gets_the_cameras_picture(folder, reference_isp, monkeypatch, capsys):
    monkeypatch.setattr(full_size, "STRIP_ROWS", 24)
    even = ["--protocol", "official", "--crop", "48"]
    assert evaluate.main(["--isp", reference_isp, "--data", str(folder), "--json", *even]) == 0
    table = json.loads(capsys.readouterr().out)["true"]["a7r3"]
    assert table["srgb"] == table["cycle"] == [None, pytest.approx(1)]  # JSON has no infinity
    assert math.isfinite(table["raw"][0])
    # Whole pictures of 101x120 are not multiples of 4.
    assert evaluate.main(["--isp", reference_isp, "--data", str(folder)]) == 1
    problem = capsys.readouterr().err
    reason, counted = problem.splitlines()
    assert reason.startswith(
        f"{folder / '0.h5'} (and 2 more pairs): echo: needs height and width to be multiples of 4, got 101x120; "
    )
    assert counted.startswith("3 of 3 pairs could not be used")


def test_an_isp_that_needs_what_no_pair_knows_is_one_sentence(folder, monkeypatch, capsys):
    backend = isp.create("rsblur/a7r3")
    backend.limits = Limits(cfas=("GRBG",), needs=("xyz_to_sensor",))
    monkeypatch.setattr(registry, "create", lambda *_, **__: backend)
    assert evaluate.main(["--isp", "narrow", "--data", str(folder)]) == 1
    assert "rsblur/a7r3: needs the CFA pattern GRBG, got RGGB; choose another ISP, or" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [("--shots", "0"), ("--side", "0"), ("--crop", "-1"), ("--shots", "x"), ("--device", "tpu")]
)
def test_wrong_options_are_usage_errors(options, capsys):
    arguments = ["--isp", "rsblur/a7r3", "--virtual", "a7r3-virtual", *options]
    assert evaluate.main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_damaged_pair_stops_no_table(folder, tmp_path, capsys):
    """Its neighbours keep their figures, also with wrong parameters, whose draws are addressed by the place in the list."""
    for name in ("0.h5", "1.h5", "2.h5"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "test.txt").write_text("0.h5\n1.h5\n2.h5\n")
    (tmp_path / "1.h5").write_bytes((folder / "1.h5").read_bytes()[:2000])
    arguments = ["--isp", "paramisp", "--data", str(tmp_path), "--wrong", "--json"]
    assert evaluate.main(arguments) == 1
    found, problem = capsys.readouterr()
    assert problem.startswith(f"{tmp_path / '1.h5'}: expected a sound pair written by isp.prepare")
    assert problem.splitlines()[-1] == "1 of 3 pairs could not be used; the figures are those of the others"
    held_out = [pairs.Pair(folder / f"{at}.h5") for at in range(3)]
    learned = isp.create("paramisp")
    each = [evaluate.figures_of(learned, held_out[at], at, "paper", 0, torch.device("cpu"), ["iso"]) for at in (0, 2)]
    table = evaluate.means([(camera, row) for camera, (row,) in each])
    assert json.loads(found)["wrong iso"]["a7r3"]["srgb"] == pytest.approx(list(table["a7r3"]["srgb"]))


def test_without_pairs_there_is_no_table(folder, capsys):
    (folder / "val.txt").write_text("\n")
    assert evaluate.main(["--isp", "rsblur/a7r3", "--data", str(folder), "--split", "val"]) == 1
    out, problem = capsys.readouterr()
    assert out == "" and "val.txt: expected names of pairs, got none; choose another --split" in problem


def test_figures_that_are_none_are_no_figures(folder, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "measure", lambda *_: {"raw": (math.nan, 1.0)})
    assert evaluate.main(["--isp", "rsblur/a7r3", "--data", str(folder), "--json"]) == 1
    out, problem = capsys.readouterr()
    assert json.loads(out) == {}
    assert "(and 2 more pairs): expected finite pixels, got NaN" in problem
