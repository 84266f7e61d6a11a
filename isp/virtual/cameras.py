"""The virtual cameras as data: sensors, lenses and the characters of their ISPs.

The A7R3's matrix, response, noise and white balances are measured (isp/cameras/a7r3.yaml and isp/tone.py); the matrices of
the D7000 and the D90 are LibRaw's. Everything else is assumed: plausible figures that make three cameras differ, not
descriptions of products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from jaxtyping import Float
from torch import Tensor

from isp import profile as profiles
from isp import tone
from isp.command import did_you_mean
from isp.profile import Levels, Noise, Profile
from isp.virtual.develop import Character

Range = tuple[float, float]  # (smallest, largest)
Values = Float[Tensor, "..."]


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A zoom lens in front of a sensor.

    focal_mm, f_number    ranges
    half_diagonal_mm      half the diagonal of the sensor
    exit_pupil_mm         distance of the exit pupil from the sensor, minus `focal_mm`
    mechanical            share of light that the barrel blocks in the corners when wide open
    softness_px           standard deviation of its blur at `sharpest_f_number`; grows by 12 % per stop from there
    """

    focal_mm: Range
    f_number: Range
    half_diagonal_mm: float
    exit_pupil_mm: float
    mechanical: float
    softness_px: float
    sharpest_f_number: float


@dataclass(frozen=True, kw_only=True)
class VirtualCamera:
    """A sensor, a lens, and an ISP.

    profile          matrix, levels, noise and the CFA of the whole frame
    white_balances   (red, blue) gains from tungsten light to shade; a shot interpolates between two neighbours
    iso, exposure_s  ranges
    metered_level    the level to which exposure metering brings the mean luminance of a scene; saturation is 1
    """

    name: str
    profile: Profile
    white_balances: tuple[tuple[float, float], ...]
    iso: Range
    exposure_s: Range
    metered_level: float
    lens: Lens
    character: Character


# ---------------------------------------------------------------- responses


def _shoulder(linear: Values, knee: float) -> Values:
    """Compress highlights by x (1 + knee) / (x + knee); white stays white."""
    return linear * (1 + knee) / (linear + knee)


def _d7000_response(linear: Values) -> Values:
    return tone.srgb_curve(_shoulder(linear, 0.8))


def _d90_response(linear: Values) -> Values:
    return tone.srgb_curve(_shoulder(linear, 0.5))


# ---------------------------------------------------------------- the three cameras


def _a7r3() -> VirtualCamera:
    """Full frame. Neutral: the measured response at base ISO, little local tone mapping, careful denoising."""
    measured = profiles.load("a7r3")
    assert measured.noise is not None
    # From tungsten light to daylight: the profile's table, sorted by the red gain.
    white_balances = sorted({shot.white_balance for shot in measured.shots})
    return VirtualCamera(
        name="a7r3-virtual",
        profile=measured.model_copy(update={"name": "a7r3-virtual"}),
        white_balances=tuple(white_balances),
        iso=(100.0, 12800.0),
        exposure_s=(1 / 8000, 4.0),
        metered_level=0.09,
        lens=Lens(
            focal_mm=(24.0, 70.0),
            f_number=(2.8, 16.0),
            half_diagonal_mm=21.6,
            exit_pupil_mm=35.0,
            mechanical=0.30,
            softness_px=0.45,
            sharpest_f_number=5.6,
        ),
        character=Character(
            response=tone.a7r3_response,
            noise=measured.noise,
            luma_denoise=1.0,
            chroma_denoise=2.0,
            denoise_per_stop=0.08,
            lift=0.12,
            lift_per_time_stop=0.025,
            lift_per_iso_stop=-0.01,
            contrast=0.0,
            contrast_per_time_stop=-0.035,
            contrast_per_iso_stop=-0.05,
            sharpen=0.4,
            sharpen_per_stop=0.2,
            sharpen_radius_px=0.8,
            sharpest_f_number=5.6,
            saturation=1.0,
            jpeg_quality=96,
        ),
    )


