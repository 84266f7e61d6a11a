"""What a DNG states about its sensor and its light beyond what LibRaw hands on.

A damaged tag stops nothing: it is left out and named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap

import numpy as np
from jaxtyping import Float

from isp.files import tiff
from isp.files.findings import Finding
from isp.files.sensor import opcodes
from isp.files.sensor.levels import Black
from isp.files.sensor.white_point import KELVIN, Calibration

_NAMES = {
    33421: "CFARepeatPatternDim", 33422: "CFAPattern", 50706: "DNGVersion", 50711: "CFALayout",
    50713: "BlackLevelRepeatDim", 50714: "BlackLevel", 50715: "BlackLevelDeltaH", 50716: "BlackLevelDeltaV",
    50718: "DefaultScale", 50720: "DefaultCropSize", 50721: "ColorMatrix1", 50722: "ColorMatrix2",
    50723: "CameraCalibration1", 50724: "CameraCalibration2", 50727: "AnalogBalance", 50728: "AsShotNeutral",
    50729: "AsShotWhiteXY", 50730: "BaselineExposure", 50778: "CalibrationIlluminant1", 50779: "CalibrationIlluminant2",
    50829: "ActiveArea", 51008: "OpcodeList1", 51009: "OpcodeList2", 51022: "OpcodeList3",
}  # fmt: skip
_TAG = {name: tag for tag, name in _NAMES.items()}
_MOST_SIDE = 2**16  # pixels: no more than LibRaw takes


@dataclass(frozen=True)
class Statements:
    """The tags of a DNG that concern its mosaic; empty or None if they are absent or cannot be right.

    size            height and width of the whole mosaic
    active          top, left, bottom, right of its lit area, from which levels, colours and opcodes count
    tile            black levels that repeat over the active area; `rows` and `columns` of it may add to them
    cells           the colours of the CFA: 0 red, 1 green, 2 blue, 3 cyan, 4 magenta, 5 yellow, 6 white
    layout          1 if the sites form a rectangular grid
    white_xy        the chromaticity of the light; empty if the response to grey (AsShotNeutral) is given instead
    analog_balance  gains of the three colours before they were digitised
    problems        which tags could not be read, and why
    """

    size: tuple[int, int]
    active: tuple[int, int, int, int]
    tile: Float[np.ndarray, "r c"] | None
    rows: Float[np.ndarray, " h"]
    columns: Float[np.ndarray, " w"]
    cells: np.ndarray | None
    layout: int
    neutral: tuple[float, ...]
    white_xy: tuple[float, ...]
    calibrations: tuple[Calibration, ...]
    analog_balance: tuple[float, ...]
    baseline_exposure: float
    scale: tuple[float, ...]
    crop_size: tuple[float, ...]
    opcodes: tuple[opcodes.Opcode, ...]
    problems: tuple[str, ...]

    def black(self, top: int, left: int, height: int, width: int) -> Black | None:
        """Return the levels of a part of the mosaic that begins at `top` and `left`; None if the file states none."""
        if self.tile is None:
            return None
        down, along = top - self.active[0], left - self.active[1]
        # Outside the active area, which LibRaw shows of no file that we know, the nearest value holds.
        rows = self.rows[np.clip(np.arange(down, down + height), 0, len(self.rows) - 1)]
        columns = self.columns[np.clip(np.arange(along, along + width), 0, len(self.columns) - 1)]
        return Black(np.roll(self.tile, (-down, -along), (0, 1)), rows, columns)


def read(data: bytes | mmap, first: tiff.Page, main: tiff.Page) -> Statements | None:
    """Return what the DNG states in its `first` directory and in that of the mosaic; None if it is no DNG that LibRaw can
    read.
    """
    try:
        tags = _Tags(data, dict(tiff.fields(data, first["at"][0])) | dict(tiff.fields(data, main["at"][0])))
    except ValueError:
        return None
    if not tags.has("DNGVersion"):
        return None
    height, width = main.get("height", (0,))[0], main.get("width", (0,))[0]
    if max(height, width) > _MOST_SIDE:
        return None
    active = _active(tags, height, width)
    # A file with several values in each pixel is refused for that; its levels have another form.
    tile, rows, columns = _black(tags, active) if main["channels"] == (1,) else (None, np.zeros(1), np.zeros(1))
    layout, exposure = tags.numbers("CFALayout", 1), tags.numbers("BaselineExposure", 1)
    return Statements(
        size=(height, width),
        active=active,
        tile=tile,
        rows=rows,
        columns=columns,
        cells=_cells(tags),
        layout=int(layout[0]) if layout else 1,
        neutral=tags.numbers("AsShotNeutral", 3),
        white_xy=tags.numbers("AsShotWhiteXY", 2),
        calibrations=_calibrations(tags),
        analog_balance=tags.numbers("AnalogBalance", 3),
        baseline_exposure=exposure[0] if exposure else 0.0,
        scale=tags.numbers("DefaultScale", 2),
        crop_size=tags.numbers("DefaultCropSize", 2),
        opcodes=tuple(_opcodes(tags)),
        problems=tuple(dict.fromkeys(tags.problems)),
    )


class _Tags:
    """The tags of a DNG by name, and the problems met in reading them."""

    def __init__(self, data: bytes | mmap, fields: Mapping[int, tiff.Field]) -> None:
        self._data, self._fields = data, fields
        self.problems: list[str] = []

    def has(self, name: str) -> bool:
        return _TAG[name] in self._fields

    def numbers(self, name: str, count: int | None = None) -> tuple[float, ...]:
        """Return the finite values of a tag, `count` if that is given; empty if there are none."""
        if not self.has(name):
            return ()
        try:
            found = tiff.numbers(self._data, self._fields[_TAG[name]])
        except ValueError as cause:
            return self._problem(name, str(cause))
        if not found or (count is not None and len(found) != count):
            return self._problem(name, f"{len(found)} values")
        if not all(map(math.isfinite, found)):
            # 0/0 is how some cameras write "unknown"; of more than one value, that is damage.
            return () if len(found) == 1 else self._problem(name, "a value that is no number")
        return found

    def content(self, name: str) -> bytes:
        """Return the bytes of a tag; empty if it is absent."""
        if not self.has(name):
            return b""
        try:
            return tiff.content(self._data, self._fields[_TAG[name]], opcodes.MOST_BYTES)
        except ValueError as cause:
            self._problem(name, str(cause))
            return b""

    def _problem(self, name: str, reason: str) -> tuple[float, ...]:
        self.problems.append(
            f"its {name} has {reason}" if "value" in reason else f"its {name} cannot be read ({reason})"
        )
        return ()

    def misfit(self, name: str, reason: str) -> None:
        """Remember that a tag contradicts others."""
        self.problems.append(f"its {name} {reason}")


def _active(tags: _Tags, height: int, width: int) -> tuple[int, int, int, int]:
    stated = tags.numbers("ActiveArea", 4)
    if not stated:
        return 0, 0, height, width
    top, left, bottom, right = map(int, stated)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        tags.misfit("ActiveArea", f"{top}, {left}, {bottom}, {right} is outside the {height}x{width} pixels")
        return 0, 0, height, width
    return top, left, bottom, right


def _black(tags: _Tags, active: tuple[int, int, int, int]) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return (the tile, the values that rows add, the values that columns add); a tile of None means "not stated"."""
    top, left, bottom, right = active
    added = []
    for name, length in (("BlackLevelDeltaV", bottom - top), ("BlackLevelDeltaH", right - left)):
        added.append(np.array(tags.numbers(name, length) or [0.0] * max(1, length)))
    rows, columns = added
    height, width = map(int, tags.numbers("BlackLevelRepeatDim", 2) or (1, 1))
    levels = tags.numbers("BlackLevel")
    if levels and len(levels) == height * width:
        return np.array(levels).reshape(height, width), rows, columns
    if levels:
        tags.misfit("BlackLevel", f"has {len(levels)} values, but repeats after {height}x{width} pixels")
    elif rows.any() or columns.any():
        return np.zeros((1, 1)), rows, columns
    return None, rows, columns


