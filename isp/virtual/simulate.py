"""The virtual camera: makes RAW + JPEG pairs with EXIF values from scenes, for training without real pairs.

    camera = cameras.load("a7r3-virtual")
    scene = scenes.dead_leaves(448, 448, rng)
    shot = simulate.take(scene, camera, rng)        shot.raw, shot.srgb, shot.camera, shot.sensor

Light passes the lens (softness, vignetting), becomes electrons (inverse camera matrix and white balance, filter array,
photon and read noise) and then 14-bit numbers; `isp.virtual.develop` makes the JPEG. A shot is a pure function of the
scene, the camera and the generator. Give each shot a generator of its own, so that no shot depends on another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from isp import cfa, color
from isp.camera import Camera
from isp.levels import bayer_of_raw, raw_of_bayer
from isp.virtual.cameras import Lens, Range, VirtualCamera
from isp.virtual.develop import develop, gaussian_blur
from isp.virtual.scenes import Scene


@dataclass(frozen=True, eq=False)
class Shot:
    """The RAW and the JPEG of one exposure, aligned pixel by pixel.

    raw     mosaic with the camera's black and white levels
    srgb    the decoded JPEG
    camera  EXIF values, white balance, matrix, levels, CFA of `raw`
    sensor  ground truth of `raw`: no noise, no mosaic, clipped to [0, 1] (0 also for colours outside the camera's gamut)
    """

    raw: UInt16[np.ndarray, "h w"]
    srgb: UInt8[np.ndarray, "h w 3"]
    camera: Camera
    sensor: Float[Tensor, "3 h w"]

    def bayer(self) -> Float[Tensor, "1 1 h w"]:
        """Return `raw` with black at 0 and saturation at 1."""
        return bayer_of_raw(torch.from_numpy(self.raw), self.camera)

    def crop(self, top: int, left: int, height: int, width: int) -> Shot:
        """Return a window of all three pictures; an odd `top` or `left` shifts the CFA phase.

        Raises `ValueError` if the window leaves the shot.
        """
        if not (0 <= top <= top + height <= len(self.raw) and 0 <= left <= left + width <= self.raw.shape[1]):
            inside = f"{self.raw.shape[0]}x{self.raw.shape[1]}"
            raise ValueError(f"crop: expected a window inside {inside}, got {height}x{width} at ({top}, {left})")
        rows, columns = slice(top, top + height), slice(left, left + width)
        return Shot(
            raw=self.raw[rows, columns],
            srgb=self.srgb[rows, columns],
            camera=self.camera.crop(top, left),
            sensor=self.sensor[:, rows, columns],
        )


def take(scene: Scene, virtual: VirtualCamera, rng: np.random.Generator) -> Shot:
    """Take one shot of a scene of at least 32 pixels a side, with settings that suit its brightness."""
    camera = draw_camera(virtual, scene.ev100, rng)
    sensor = expose(scene, virtual, camera)
    raw = read_out(sensor, virtual, camera, rng)
    return Shot(raw=raw, srgb=develop(raw, virtual.character, camera), camera=camera, sensor=sensor)


# ---------------------------------------------------------------- the photographer

_ISO = [100.0 * third * 2**stop for stop in range(8) for third in (1, 1.25, 1.6)]


def _within(value: float, limits: Range) -> float:
    return min(max(value, limits[0]), limits[1])


def exposure_value(exposure_s: float, f_number: float, iso: float) -> float:
    """Return the EV of the settings, for ISO 100: log2(f_number^2 / exposure_s * 100 / iso). Source: iso2720"""
    return math.log2(f_number**2 / exposure_s * 100 / iso)


def draw_camera(virtual: VirtualCamera, ev100: float, rng: np.random.Generator) -> Camera:
    """Draw the EXIF values and the white balance of one shot of a scene of brightness `ev100`.

    f-number and focal length are log-uniform. The photographer accepts exposures up to 2^U(-3, 3) / focal_mm seconds (a
    moving subject at one end, a tripod at the other); ISO is the lowest that this allows, or up to two stops higher. The
    exposure time follows from `ev100`, with an error of 0.5 stops. In the dark the lens is opened before the last two
    stops of ISO are used; in glaring light it is stopped down if the shutter is not fast enough. ISO values are 100, 125,
    160 and their doubles; exposure times are exact thirds of a stop (1/406 s is displayed as 1/400 by a camera).
    """
    lens = virtual.lens
    f_number = math.exp(rng.uniform(*np.log(lens.f_number)))
    focal_mm = round(math.exp(rng.uniform(*np.log(lens.focal_mm))))
    longest_s = 2 ** rng.uniform(-3, 3) / focal_mm
    spare_iso_stops, error_stops = rng.uniform(0, 2), rng.normal(0, 0.5)
    place, red_error, blue_error = rng.uniform(), *rng.normal(0, 0.03, 2)

    light = 2.0 ** (ev100 - error_stops)
    f_number = _within(min(f_number, math.sqrt(light * longest_s * virtual.iso[1] / 400)), lens.f_number)
    wanted_iso = _within(100 * f_number**2 / (light * longest_s) * 2**spare_iso_stops, virtual.iso)
    iso = min(_ISO, key=lambda step: abs(math.log2(step / wanted_iso)))
    f_number = _within(max(f_number, math.sqrt(light * iso / 100 * virtual.exposure_s[0])), lens.f_number)
    f_number = round(f_number, 1)
    wanted_s = _within(100 * f_number**2 / (light * iso), virtual.exposure_s)
    exposure_s = 2 ** (round(3 * math.log2(wanted_s)) / 3)
    gains = np.log(np.array(virtual.white_balances))
    at = place * (len(gains) - 1)
    red, blue = (math.exp(np.interp(at, np.arange(len(gains)), gains[:, column])) for column in (0, 1))
    return virtual.profile.camera(
        (red * math.exp(red_error), blue * math.exp(blue_error)),
        iso=iso,
        exposure_s=exposure_s,
        f_number=f_number,
        focal_mm=float(focal_mm),
    )


# ---------------------------------------------------------------- lens and sensor


def vignetting(lens: Lens, f_number: float, focal_mm: float, height: int, width: int) -> Float[Tensor, "h w"]:
    """Return the share of light that reaches each pixel; 1 in the middle.

        cos^4(theta) (1 - mechanical (f_open / f_number)^2 rho^4),   tan(theta) = rho half_diagonal / (focal + exit_pupil)

    rho is the distance from the middle, 1 in the corners of the frame. The first factor is due to oblique light and
    approaches 1 at long focal lengths; the second is due to the barrel and approaches 1 when the lens is stopped down.
    Source: goldman2010, its natural and mechanical vignetting
    """
    row = torch.linspace(-1, 1, height, device="cpu")[:, None] * height
    column = torch.linspace(-1, 1, width, device="cpu")[None] * width
    rho_squared = (row**2 + column**2) / (height**2 + width**2)
    slope = lens.half_diagonal_mm / (focal_mm + lens.exit_pupil_mm)
    oblique = 1 / (1 + rho_squared * slope**2) ** 2
    return oblique * (1 - lens.mechanical * (lens.f_number[0] / f_number) ** 2 * rho_squared**2)


def expose(scene: Scene, virtual: VirtualCamera, camera: Camera) -> Float[Tensor, "3 h w"]:
    """Return the light on the sensor: the scene through the lens, for the settings of `camera`, clipped to [0, 1].

    Raises `ValueError` if a setting is unknown.
    """
    if camera.iso is None or camera.exposure_s is None or camera.f_number is None or camera.focal_mm is None:
        raise ValueError("expose: expected a camera with known ISO, exposure time, f-number and focal length")
    lens, f_number = virtual.lens, float(camera.f_number)
    stops = scene.ev100 - exposure_value(float(camera.exposure_s), f_number, float(camera.iso))
    softness_px = lens.softness_px * (1 + 0.24 * abs(math.log2(f_number / lens.sharpest_f_number)))
    image = gaussian_blur(scene.linear[None], softness_px)
    shade = vignetting(lens, f_number, float(camera.focal_mm), *scene.linear.shape[1:])
    linear = image * shade * (virtual.metered_level * 2**stops)
    return color.linear_to_sensor(linear, camera)[0].clamp(0, 1)


def read_out(
    sensor: Float[Tensor, "3 h w"], virtual: VirtualCamera, camera: Camera, rng: np.random.Generator
) -> UInt16[np.ndarray, "h w"]:
    """Make the raw file: apply the filter array, count photons, read out electrons, quantise from black to white level.

        shot_gain Poisson(light / shot_gain) + read_std N(0, 1),   with the profile's noise at the shot's ISO

    Clipped to [0, white level]. Raises `ValueError` if the profile has no noise or no levels. Source: rim2022, RSBlur@ae33a6c
    """
    if virtual.profile.noise is None:
        raise ValueError(f'virtual camera "{virtual.name}": expected a profile with noise, got none')
    shot_gain, read_std = virtual.profile.noise.at(None if camera.iso is None else float(camera.iso))
    light = cfa.mosaic(sensor[None], camera.cfa).double()
    # Not `isp.light.noise`: the bundled weights were trained on these draws, so they must stay as they are. Photons last,
    # because rejection consumes a stream that depends on the light, and nothing is drawn after it.
    readout = rng.standard_normal(light.shape)
    signal = shot_gain * rng.poisson(light.numpy() / shot_gain) + read_std * readout
    return raw_of_bayer(torch.from_numpy(signal), camera).numpy()
