"""Parity with the published RSBlur code: every stage, both pipelines with noise off, and the noise statistics."""

import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from blursynth import recipe, synthesis
from blursynth.recipe import load_recipe
from blursynth.sample import Sample
from blursynth.sources import Pairs
from blursynth.stages.camera import DrawCamera
from blursynth.stages.geometry import DIHEDRAL
from blursynth.stages.isp import InverseISP, Mosaic
from blursynth.stages.saturate import Saturate
from isp import cfa, color, profile, tone
from isp.light.noise import poisson_gaussian
from isp.rng import generator

_spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)

# One table of tolerances, absolute. Curves reach 5.1 at an input of 2, hence a relative part of a float's rounding.
TOLERANCE = {
    "stage": 1e-6,
    "table": 3e-4,
    "inverse_table": 2e-3,
    "polynomial": 1e-4,
    "pipeline": 1e-4,
    "tensorflow": 1e-5,
}
ROUNDING = 1e-6


def planes(image: np.ndarray) -> torch.Tensor:
    """h w 3, or n h w 3, as a batch of planes."""
    batch = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    return (batch[None] if batch.ndim == 3 else batch).permute(0, 3, 1, 2)


def assert_close(ours: torch.Tensor, recorded: np.ndarray, tolerance: float) -> None:
    theirs = torch.from_numpy(np.asarray(recorded, dtype=np.float64))
    assert ours.shape == theirs.shape
    assert float((ours.double() - theirs).abs().max()) <= tolerance


# ---------------------------------------------------------------- stages


@pytest.mark.parametrize(
    ("curve", "recorded", "tolerance"),
    [
        (tone.inverse_srgb_curve, "rgb2lin_f64", "stage"),
        (tone.srgb_curve, "lin2rgb_f64", "stage"),
        (tone.a7r3_polynomial, "crf_poly", "polynomial"),
        (tone.a7r3_response, "crf_lut_lin2rgb", "table"),
        (tone.inverse_a7r3_response, "crf_lut_rgb2lin", "inverse_table"),
    ],
)
def test_golden_curves(curve, recorded, tolerance):
    stages = golden.recording("rsblur_stages")
    expected = torch.from_numpy(stages[recorded]).double()
    ours = curve(torch.from_numpy(stages["curve_x"])).double()
    assert bool(((ours - expected).abs() <= TOLERANCE[tolerance] + ROUNDING * expected.abs()).all())


