"""From the values of LibRaw and the tags of a DNG to a mosaic and the fields of its `Camera`, with findings on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt16
from torch import Tensor

from isp.files import soundness, tiff
from isp.files.findings import Finding
from isp.files.sensor import dng, filters, histogram, white_point
from isp.files.sensor.given import Given
from isp.files.sensor.levels import BLACK, WHITE, Black, at_common_levels, colours_of, uniform
from isp.files.sensor.opcodes import MOST_GAINS, Gain, Opcode, Window, gain_of

Mosaic = UInt16[np.ndarray, "h w"]
Gains = tuple[float, float, float]


@dataclass(frozen=True)
class Container:
    """What a file of `size` bytes says without LibRaw: the directory of its RAW data, if it is a TIFF, and its DNG tags."""

    size: int
    page: tiff.Page | None = None
    stated: dng.Statements | None = None
    is_foveon: bool = False


@dataclass(frozen=True)
class Decoded:
    """What LibRaw says of a file.

    raw        the visible area
    whole      height and width of the recorded area, in which the visible one begins at `top` and `left`
    sites      the numbers of the colours of the first `filters.PERIOD` sites each way, which `letters` name; None if the
               file has no mosaic of colours
    blacks     the level of each of these numbers
    to_linear  LibRaw's matrix from white-balanced sensor RGB; 0 if it is unknown, as `xyz_to_sensor` is
    """

    raw: np.ndarray
    whole: tuple[int, int]
    top: int
    left: int
    sites: np.ndarray | None
    letters: str
    blacks: tuple[float, ...]
    white: float
    xyz_to_sensor: np.ndarray
    to_linear: np.ndarray
    as_shot: tuple[float, ...]
    daylight: tuple[float, ...]


@dataclass(frozen=True)
class Levels:
    """Black of red, green and blue, and white."""

    black: Gains
    white: float

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Camera`."""
        return {"black": torch.tensor([self.black], device="cpu"), "white": torch.tensor([self.white], device="cpu")}


@dataclass(frozen=True)
class Shot:
    """The visible mosaic with its levels, the levels at which its camera records, and the other fields of a `Camera`."""

    raw: Mosaic
    levels: Levels
    native: Levels
    fields: dict[str, Any]


def judged(decoded: Decoded, container: Container, given: Given) -> tuple[Shot | None, list[Finding]]:
    """Return (the shot, or None if a finding is fatal; the findings).

    What is given goes before what the file says. Raises `ValueError` for pixels of another type than 16 bits.
    """
    raw = decoded.raw
    if raw.ndim not in (2, 3) or raw.dtype != np.uint16:
        raise ValueError(f"pixels of the type {raw.dtype}")
    stated, findings = _stated(decoded, container.stated)
    pattern, on_pattern = _pattern(decoded, stated, container.is_foveon)
    findings.append(on_pattern)
    if pattern is None:
        return None, findings + _of_no_mosaic(decoded, container)
    black = _black(decoded, stated) if given.black is None else _given_black(given.black, pattern, raw)
    on_data = soundness.data(raw, (black.least(),), container.page, container.size)
    levels, on_levels = _levels(decoded, pattern, black, given.white)
    matrix, on_matrix = _matrix(decoded, container, stated, given.sensor_to_linear)
    gains, on_gains = _gains(decoded, stated, given.gains)
    findings += [on_data, *on_levels, on_matrix, on_gains]
    if on_data.severity == "fatal" or levels is None or matrix is None or gains is None:
        return None, findings
    raw, common, on_correction = _corrected(decoded, pattern, black, levels, stated)
    sensor_to_linear, xyz_to_sensor = matrix
    fields = {
        "cfa": (pattern,),
        "white_balance": torch.tensor([gains], dtype=torch.float32, device="cpu"),
        "sensor_to_linear": sensor_to_linear.float()[None],
        "xyz_to_sensor": None if xyz_to_sensor is None else xyz_to_sensor.float()[None],
    }
    return Shot(raw, common, levels, fields), findings + on_correction


