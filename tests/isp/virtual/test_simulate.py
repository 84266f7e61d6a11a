"""The virtual cameras: a sensor that obeys its physics, an ISP that follows the EXIF, scenes that never repeat."""

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

import isp
from isp import cfa, color, profile
from isp.cfa import PATTERNS
from isp.files import pictures
from isp.levels import bayer_of_raw
from isp.virtual import cameras, develop, scenes, simulate

CAMERAS = [cameras.load(name) for name in cameras.names()]
A7R3 = CAMERAS[0]
PHOTOGRAPHS = {
    name: pictures.read_image(Path(skimage.__file__).parent / "data" / name)
    for name in ("astronaut.png", "chelsea.png", "coffee.png")
}
every_camera = pytest.mark.parametrize("camera", CAMERAS, ids=cameras.names())


def rng(address: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(address))


def exif(camera: cameras.VirtualCamera, cfa=None, **changes) -> isp.Camera:
    """A shot at base ISO, 1/60 s, the sharpest f-number and 50 mm, in the middle of the white balances."""
    known = {"iso": camera.iso[0], "exposure_s": 1 / 60, "f_number": camera.lens.sharpest_f_number, "focal_mm": 50.0}
    balance = camera.white_balances[len(camera.white_balances) // 2]
    return camera.profile.camera(balance, cfa=cfa, **(known | changes))


def exposed_for(camera: cameras.VirtualCamera, shot: isp.Camera, linear: torch.Tensor) -> scenes.Scene:
    """The scene with its light such that `shot` exposes it right."""
    ev100 = simulate.exposure_value(float(shot.exposure_s), float(shot.f_number), float(shot.iso))
    return scenes.metered(linear, ev100)


def flat(level: float, height: int = 256, width: int = 256) -> torch.Tensor:
    return torch.full((3, height, width), level)


def psnr(one, other) -> float:
    return 10 * math.log10(1 / float(((one - other) ** 2).mean()))


def as_floats(srgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(srgb).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return PHOTOGRAPHS["astronaut.png"]


def raw_of(camera, shot, address=1, picture="coffee.png", side=224):
    """A raw file of one photograph under the EXIF `shot`, exposed as metered."""
    scene = scenes.from_photograph(PHOTOGRAPHS[picture], side, side, rng(address))
    sensor = simulate.expose(exposed_for(camera, shot, scene.linear), camera, shot)
    return simulate.read_out(sensor, camera, shot, rng(address + 1000)), sensor


# ---------------------------------------------------------------- shots


@every_camera
def test_a_shot_is_a_function_of_scene_camera_and_generator(camera):
    scene = scenes.from_photograph(PHOTOGRAPHS["chelsea.png"], 96, 128, rng(1))
    first, again, other = (simulate.take(scene, camera, rng(seed)) for seed in (5, 5, 6))
    assert first.raw.dtype == np.uint16 and first.srgb.dtype == np.uint8
    assert first.raw.shape == first.srgb.shape[:2] == first.sensor.shape[1:] == (96, 128)
    assert np.array_equal(first.raw, again.raw) and np.array_equal(first.srgb, again.srgb)
    assert first.camera.to_json() == again.camera.to_json()
    assert not np.array_equal(first.raw, other.raw)
    assert first.camera.name == (camera.name,)


def test_the_global_generators_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    simulate.take(scenes.dead_leaves(64, 64, rng(1)), A7R3, rng(2))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_odd_sizes_are_taken_and_tiny_ones_refused():
    shot = simulate.take(scenes.dead_leaves(33, 47, rng(1)), A7R3, rng(2))
    assert shot.raw.shape == (33, 47) and shot.srgb.shape == (33, 47, 3)
    with pytest.raises(ValueError, match="develop: expected at least 32 pixels a side, got 31x64"):
        simulate.take(scenes.dead_leaves(31, 64, rng(1)), A7R3, rng(2))


def test_crops_have_all_four_phases_and_stay_aligned():
    shot = simulate.take(scenes.from_photograph(PHOTOGRAPHS["coffee.png"], 96, 96, rng(3)), A7R3, rng(4))
    whole = isp.create("rsblur/a7r3").forward(shot.bayer(), shot.camera)
    phases = set()
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = shot.crop(top, left, 64, 65)
        phases.add(part.camera.cfa[0])
        rendered = isp.create("rsblur/a7r3").forward(part.bayer(), part.camera)
        inner = whole[..., top : top + 64, left : left + 65]
        assert float((rendered - inner)[..., 2:-2, 2:-2].abs().max()) < 1e-5
        assert np.array_equal(part.srgb, shot.srgb[top : top + 64, left : left + 65])
        assert torch.equal(part.sensor, shot.sensor[:, top : top + 64, left : left + 65])
    assert phases == set(PATTERNS)
    with pytest.raises(ValueError, match=r"crop: expected a window inside 96x96, got 64x64 at \(40, 0\)"):
        shot.crop(40, 0, 64, 64)


def test_raw_and_jpeg_are_aligned():
    """The rendered raw and the JPEG agree best where neither is shifted."""
    shot = exif(A7R3)
    raw, _ = raw_of(A7R3, shot)
    rendered = isp.create("rsblur/a7r3").forward(bayer_of_raw(torch.from_numpy(raw), shot), shot)[0]
    jpeg = as_floats(develop.develop(raw, A7R3.character, shot))
    inner = (slice(None), slice(2, -2), slice(2, -2))
    scores = {
        (dy, dx): psnr(torch.roll(rendered, (dy, dx), (1, 2))[inner], jpeg[inner])
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert max(scores, key=scores.__getitem__) == (0, 0)


# ---------------------------------------------------------------- EXIF


@every_camera
def test_settings_lie_in_the_ranges_and_fit_the_light(camera):
    misfit, isos, apertures = [], set(), set()
    for address in range(250):
        draw = rng(address)
        ev100 = scenes.draw_ev100(draw)
        shot = simulate.draw_camera(camera, ev100, draw)
        iso, exposure_s, f_number = float(shot.iso), float(shot.exposure_s), float(shot.f_number)
        assert camera.iso[0] <= iso <= camera.iso[1]
        assert camera.exposure_s[0] / 1.13 <= exposure_s <= camera.exposure_s[1] * 1.13  # a sixth of a stop
        assert camera.lens.f_number[0] - 0.05 <= f_number <= camera.lens.f_number[1] + 0.05
        assert camera.lens.focal_mm[0] <= float(shot.focal_mm) <= camera.lens.focal_mm[1]
        misfit.append(ev100 - simulate.exposure_value(exposure_s, f_number, iso))
        isos.add(iso)
        apertures.add(f_number)
    assert abs(np.mean(misfit)) < 0.1 and 0.4 < np.std(misfit) < 0.65
    assert max(isos) >= camera.iso[1] / 1.3 and min(isos) == camera.iso[0] and len(isos) > 10
    assert len(apertures) > 30


@every_camera
@pytest.mark.parametrize("ev100", [1.0, 18.0])
def test_the_photographer_copes_with_moonlight_and_glare(camera, ev100):
    shots = [simulate.draw_camera(camera, ev100, rng(seed)) for seed in range(100)]
    exposed = [simulate.exposure_value(float(s.exposure_s), float(s.f_number), float(s.iso)) for s in shots]
    assert abs(np.mean(exposed) - ev100) < 0.2


def test_a_shot_takes_its_white_balance_from_the_table():
    table = np.array(A7R3.white_balances)
    drawn = np.array(
        [simulate.draw_camera(A7R3, 10.0, rng(seed)).white_balance[0, [0, 2]].tolist() for seed in range(200)]
    )
    assert {shot.white_balance for shot in profile.load("a7r3").shots} == {tuple(row) for row in table.tolist()}
    distance = np.abs(np.log(drawn[:, None] / table[None])).max(2).min(1)
    assert distance.max() < 0.3  # between two entries, and 3 % of error
    assert np.ptp(drawn[:, 0]) > 1


# ---------------------------------------------------------------- sensor


@every_camera
@pytest.mark.parametrize("steps", [0, 3])
def test_noise_of_flat_fields_follows_iso(camera, steps):
    """variance = shot_gain x + read_std^2 + what rounding adds, at ISO 2^steps times the lowest."""
    shot = exif(camera, iso=camera.iso[0] * 2**steps)
    shot_gain, read_std = camera.profile.noise.at(float(shot.iso))
    assert shot_gain == pytest.approx(camera.profile.noise.shot_gain * float(shot.iso) / camera.profile.noise.iso)
    step = 1 / (camera.profile.levels.white - camera.profile.levels.black)
    for light in (0.05, 0.2, 0.6):
        raw = simulate.read_out(flat(light), camera, shot, rng(7))
        values = bayer_of_raw(torch.from_numpy(raw), shot).double()
        expected = shot_gain * light + read_std**2 + step**2 / 12
        assert float(values.mean()) == pytest.approx(light, abs=5 * math.sqrt(expected / values.numel()))
        assert float(values.var()) / expected == pytest.approx(1, abs=5 * math.sqrt(2 / values.numel()))


@every_camera
def test_black_and_saturation_lie_at_the_cameras_levels(camera):
    shot, levels = exif(camera), camera.profile.levels
    dark, bright = (simulate.read_out(flat(level), camera, shot, rng(1)) for level in (0.0, 1.0))
    assert float(dark.mean()) == pytest.approx(levels.black, abs=0.5)
    assert bright.max() == levels.white and 0.3 < float((bright == levels.white).mean()) < 0.7
    assert levels.white < 2**14
    values = bayer_of_raw(torch.from_numpy(np.array([[levels.black, levels.white]] * 2, np.uint16)), shot)
    assert values[0, 0, 0].tolist() == pytest.approx([0, 1], abs=1e-6)


def test_each_site_has_the_black_level_of_its_colour():
    shot = dataclasses.replace(exif(A7R3, cfa="GBRG"), black=torch.tensor([[100.0, 200.0, 300.0]]))
    raw = np.tile(np.array([[200, 300], [100, 200]], np.uint16), (3, 3))
    assert not bool(bayer_of_raw(torch.from_numpy(raw), shot).any())


@every_camera
def test_vignetting_fades_when_stopped_down_and_at_long_focal_lengths(camera):
    open_, closed = camera.lens.f_number
    short, long = camera.lens.focal_mm
    shade = simulate.vignetting(camera.lens, open_, short, 101, 151)
    along_the_diagonal = shade[torch.linspace(50, 100, 51).long(), torch.linspace(75, 150, 51).long()]
    assert float(shade[50, 75]) == 1 and bool((along_the_diagonal.diff() < 0).all())
    assert torch.allclose(shade, shade.flip(0)) and torch.allclose(shade, shade.flip(1))
    corner = {
        (f_number, focal_mm): float(simulate.vignetting(camera.lens, f_number, focal_mm, 101, 151)[0, 0])
        for f_number in (open_, closed)
        for focal_mm in (short, long)
    }
    assert 0.25 < corner[open_, short] < corner[closed, short] < corner[closed, long] < 1
    assert corner[open_, short] < corner[open_, long] < corner[closed, long]
    slope = camera.lens.half_diagonal_mm / (short + camera.lens.exit_pupil_mm)
    barrel = 1 - camera.lens.mechanical * (open_ / closed) ** 2
    assert corner[closed, short] == pytest.approx(math.cos(math.atan(slope)) ** 4 * barrel, rel=1e-5)


def test_a_flat_scene_is_shaded_by_the_lens():
    shot = exif(A7R3, f_number=2.8, focal_mm=24.0)
    sensor = simulate.expose(exposed_for(A7R3, shot, flat(1.0, 64, 96)), A7R3, shot)
    shade = simulate.vignetting(A7R3.lens, 2.8, 24.0, 64, 96)
    assert torch.allclose(sensor / sensor[:, 32:33, 48:49], shade.expand(3, 64, 96), atol=2e-3)
    assert float(shade.min()) < 0.6


def test_the_lens_is_sharpest_at_its_sharpest_f_number():
    point = torch.full((3, 65, 65), 1e-3)
    point[:, 32, 32] = 1
    peaks = []
    for f_number in (2.8, 5.6, 16.0):
        shot = exif(A7R3, f_number=f_number)
        sensor = simulate.expose(exposed_for(A7R3, shot, point / 100), A7R3, shot)
        peaks.append(float(sensor[1, 32, 32] / sensor[1, 28:37, 28:37].sum()))
    assert max(peaks) == peaks[1]


@pytest.mark.parametrize("name", ["d7000-virtual", "d90-virtual"])
def test_invented_white_balances_are_those_of_illuminants(name):
    """CIE A, F11, D50, D65 and D75 through the camera's own matrix, green 1."""
    camera = cameras.load(name)
    matrix = np.array(camera.profile.xyz_to_sensor)
    lights = [(0.44757, 0.40745), (0.38052, 0.37713), (0.34567, 0.35850), (0.31271, 0.32902), (0.29902, 0.31485)]
    for gains, (x, y) in zip(camera.white_balances, lights, strict=True):
        red, green, blue = matrix @ [x / y, 1, (1 - x - y) / y]
        assert gains == pytest.approx((green / red, green / blue), abs=0.006)


def test_a_stop_is_a_stop():
    """Twice the time, twice the ISO, or a wider aperture by one stop: twice the signal in the middle."""
    base = exif(A7R3, exposure_s=1 / 100, f_number=8.0)
    scene = exposed_for(A7R3, base, flat(0.5))
    middle = float(simulate.expose(scene, A7R3, base)[1, 128, 128])
    linear = color.sensor_to_linear(simulate.expose(scene, A7R3, base)[None], base)
    assert float(linear[0, 1, 128, 128]) == pytest.approx(A7R3.metered_level, rel=1e-3)
    for change in ({"exposure_s": 1 / 50}, {"iso": 200.0}, {"f_number": 8 / math.sqrt(2)}):
        changed = exif(A7R3, **({"exposure_s": 1 / 100, "f_number": 8.0} | change))
        assert float(simulate.expose(scene, A7R3, changed)[1, 128, 128]) == pytest.approx(2 * middle, rel=1e-3)


# ---------------------------------------------------------------- the ISP inside


@every_camera
@pytest.mark.parametrize("pattern", PATTERNS)
def test_grey_stays_grey_in_every_phase(camera, pattern):
    shot = exif(camera, cfa=pattern)
    sensor = color.linear_to_sensor(flat(0.15, 64, 64)[None], shot)[0]
    raw = simulate.read_out(sensor, camera, shot, rng(1))
    mean = develop.develop(raw, camera.character, shot).mean((0, 1))
    assert np.ptp(mean) < 1.5 and 100 < mean.mean() < 200


def test_base_iso_jpeg_is_close_to_the_rendered_raw():
    """With the same response, what remains is demosaicing, denoising, shadow lift, sharpening and JPEG."""
    shot = exif(A7R3)
    for address, picture in enumerate(PHOTOGRAPHS):
        raw, _ = raw_of(A7R3, shot, address, picture)
        jpeg = as_floats(develop.develop(raw, A7R3.character, shot))
        rendered = isp.create("rsblur/a7r3").forward(bayer_of_raw(torch.from_numpy(raw), shot), shot)[0]
        assert 24 < psnr(jpeg, rendered) < 38
        difference = (jpeg - rendered).mean((1, 2))
        assert float(difference.max() - difference.min()) < 0.02  # the lift is felt most in the darkest channel


def test_the_jpeg_is_one():
    """A coarser quality gives coarser pixels, and colour at half the resolution."""
    shot = exif(A7R3)
    raw, _ = raw_of(A7R3, shot, side=64)
    fine, coarse = (
        develop.develop(raw, dataclasses.replace(A7R3.character, jpeg_quality=quality), shot) for quality in (96, 30)
    )
    assert 20 < psnr(as_floats(fine), as_floats(coarse)) < 36


@every_camera
def test_denoising_grows_with_iso(camera):
    """The same raw of a flat field, said to be of higher ISO, comes out smoother; texture goes first."""
    low, high = (exif(camera, iso=value) for value in camera.iso)
    flat_raw = simulate.read_out(color.linear_to_sensor(flat(0.1, 128, 128)[None], low)[0], camera, low, rng(3))
    grid = torch.arange(128) * (2 * math.pi / 6)
    wave = 0.1 * (1 + 0.10 * grid.sin()[:, None] * grid.sin()[None])
    texture = color.linear_to_sensor(wave.expand(3, 128, 128)[None], low)[0]
    wave_raw = simulate.read_out(texture, camera, low, rng(3))
    # Contrast falls with ISO too, so that the comparison is made before the tone curve.
    spread = {}
    for name, raw in (("flat", flat_raw), ("texture", wave_raw)):
        balanced = color.white_balance(bayer_of_raw(torch.from_numpy(raw), low), low)
        full = cfa.edge_directed_demosaic(balanced, low.cfa)
        for shot in (low, high):
            chosen = develop.strengths(camera.character, shot)
            noise = camera.character.noise.at(float(shot.iso))
            clean = develop.denoise(full, shot.white_balance[0], *noise, chosen)
            spread[name, shot is high] = float(clean[:, 1].std())
    assert spread["flat", True] < 0.8 * spread["flat", False]
    assert spread["texture", True] < 0.7 * spread["texture", False]
    assert spread["texture", False] > 0.0035  # of 0.005 that the sensor saw


@every_camera
def test_sharpening_follows_the_aperture_and_the_focal_length(camera):
    raw, _ = raw_of(camera, exif(camera))
    sharpest = camera.lens.sharpest_f_number

    def sharpness(**changes) -> float:
        luma = as_floats(develop.develop(raw, camera.character, exif(camera, **changes))).mean(0)
        return float((luma[:, 1:] - luma[:, :-1]).square().mean())

    at_best = sharpness()
    assert sharpness(f_number=camera.lens.f_number[0]) > 1.05 * at_best
    assert sharpness(f_number=sharpest * 2) > 1.05 * at_best
    assert sharpness(focal_mm=200.0) < at_best < sharpness(focal_mm=16.0)


@every_camera
def test_tone_follows_exposure_time_and_iso(camera):
    """The same raw: dark greys are lifted in long exposures, light greys are held back at high ISO."""
    base = exif(camera)

    def level(light: float, **changes) -> float:
        sensor = color.linear_to_sensor(flat(light, 64, 64)[None], base)[0]
        raw = simulate.read_out(sensor, camera, base, rng(8))
        return float(develop.develop(raw, camera.character, exif(camera, **changes)).mean()) / 255

    assert level(0.01, exposure_s=1 / 2000) + 0.02 < level(0.01) < level(0.01, exposure_s=1.0) - 0.02
    assert level(0.3, iso=camera.iso[1]) < level(0.3) - 0.02


@every_camera
@pytest.mark.parametrize("field", ["iso", "exposure_s", "f_number", "focal_mm"])
def test_no_parameter_may_be_unknown(camera, field):
    shot = dataclasses.replace(exif(camera), **{field: None})
    with pytest.raises(ValueError, match=f"virtual camera: expected a known {field}, got none"):
        develop.strengths(camera.character, shot)


def test_the_three_cameras_differ():
    scene = scenes.from_photograph(PHOTOGRAPHS["coffee.png"], 128, 128, rng(5))
    jpegs = []
    for camera in CAMERAS:
        shot = exif(camera)
        sensor = simulate.expose(exposed_for(camera, shot, scene.linear), camera, shot)
        jpegs.append(
            as_floats(develop.develop(simulate.read_out(sensor, camera, shot, rng(6)), camera.character, shot))
        )
    assert all(12 < psnr(jpegs[one], jpegs[other]) < 30 for one, other in ((0, 1), (0, 2), (1, 2)))
    assert len({camera.profile.matrix().flatten()[0].item() for camera in CAMERAS}) == 3


def test_unknown_cameras_are_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r'got "d700-virtual"; did you mean "d7000-virtual"\?'):
        cameras.load("d700-virtual")


def test_local_tone_mapping_keeps_white_lifts_shadows_and_makes_no_halo():
    step = torch.cat([flat(0.01, 96, 48), flat(0.9, 96, 48)], dim=2)[None]
    lifted = develop.lift_shadows(step, 0.3)
    assert torch.allclose(develop.lift_shadows(step, 0.0), step)
    assert float(lifted[0, 0, 48, 4]) > 1.4 * 0.01
    assert float(lifted[..., 48:].min()) > 0.9 and float(lifted[..., 48:].max()) < 0.95
    along = lifted[0, 0, 48, :48]
    assert float(along.max() / along.min()) < 1.1
    assert torch.allclose(develop.lift_shadows(flat(1.0, 64, 64)[None], 0.3), torch.ones(1), atol=1e-5)


def test_the_box_and_the_gaussian_keep_means():
    image = torch.zeros(1, 2, 41, 43)
    image[0, 1, 20, 20] = 1
    for blurred in (develop.box_mean(image, 4), develop.gaussian_blur(image, 1.3)):
        assert not bool(blurred[0, 0].any())
        assert float(blurred[0, 1].sum()) == pytest.approx(1, abs=1e-5)
        assert torch.allclose(blurred[0, 1], blurred[0, 1].roll((-20, -20), (0, 1)).flip(0, 1).roll((21, 21), (0, 1)))
    assert float(develop.box_mean(image, 4)[0, 1, 16, 24]) == pytest.approx(1 / 81)
    spread = develop.gaussian_blur(image, 1.3)[0, 1].sum(0) @ (torch.arange(43.0) - 20) ** 2
    assert float(spread) == pytest.approx(1.3**2, rel=0.05)


# ---------------------------------------------------------------- scenes


def test_radii_of_leaves_follow_their_power_law():
    """Between r and 2 r, and between 2 r and 4 r, lie numbers of discs that differ by a factor of 4."""
    radii = scenes._radii(200_000, 2.0, 64.0, rng(1))
    assert radii.min() >= 2 and radii.max() <= 64
    counts = np.histogram(radii, [2, 4, 8, 16, 32])[0]
    assert counts[:-1] / counts[1:] == pytest.approx([4, 4, 4], rel=0.08)


def test_textures_of_leaves_are_not_continued_under_each_other(monkeypatch):
    """Over a texture that is a ramp, discs of one colour still show different brightnesses at the same place."""
    monkeypatch.setattr(scenes, "_colours", lambda count, rng: torch.full((count, 3), 0.2))
    stripes = torch.ones(1, 256, 256)
    stripes[:, :, ::64] = 8
    monkeypatch.setattr(scenes, "_fractal_texture", lambda rng: stripes)
    grey = scenes.dead_leaves(128, 128, rng(2)).linear[1]
    bright = (grey > 1.8 * grey.median()).float()
    assert float(bright.mean(0).max()) < 0.5 and 0.001 < float(bright.mean()) < 0.2


def test_dead_leaves_look_like_nature_in_their_spectrum():
    side, powers = 256, []
    for address in range(6):
        grey = scenes.luminance(scenes.dead_leaves(side, side, rng(address)).linear).log()
        window = torch.hann_window(side, periodic=False)
        powers.append(torch.fft.fft2((grey - grey.mean()) * window[:, None] * window).abs() ** 2)
    power = torch.stack(powers).mean(0)
    frequency = torch.fft.fftfreq(side)
    radius = torch.hypot(frequency[:, None], frequency) * side
    bands = 2.0 ** torch.arange(2, 6.6, 0.5)
    middles, levels = [], []
    for low, high in pairwise(bands):
        ring = (radius >= low) & (radius < high)
        middles.append(float(radius[ring].log().mean()))
        levels.append(float(power[ring].mean().log()))
    slope = np.polyfit(middles, levels, 1)[0]
    assert -2.8 < slope < -1.7


def test_dead_leaves_have_every_hue_and_a_wide_range_and_cover_everything():
    scene = scenes.dead_leaves(256, 256, rng(11))
    assert scene.linear.isfinite().all() and float(scenes.luminance(scene.linear).mean()) == pytest.approx(1)
    brightest = scene.linear.argmax(0)[scene.linear.amax(0) > 1.5 * scene.linear.amin(0)]
    shares = torch.bincount(brightest, minlength=3) / len(brightest)
    assert bool((shares > 0.1).all())
    low, high = scenes.luminance(scene.linear).flatten().quantile(torch.tensor([0.005, 0.995])).tolist()
    assert high / low > 50


def test_dead_leaves_borrow_the_colours_of_photographs():
    red = np.zeros((50, 60, 3), np.uint8)
    red[..., 0] = np.random.Generator(np.random.Philox(1)).integers(60, 250, (50, 60))
    plain, borrowed = (scenes.dead_leaves(96, 96, rng(3), photographs).linear for photographs in ((), (red,)))
    share = [float((linear[0] > 5 * linear[1:].amax(0)).float().mean()) for linear in (plain, borrowed)]
    assert share[0] < 0.15 and share[1] > 0.4


def test_scenes_of_one_photograph_never_repeat_and_keep_to_it(portrait):
    drawn = [scenes.from_photograph(portrait, 64, 96, rng(seed)) for seed in range(12)]
    assert all(scene.linear.shape == (3, 64, 96) for scene in drawn)
    assert len({float(scene.linear[0, 0, 0]) for scene in drawn}) == 12
    assert np.ptp([scene.ev100 for scene in drawn]) > 6
    again = scenes.from_photograph(portrait, 64, 96, rng(0))
    assert torch.equal(again.linear, drawn[0].linear) and again.ev100 == drawn[0].ev100
    deep = scenes.from_photograph(portrait.astype(np.uint16) * 257, 64, 96, rng(0))
    assert torch.allclose(deep.linear, drawn[0].linear, rtol=1e-4, atol=1e-5)


def test_a_small_photograph_is_enlarged():
    scene = scenes.from_photograph(PHOTOGRAPHS["chelsea.png"], 448, 448, rng(1))
    assert scene.linear.shape == (3, 448, 448) and bool(scene.linear.isfinite().all())


def test_any_radiance_is_a_scene_unless_it_is_black():
    assert float(scenes.luminance(scenes.metered(flat(123.0), 5.0).linear).mean()) == pytest.approx(1)
    for bad in (flat(0.0), flat(math.nan)):
        with pytest.raises(ValueError, match="scene: expected radiance with a positive mean luminance"):
            scenes.metered(bad, 5.0)


def test_whole_photographs_are_held_out():
    names = [f"photo{number}.png" for number in range(23)]
    train, test = scenes.split(names)
    assert set(train).isdisjoint(test) and {*train, *test} == set(names) and len(test) == 5
    assert scenes.split(reversed(names)) == (train, test)
    assert scenes.split(names, 0.5)[1] != test and set(test) < set(scenes.split(names, 0.5)[1])
    with pytest.raises(ValueError, match="split: expected every photograph once"):
        scenes.split(["a.png", "a.png", "b.png"])
    for lonely in (["a.png"], []):
        with pytest.raises(ValueError, match="split: expected photographs on both sides"):
            scenes.split(lonely)