def test_golden_matrices():
    stages = golden.recording("rsblur_stages")
    image = planes(stages["img"])
    a7r3 = profile.load("a7r3").camera((1.0, 1.0))
    to_xyz = torch.tensor([color.LINEAR_TO_XYZ])
    assert_close(color.apply_matrix(image, to_xyz)[0].permute(1, 2, 0), stages["lin2xyz"], TOLERANCE["stage"])
    from_xyz = torch.tensor([color.XYZ_TO_LINEAR])
    assert_close(color.apply_matrix(image, from_xyz)[0].permute(1, 2, 0), stages["xyz2lin"], 2 * TOLERANCE["stage"])
    to_camera = color.linear_to_sensor(image, a7r3)
    assert_close(to_camera[0].permute(1, 2, 0), stages["lin2cam"], TOLERANCE["stage"])
    to_linear = color.sensor_to_linear(image, a7r3)
    assert_close(to_linear[0].permute(1, 2, 0), stages["cam2lin"], TOLERANCE["stage"])


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_golden_mosaic_white_balance_and_demosaicing(pattern):
    stages = golden.recording("rsblur_stages")
    shot = profile.load("a7r3").camera((float(stages["red_gain"]), float(stages["blue_gain"])), pattern)

    def packed(bayer: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_unshuffle(bayer, 2)[0].permute(1, 2, 0)

    def interleaved(four: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.pixel_shuffle(planes(four), 2)

    assert_close(packed(cfa.mosaic(planes(stages["img"]), (pattern,))), stages[f"mosaic_{pattern}"], TOLERANCE["stage"])
    mosaicked = interleaved(stages[f"mosaic_{pattern}"])
    balanced = color.white_balance(mosaicked, shot)
    assert_close(packed(balanced), stages[f"wb_fwd_{pattern}"], TOLERANCE["stage"])
    undone = cfa.site_gains(mosaicked, 1 / shot.white_balance, shot.cfa)
    assert_close(packed(undone), stages[f"wb_inv_{pattern}"], TOLERANCE["stage"])
    for recorded in ("cfa", "cfa_rand"):
        bayer = torch.from_numpy(stages[f"{recorded}_{pattern}"])[None, None].float()
        ours = cfa.demosaic(bayer, (pattern,), border="zero")[0].permute(1, 2, 0)
        name = "malvar" if recorded == "cfa" else "malvar_rand"
        assert_close(ours, stages[f"{name}_{pattern}"], TOLERANCE["stage"])


# ---------------------------------------------------------------- the PyTorch pipeline, noise off


# What the recorded augmentation numbers mean, as elements of our group.
_AUGMENTATION = (*DIHEDRAL[:6], "anti_transpose", "transpose", "identity")


def parity_recipe(recorded: dict[str, np.ndarray], case: int, *left_out: str) -> recipe.Recipe:
    """gopro_u with every draw pinned to a recorded case, and without the stages `left_out`."""
    patch = int(recorded["patch_size"])
    pinned = load_recipe(
        "gopro_u",
        [
            f"crop.size={patch + 8}",
            f"crop.at=[{recorded[f'rr_{case}']}, {recorded[f'cc_{case}']}]",
            f"dihedral.choose=[{_AUGMENTATION[int(recorded[f'aug_{case}'])]}]",
            f"camera.cfa=[{recorded[f'pattern_{case}']}]",
            f"camera.white_balance={[[float(recorded[f'{colour}_{case}'])] * 2 for colour in ('red', 'blue')]}",
            f"saturate.strength={[float(recorded[f'alpha_{case}'])] * 2}",
        ],
    )
    document = pinned.effective()
    document["stages"] = [stage for stage in document["stages"] if not set(stage) & set(left_out)]
    return recipe.bind(document, "parity")


def clip_of(recorded: dict[str, np.ndarray], case: int, folder: Path):
    """The recorded pictures as a tree in the published layout, opened as the recipe opens it."""
    for kind, path in (
        ("blur", "centroid_blurred_img/a_blurred.png"),
        ("mask", "centroid_blurred_mask_100/a_blurred.png"),
        ("gt", "target_img/a_gt.png"),
    ):
        (folder / path).parent.mkdir()
        cv2.imwrite(str(folder / path), recorded[f"{kind}_u8_{case}"][..., ::-1])
    return Pairs(use="pairs", layout="gopro_u").open(folder).clips[0]


def cases() -> range:
    return range(int(golden.recording("rsblur_pipeline")["n"]))


def test_golden_pipeline(tmp_path):
    recorded = golden.recording("rsblur_pipeline")
    for case in cases():
        folder = tmp_path / str(case)
        folder.mkdir()
        bound = parity_recipe(recorded, case, "sensor_noise")
        sample = synthesis.synthesise(clip_of(recorded, case, folder), bound, index=0)
        assert_close(sample.image[0].permute(1, 2, 0), recorded[f"out_blur_{case}"], TOLERANCE["pipeline"])
        assert_close(sample.sharp[0].permute(1, 2, 0), recorded[f"out_gt_{case}"], TOLERANCE["pipeline"])


def test_golden_pipeline_naive(tmp_path):
    recorded = golden.recording("rsblur_pipeline")
    isp_stages = (
        "camera",
        "inverse_isp",
        "saturate",
        "mosaic",
        "sensor_noise",
        "forward_isp",
        "keep_saturated",
        "tone_curve",
    )
    for case in cases():
        folder = tmp_path / str(case)
        folder.mkdir()
        bound = parity_recipe(recorded, case, *isp_stages, "crop_border")
        sample = synthesis.synthesise(clip_of(recorded, case, folder), bound, index=0)
        border = (sample.image.shape[-1] - recorded[f"naive_blur_{case}"].shape[1]) // 2
        middle = slice(border, sample.image.shape[-1] - border)
        for ours, name in ((sample.image, "naive_blur"), (sample.sharp, "naive_gt")):
            pixels = (ours[0].permute(1, 2, 0)[middle, middle] * 255).round().numpy().astype(np.uint8)
            assert np.array_equal(pixels, recorded[f"{name}_{case}"])


def test_golden_pipeline_intermediates(tmp_path):
    recorded = golden.recording("rsblur_pipeline")
    traced = [case for case in cases() if f"trace_raw_{case}" in recorded]
    assert traced
    for case in traced:
        folder = tmp_path / str(case)
        folder.mkdir()
        bound = parity_recipe(recorded, case, "sensor_noise")
        sample = synthesis.start(clip_of(recorded, case, folder), bound, 0, "cpu")
        seen = {}
        for label, stage in bound.labelled:
            sample = stage(sample.replace(stage=label))
            seen[label] = sample
        saturated, mosaicked = seen["saturate"], seen["mosaic"]
        linear = color.sensor_to_linear(saturated.image, saturated.known_camera)
        xyz = color.apply_matrix(linear, torch.tensor([color.LINEAR_TO_XYZ]))
        assert_close(xyz[0].permute(1, 2, 0), recorded[f"trace_lin_sat_xyz_{case}"], 1e-5)
        raw = torch.nn.functional.pixel_unshuffle(mosaicked.image, 2)[0].permute(1, 2, 0)
        assert_close(raw, recorded[f"trace_raw_{case}"], 1e-5)
        balanced = color.white_balance(mosaicked.image, mosaicked.known_camera)
        packed = torch.nn.functional.pixel_unshuffle(balanced, 2)[0].permute(1, 2, 0)
        assert_close(packed, recorded[f"trace_wb_{case}"], 1e-5)
        rendered = seen["forward_isp"].image[0].permute(1, 2, 0)
        assert_close(rendered, recorded[f"trace_srgb_{case}"].clip(0, 1), 1e-4)
        toned = seen["tone_curve"]
        assert_close(toned.image[0].permute(1, 2, 0), recorded[f"trace_blur_crf_{case}"], TOLERANCE["pipeline"])
        assert_close(toned.sharp[0].permute(1, 2, 0), recorded[f"trace_gt_crf_{case}"], TOLERANCE["pipeline"])


# ---------------------------------------------------------------- the TensorFlow pipeline, noise off


def tensorflow_samples(recorded: dict[str, np.ndarray], of: str, camera_keys):
    """Samples of a recorded batch, seen through every stage but noise."""
    for at, pattern in enumerate(recorded["patterns_in_batch_order"]):
        sample = Sample(
            image=planes(recorded[f"{of}_blur"][at]),
            space="srgb",
            sharp=planes(recorded[f"{of}_gt"][at]),
            saturation=planes(recorded[f"{of}_mask"][at]),
            sharp_frame=None,
            seed=0,
            index=0,
            source="recorded",
        )
        strength = [float(recorded[f"{of}_alpha"][at])] * 2
        document = {
            "name": "tensorflow",
            "isp": "rsblur/tensorflow",
            "source": {"use": "pairs", "layout": "rsblur"},
            "stages": [
                {"crop": {"size": [40, 48], "at": [0, 0]}},
                {"camera": {**camera_keys(at), "cfa": [str(pattern)]}},
                "inverse_isp",
                {"saturate": {"strength": strength}},
                "mosaic",
                "forward_isp",
                "keep_saturated",
                *([{"tone_curve": {"curve": "a7r3_polynomial"}}] if of == "realblur" else []),
                {"crop_border": {"pixels": 4}},
            ],
        }
        height, width = recorded[f"{of}_blur"].shape[1:3]
        document["stages"][0]["crop"]["size"] = [height, width]
        bound = recipe.bind(document, "tensorflow")
        for label, stage in bound.labelled:
            sample = stage(sample.replace(stage=label))
        yield at, sample


def test_golden_tensorflow_realblur():
    recorded = golden.recording("rsblur_tf")

    def camera(at: int) -> dict:
        red, blue = (float(gain) for gain in recorded["realblur_gains"][at])
        return {"profile": "a7r3", "white_balance": [[red, red], [blue, blue]]}

    for at, sample in tensorflow_samples(recorded, "realblur", camera):
        assert_close(sample.image[0].permute(1, 2, 0), recorded["ref_realblur_out"][at], TOLERANCE["pipeline"])
        assert_close(sample.sharp[0].permute(1, 2, 0), recorded["ref_realblur_gt_out"][at], TOLERANCE["pipeline"])


def test_golden_tensorflow_rsblur():
    recorded = golden.recording("rsblur_tf")

    def camera(at: int) -> dict:
        return {"profile": "rsblur", "days": [str(recorded["rsblur_key"][at])]}

    for at, sample in tensorflow_samples(recorded, "rsblur", camera):
        assert_close(sample.image[0].permute(1, 2, 0), recorded["ref_rsblur_out"][at], TOLERANCE["tensorflow"])


def test_golden_tensorflow_matrices_of_capture_days():
    recorded = golden.recording("rsblur_tf")
    rsblur = profile.load("rsblur")
    shots = {shot.day: shot for shot in rsblur.shots}
    assert sorted(shots) == sorted(map(str, recorded["ref_rsblur_keys"]))
    for key, gains, xyz_to_camera in zip(
        recorded["ref_rsblur_keys"], recorded["ref_rsblur_wb"], recorded["ref_rsblur_xyz2cam"], strict=True
    ):
        shot = shots[str(key)]
        assert np.allclose([shot.white_balance[0], 1, shot.white_balance[1]], gains, atol=1e-6)
        # Row convention, in D50-adapted XYZ: the inverse of the published correction matrix.
        assert np.allclose(np.linalg.inv(np.array(shot.color_correction)).T, xyz_to_camera, atol=1e-5)


# ---------------------------------------------------------------- noise


def standard_errors(values: np.ndarray) -> tuple[float, float]:
    """Of the mean and of the variance of `values`."""
    fourth = float(((values - values.mean()) ** 4).mean())
    return values.std() / math.sqrt(len(values)), math.sqrt(max(fourth - values.var() ** 2, 0) / len(values))


@pytest.mark.parametrize(
    "setting", ["realblur_u0", "realblur_u0.5", "realblur_u1", "rsblur_u0", "rsblur_u0.5", "rsblur_u1"]
)
def test_golden_noise_statistics(setting):
    recorded = golden.recording("rsblur_noise")
    shot_gain, read_std = (float(value) for value in recorded[f"{setting}_K_sigma"])
    rows = {name: column for column, name in enumerate(recorded["stat_columns"])}
    count = 300_000
    for at, level in enumerate(recorded["levels"]):
        draws = [
            torch.from_numpy(generator(1, at, f"{setting}.{kind}").standard_normal(count, dtype=np.float32))
            for kind in ("photons", "readout")
        ]
        flat = torch.full((1, 1, 1, count), float(level))
        noisy = poisson_gaussian(flat, shot_gain, read_std, *(draw.view_as(flat) for draw in draws))
        values = noisy.flatten().double().numpy()
        row = recorded[setting][at]
        mean_error, variance_error = standard_errors(values)
        # Ours and the recorded sample are both random: five standard errors of their difference.
        wider = math.sqrt(1 + count / float(recorded["samples_per_level"]))
        # A float32 mean of 1.44 million recorded values near 1 carries its own rounding.
        assert abs(values.mean() - row[rows["mean"]]) < 5 * wider * mean_error + 5e-6 * level
        assert abs(values.var() - row[rows["var"]]) < 5 * wider * variance_error + 1e-5 * row[rows["var"]]
        standard = (values - values.mean()) / values.std()
        skew, kurtosis = float((standard**3).mean()), float((standard**4).mean() - 3)
        # Their spread grows where few photons make the tails heavy.
        spread = 5 * wider * math.sqrt(1 + 3 * abs(row[rows["skew"]])) / math.sqrt(count)
        assert abs(skew - row[rows["skew"]]) < math.sqrt(6) * spread * 2
        assert abs(kurtosis - row[rows["excess_kurtosis"]]) < math.sqrt(24) * spread * 3
        below = float((values < 0).mean())
        expected = float(row[rows["frac_negative"]])
        assert abs(below - expected) < 5 * wider * math.sqrt(max(expected * (1 - expected), 1 / count) / count)


def test_golden_noise_through_the_isp():
    """Flat patches through saturation-free RSBlur with noise: mean and standard deviation per channel."""
    recorded = golden.recording("rsblur_noise")
    gains = (float(recorded["flat_red"]), float(recorded["flat_blue"]))
    side = 192
    for row, pattern in enumerate(recorded["flat_patterns"]):
        shot = profile.load("a7r3").camera(gains, str(pattern))
        for column, level in enumerate(recorded["flat_u8"]):
            bound = load_recipe("gopro_u")
            stages = dict(bound.labelled)
            sample = Sample(
                image=torch.full((1, 3, side, side), float(level) / 255),
                space="srgb",
                sharp=torch.zeros(1, 3, side, side),
                saturation=torch.zeros(1, 3, side, side),
                camera=shot,
                sharp_frame=None,
                seed=row,
                index=column,
                source="flat",
            )
            for label in ("inverse_isp", "mosaic"):
                sample = stages[label](sample.replace(stage=label))
            noise = stages["sensor_noise"].model_copy(update={"scale": (1.0, 1.0)})
            sample = stages["forward_isp"](noise(sample.replace(stage="sensor_noise")))
            for recorded_name, final in (
                ("flat_mean_std_before_crf", sample),
                ("flat_mean_std_after_crf", stages["tone_curve"](sample)),
            ):
                ours = final.image[0, :, 8:-8, 8:-8].double().flatten(1)
                expected = recorded[recorded_name][row, column]
                # Demosaicing correlates neighbours: about a tenth of the pixels count as independent.
                independent = ours.shape[1] / 10
                for channel in range(3):
                    mean, std = expected[channel], expected[3 + channel]
                    assert abs(float(ours[channel].mean()) - mean) < 5 * std / math.sqrt(independent) + 1e-4
                    assert abs(float(ours[channel].std()) - std) < std * 5 / math.sqrt(2 * independent) + 2e-5


def test_golden_range_of_the_random_scale():
    """shot gain and read std are each scaled by U[0.5, 1.5]: quantiles of the drawn scale."""
    recorded = golden.recording("rsblur_noise")["realblur_scale_ratio_quantiles"]
    noise = dict(load_recipe("gopro_u").labelled)["sensor_noise"]
    base = Sample(
        image=torch.full((1, 1, 8, 8), 0.5),
        space="bayer",
        sharp=torch.zeros(1, 3, 8, 8),
        camera=profile.load("a7r3").camera((2.0, 1.7)),
        seed=7,
        index=0,
        source="flat",
    )
    drawn = [
        noise(base.replace(index=i, stage="sensor_noise")).draws["sensor_noise.shot_gain"] / 8.8915e-5
        for i in range(600)
    ]
    ours = np.quantile(drawn, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    # The recorded ratios are estimated from noisy pixels, and there are 600 of ours.
    assert np.abs(ours - recorded).max() < 0.06
    assert min(drawn) >= 0.5 and max(drawn) <= 1.5


def test_golden_stages_are_the_ones_the_recipe_uses():
    """The parity above means something only if the shipped recipe is made of the stages compared."""
    bound = load_recipe("gopro_u")
    kinds = [type(stage) for stage in bound.stages]
    assert all(kind in kinds for kind in (DrawCamera, InverseISP, Saturate, Mosaic))
    assert bound.isp == "rsblur/published"