def _with_noise(profile: str, name: str, levels: Levels, noise: Noise) -> Profile:
    return profiles.load(profile).model_copy(update={"name": name, "levels": levels, "noise": noise})


def _d7000() -> VirtualCamera:
    """APS-C. Vivid: a soft shoulder, contrast in bright light, deep shadow lift in dark scenes, smooth high ISO."""
    noise = Noise(iso=100.0, shot_gain=7.5e-5, read_std=2.2e-4)
    return VirtualCamera(
        name="d7000-virtual",
        profile=_with_noise("d7000", "d7000-virtual", Levels(black=600.0, white=16383.0), noise),
        # CIE illuminants A, F11, D50, D65, D75 seen through the camera's matrix.
        white_balances=((1.23, 2.32), (1.67, 1.65), (1.97, 1.43), (2.27, 1.22), (2.40, 1.13)),
        iso=(100.0, 6400.0),
        exposure_s=(1 / 8000, 4.0),
        metered_level=0.12,
        lens=Lens(
            focal_mm=(18.0, 105.0),
            f_number=(3.5, 22.0),
            half_diagonal_mm=14.2,
            exit_pupil_mm=30.0,
            mechanical=0.40,
            softness_px=0.50,
            sharpest_f_number=8.0,
        ),
        character=Character(
            response=_d7000_response,
            noise=noise,
            luma_denoise=1.15,
            chroma_denoise=2.5,
            denoise_per_stop=0.10,
            lift=0.18,
            lift_per_time_stop=0.035,
            lift_per_iso_stop=-0.015,
            contrast=0.35,
            contrast_per_time_stop=-0.045,
            contrast_per_iso_stop=-0.07,
            sharpen=0.5,
            sharpen_per_stop=0.2,
            sharpen_radius_px=0.9,
            sharpest_f_number=8.0,
            saturation=1.15,
            jpeg_quality=93,
        ),
    )


def _d90() -> VirtualCamera:
    """APS-C, older. Bright and flat: a hard shoulder, grainy, sharpened with a wide radius, little local tone."""
    noise = Noise(iso=200.0, shot_gain=2.2e-4, read_std=6.0e-4)
    return VirtualCamera(
        name="d90-virtual",
        profile=_with_noise("d90", "d90-virtual", Levels(black=256.0, white=15892.0), noise),
        white_balances=((1.18, 2.53), (1.62, 1.65), (1.92, 1.40), (2.17, 1.16), (2.28, 1.07)),
        iso=(200.0, 3200.0),
        exposure_s=(1 / 4000, 4.0),
        metered_level=0.11,
        lens=Lens(
            focal_mm=(16.0, 85.0),
            f_number=(3.5, 16.0),
            half_diagonal_mm=14.2,
            exit_pupil_mm=22.0,
            mechanical=0.45,
            softness_px=0.55,
            sharpest_f_number=7.1,
        ),
        character=Character(
            response=_d90_response,
            noise=noise,
            luma_denoise=0.7,
            chroma_denoise=1.6,
            denoise_per_stop=0.10,
            lift=0.06,
            lift_per_time_stop=0.02,
            lift_per_iso_stop=-0.005,
            contrast=0.45,
            contrast_per_time_stop=-0.025,
            contrast_per_iso_stop=-0.08,
            sharpen=0.6,
            sharpen_per_stop=0.15,
            sharpen_radius_px=1.2,
            sharpest_f_number=7.1,
            saturation=1.05,
            jpeg_quality=90,
        ),
    )


_CAMERAS: dict[str, Callable[[], VirtualCamera]] = {"a7r3-virtual": _a7r3, "d7000-virtual": _d7000, "d90-virtual": _d90}


@cache
def load(name: str) -> VirtualCamera:
    """Return the virtual camera `name`, one of `names()`. Raises `ValueError` if it is unknown."""
    if name not in _CAMERAS:
        hint = did_you_mean(name, _CAMERAS)
        raise ValueError(f'virtual camera: expected one of {", ".join(_CAMERAS)}, got "{name}"{hint}')
    return _CAMERAS[name]()


def names() -> list[str]:
    """List the virtual cameras that come with the package."""
    return list(_CAMERAS)