def _of_no_mosaic(decoded: Decoded, container: Container) -> list[Finding]:
    """Return what can still be said of pixels that cannot be used."""
    colours = decoded.raw if decoded.raw.ndim == 2 else decoded.raw[..., :3]  # the fourth of a linear file is always 0
    rows = colours.reshape(len(colours), -1)
    black = uniform([[min(decoded.blacks)]], *rows.shape)
    _, on_levels = histogram.levels(histogram.counts_of(rows), black, f"{black.least():g}", decoded.white)
    return [soundness.data(colours, (black.least(),), container.page, container.size), *on_levels]


def _stated(decoded: Decoded, stated: dng.Statements | None) -> tuple[dng.Statements | None, list[Finding]]:
    """Return (what the DNG states about the mosaic that LibRaw gives; the findings on that)."""
    if stated is None:
        return None, []
    if stated.size != decoded.whole:
        sizes = "its directory describes {}x{} pixels, but LibRaw reads {}x{}".format(*stated.size, *decoded.whole)
        return None, [Finding("DNG", "warning", f"{sizes}; its DNG tags are ignored", "DNG tags ignored")]
    height, width = decoded.raw.shape[:2]
    return stated, dng.remarks(stated, height, width)


def _pattern(decoded: Decoded, stated: dng.Statements | None, is_foveon: bool) -> tuple[str | None, Finding]:
    if decoded.sites is None:
        return None, filters.absent(1 if decoded.raw.ndim == 2 else 3, is_foveon)
    if stated is not None and stated.cells is not None:
        top, left = decoded.top - stated.active[0], decoded.left - stated.active[1]
        return filters.pattern_of_dng(stated.cells, stated.layout, top, left)
    return filters.pattern_of_libraw(decoded.sites, decoded.letters)


# ---------------------------------------------------------------- colours