def _cells(tags: _Tags) -> np.ndarray | None:
    height, width = map(int, tags.numbers("CFARepeatPatternDim", 2) or (0, 0))
    colours = tags.numbers("CFAPattern")
    if not colours:
        return None
    if height * width != len(colours):
        tags.misfit("CFAPattern", f"has {len(colours)} values, but repeats after {height}x{width} pixels")
        return None
    return np.array(colours, int).reshape(height, width)


def _calibrations(tags: _Tags) -> tuple[Calibration, ...]:
    found = []
    balance = np.array(tags.numbers("AnalogBalance", 3) or (1.0, 1.0, 1.0))
    for number in "12":
        matrix = tags.numbers(f"ColorMatrix{number}", 9)
        if matrix:
            corrected = np.array(tags.numbers(f"CameraCalibration{number}", 9) or np.eye(3).ravel()).reshape(3, 3)
            light = tags.numbers(f"CalibrationIlluminant{number}", 1)
            xyz_to_sensor = balance[:, None] * (corrected @ np.array(matrix).reshape(3, 3))
            found.append(Calibration(xyz_to_sensor, KELVIN.get(int(light[0])) if light else None))
    return tuple(found)


def _opcodes(tags: _Tags) -> list[opcodes.Opcode]:
    found = []
    for place in (1, 2, 3):
        name = f"OpcodeList{place}"
        content = tags.content(name)
        try:
            found += opcodes.listed(content, place) if content else []
        except ValueError as cause:
            tags.misfit(name, f"cannot be read ({cause})")
    return found


# ---------------------------------------------------------------- what is only mentioned


def remarks(stated: Statements, height: int, width: int) -> list[Finding]:
    """Return the findings on tags that change nothing here, for a visible area of `height` x `width`."""
    found = [Finding("DNG", "warning", f"{problem}; it is ignored", "a DNG tag ignored") for problem in stated.problems]
    if stated.baseline_exposure:
        text = f"BaselineExposure of {stated.baseline_exposure:+.3g} EV, by which the camera's picture is brighter; "
        found.append(Finding("exposure", "ok", f"{text}not applied"))
    across, down = stated.scale or (1.0, 1.0)
    if across > 0 and down > 0 and abs(across / down - 1) > 0.005:
        text = f"its pixels are not square (DefaultScale {across:.4g} x {down:.4g}); they are not scaled"
        found.append(Finding("scale", "warning", text, "pixels not square"))
    elif (across, down) != (1.0, 1.0):
        found.append(Finding("scale", "ok", f"DefaultScale {across:.4g} x {down:.4g}, not applied"))
    if stated.crop_size and stated.crop_size != (width, height):
        text = (
            f"DefaultCropSize {stated.crop_size[1]:g}x{stated.crop_size[0]:g}, to which the camera's picture is cut; "
        )
        found.append(Finding("crop", "ok", f"{text}not applied"))
    lit = (stated.active[2] - stated.active[0], stated.active[3] - stated.active[1])
    if lit != (height, width):
        found.append(Finding("crop", "ok", f"ActiveArea of {lit[0]}x{lit[1]}, of which LibRaw shows {height}x{width}"))
    return found