def _matrix(
    decoded: Decoded, container: Container, stated: dng.Statements | None, given: Float[Tensor, "3 3"] | None
) -> tuple[tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"] | None] | None, Finding]:
    to_linear = decoded.to_linear
    is_known = bool(decoded.xyz_to_sensor.any() or to_linear.any())
    # LibRaw guesses the layout of files without a header from their size; one without a matrix may be anything.
    if given is not None and (is_known or container.page is not None):
        return (given, None), Finding("matrix", "ok", "given by the caller (sensor_to_linear)")
    if stated is not None and stated.white_xy and stated.calibrations and to_linear.any():
        try:
            to_linear = white_point.without_light(to_linear, stated.white_xy, stated.calibrations).numpy()
        except (ValueError, RuntimeError):
            to_linear = np.zeros((3, 3))  # unknown
    return soundness.matrix(decoded.xyz_to_sensor, to_linear)


def _gains(decoded: Decoded, stated: dng.Statements | None, given: Gains | None) -> tuple[Gains | None, Finding]:
    if given is not None:
        shown = " ".join(f"{gain:.4g}" for gain in given)
        return given, Finding("white balance", "ok", f"{shown} given by the caller")
    as_shot, daylight = decoded.as_shot, decoded.daylight
    if stated is None:
        return soundness.white_balance(as_shot, daylight)
    if stated.white_xy:
        # LibRaw's daylight is then the light of the shot.
        unknown = (0.0, 0.0, 0.0)
        daylight = white_point.gains_of_light(stated.calibrations) or unknown
        if not stated.neutral:
            as_shot = white_point.gains_of_light(stated.calibrations, stated.white_xy) or unknown
    return soundness.white_balance(as_shot, daylight, stated.analog_balance or (1.0, 1.0, 1.0))


# ---------------------------------------------------------------- levels


def _black(decoded: Decoded, stated: dng.Statements | None) -> Black:
    assert decoded.sites is not None, "only mosaics have levels"
    height, width = decoded.raw.shape
    black = None if stated is None else stated.black(decoded.top, decoded.left, height, width)
    if black is not None:
        return black
    cell = [[decoded.blacks[number] for number in row] for row in decoded.sites[:2, :2].tolist()]
    return uniform(cell, height, width)


def _given_black(levels: Gains, pattern: str, raw: Mosaic) -> Black:
    height, width = raw.shape
    return uniform(
        [[levels["RGB".index(letter)] for letter in row] for row in (pattern[:2], pattern[2:])], height, width
    )


def _levels(
    decoded: Decoded, pattern: str, black: Black, given_white: float | None
) -> tuple[Levels | None, list[Finding]]:
    """Return (the levels of the mosaic as recorded, or None if they cannot be right; the findings on them)."""
    counts = histogram.counts_of(decoded.raw)
    if given_white is None:
        white, on_clipping = histogram.white_of(decoded.raw, counts, pattern, black, decoded.white)
    else:
        white, on_clipping = given_white, []
    colours = black.of_colours(pattern)
    shown = " ".join(f"{level:.6g}" for level in colours)
    if not black.fits(white):
        shown = f"{black.least():g} to {black.most():g} site by site"
    is_sound, findings = histogram.levels(counts, black, shown, white)
    if on_clipping:
        # What lies above the lowered white is part of what that says.
        findings = [finding for finding in findings if (finding.topic, finding.severity) != ("white", "warning")]
    findings += on_clipping
    return (Levels(colours, white) if is_sound else None), findings


# ---------------------------------------------------------------- what a Camera cannot hold


def _corrected(
    decoded: Decoded, pattern: str, black: Black, levels: Levels, stated: dng.Statements | None
) -> tuple[Mosaic, Levels, list[Finding]]:
    """Return (the mosaic, as recorded unless it needs a correction that a `Camera` cannot hold; its levels; findings)."""
    gains, findings = _gains_of_pixels(() if stated is None else stated.opcodes)
    reasons = [] if black.fits(levels.white) else ["black levels that differ from site to site"]
    reasons += ["gains for its pixels"] if gains else []
    if not reasons:
        return decoded.raw, levels, findings
    top, left, bottom, right = (0, 0, *decoded.whole) if stated is None else stated.active
    window = Window(
        top=decoded.top - top,
        left=decoded.left - left,
        height=bottom - top,
        width=right - left,
        colours=colours_of(pattern),
    )
    raw = at_common_levels(decoded.raw, black, levels.white, gains, window)
    text = f"it has {' and '.join(reasons)}, so they are applied; black is now {BLACK:g}, white {WHITE:g}"
    common = Levels((BLACK,) * 3, WHITE)
    return raw, common, [*findings, Finding("correction", "ok", text)]


def _gains_of_pixels(listed: Sequence[Opcode]) -> tuple[list[Gain], list[Finding]]:
    """Return (the gains among the opcodes of a DNG; the findings on all of them)."""
    gains: list[Gain] = []
    applied, left_out = [], []
    for opcode in listed:
        name = f"OpcodeList{opcode.place} {opcode.name}"
        try:
            gain = gain_of(opcode)
        except ValueError as cause:
            name, gain = f"{name} ({cause})", None
        if gain is None or len(gains) == MOST_GAINS:
            left_out.append(name)
        else:
            gains.append(gain)
            applied.append(name)
    findings = []
    if gains:
        extremes = [gain.least_and_most() for gain in gains]
        least, most = min(least for least, _ in extremes), max(most for _, most in extremes)
        text = f"{_counted(applied)}: gains of {least:.3g} to {most:.3g} for its pixels, applied as in the camera's picture"
        consequence = f"gains of up to {most:.3g} applied to its pixels and their noise"
        findings.append(Finding("opcodes", "warning", f"{text}; noise grows with them", consequence))
    if left_out:
        text = f"it asks for {_counted(left_out)}, not applied here; the camera's picture may have it applied"
        findings.append(Finding("opcodes", "warning", text, f"{_counted(left_out)} not applied"))
    return gains, findings


def _counted(names: Sequence[str]) -> str:
    """Return each name once, with how often it occurs; of many only the first."""
    once = list(dict.fromkeys(names))
    words = [name if names.count(name) == 1 else f"{names.count(name)} {name}" for name in once[:8]]
    return ", ".join(words) + (f" and {len(once) - 8} more" if len(once) > 8 else "")
