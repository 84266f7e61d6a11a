"""`python -m isp.doctor`: what a RAW file or a picture says, and whether to believe it.

    python -m isp.doctor photo.nef photo.jpg
    python -m isp.doctor --json *.dng

Every line is a finding, ok, a warning or fatal; the verdict follows from them by `isp.files.findings.verdict`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp.files import tiff
from isp.files.findings import OPTICS, Finding, optics, orientation, verdict

if TYPE_CHECKING:
    from isp.camera import Camera
    from isp.contract import Limits

DONE, BAD_DATA, INTERRUPTED = 0, 1, 130

_RAW = {  # (where, what stands there)
    "TIFF structure": (0, tiff.STARTS), "CIFF (Canon CRW)": (6, (b"HEAPCCDR",)), "Canon CR3": (4, (b"ftypcrx ",)),
    "Fujifilm RAF": (0, (b"FUJIFILMCCD-RAW",)), "Panasonic RW2": (0, (b"IIU\0",)),
    "Olympus ORF": (0, (b"IIRO", b"IIRS", b"MMOR")), "Minolta MRW": (0, (b"\0MRM",)), "Sigma X3F": (0, (b"FOVb",)),
}  # fmt: skip
_EXPECTED = "expected a RAW file, JPEG, PNG or TIFF"
_BARE = "write it as a DNG with its size, CFA, levels and matrix"
_NEITHER = {  # what else is given often: (where, what stands there, what to do)
    "a NumPy array": (0, b"\x93NUMPY", f"if it is a bare mosaic, {_BARE}"),
    "a video, or a HEIF or AVIF picture": (4, b"ftyp", "save what you need as PNG or JPEG"),
    "a GIF": (0, b"GIF8", "save it as PNG"),
    "a WebP picture": (8, b"WEBP", "save it as PNG"),
    "an HDF5 file": (0, b"\x89HDF\r\n", "isp.prepare and blursynth.inspect read their own"),
}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings on one file; `camera` is what `isp.files.raw` would give with its pixels, None for all but a sound RAW."""

    path: Path
    findings: tuple[Finding, ...]
    camera: Camera | None = None

    @property
    def usable(self) -> bool:
        return all(finding.severity != "fatal" for finding in self.findings)


def diagnose(path: Path) -> Diagnosis:
    """What the file says of itself. A file that is missing or not readable is a fatal finding, no error."""
    from isp.files.exif import read_tags
    from isp.files.pictures import IMAGE_SUFFIXES, kind_of

    try:
        tags, unread = read_tags(path)
        with path.open("rb") as file:
            head = file.read(32)
        kind = kind_of(head)
        if kind == "TIFF" and path.with_suffix(".json").exists():
            return Diagnosis(path, tuple(_of_mosaic(path)))
        # Old Canons call their RAW .tif; LibRaw takes plain TIFF pictures for RAW, too.
        if kind in ("PNG", "JPEG") or (kind == "TIFF" and path.suffix.lower() in IMAGE_SUFFIXES):
            return Diagnosis(path, tuple(_of_picture(path, kind, tags, unread)))
        return _of_raw(path, head)
    except (OSError, ValueError) as problem:
        return Diagnosis(path, (Finding("file", "fatal", str(problem).removeprefix(f"{path}: ")),))


# ---------------------------------------------------------------- a RAW file


def _of_raw(path: Path, head: bytes) -> Diagnosis:
    from isp.files.raw import examine

    kind = next((kind for kind, (at, starts) in _RAW.items() if head[at:].startswith(starts)), None)
    if kind is None:
        for name, (at, start, remedy) in _NEITHER.items():
            if head[at:].startswith(start):
                return Diagnosis(path, (Finding("kind", "fatal", f"{_EXPECTED}, got {name}; {remedy}"),))
    examined = examine(path)
    camera = None if examined.image is None else examined.image.camera
    if kind is not None:
        of_kind = Finding("kind", "ok", f"RAW, {path.suffix.removeprefix('.').upper() or 'no suffix'}: {kind}")
    elif camera is not None:
        text = f"no header that says what it is; LibRaw takes the camera from its size of {path.stat().st_size} bytes"
        of_kind = Finding("kind", "warning", text, "camera guessed from the size of the file")
    else:
        # What LibRaw says of such a file would be a guess from its size, too.
        text = f"{_EXPECTED}, got {path.stat().st_size} bytes with the header of none; if it is a bare mosaic, {_BARE}"
        return Diagnosis(path, (Finding("kind", "fatal", text),))
    said = [of_kind, _model(examined.model), orientation(examined.orientation), *examined.findings]
    said += [optics(examined.optics), of_jpeg := _embedded(path)]
    said += [] if camera is None else [_isps(_unfit_for(camera, not of_jpeg.text.startswith("none")), "forward")]
    return Diagnosis(path, tuple(said), camera)


def _embedded(path: Path) -> Finding:
    from isp.files.raw import read_embedded_jpeg

    try:
        height, width, _ = read_embedded_jpeg(path).shape
    except ValueError as problem:
        reason = str(problem).partition("got ")[2].rpartition(";")[0]
        return Finding("embedded JPEG", "ok", f"none that LibRaw gives ({reason})")
    return Finding("embedded JPEG", "ok", f"{height}x{width}")


# ---------------------------------------------------------------- a mosaic of isp.apply


def _of_mosaic(path: Path) -> Iterator[Finding]:
    """A TIFF with a JSON file beside it."""
    from isp.files.shot import read_mosaic

    yield Finding("kind", "ok", "mosaic of isp.apply inverse: TIFF with its sidecar")
    try:
        mosaic = read_mosaic(path)
    except (OSError, ValueError) as problem:
        yield Finding("data", "fatal", str(problem).removeprefix(f"{path}: "))
        return
    camera, (height, width) = mosaic.camera, mosaic.raw.shape
    assert camera.black is not None and camera.white is not None, "a sidecar has them"
    black = " ".join(f"{level:g}" for level in camera.black[0].tolist())
    yield _model(mosaic.model)
    yield orientation(mosaic.orientation)
    yield Finding("size", "ok", f"{height}x{width}, {camera.cfa[0]}, black {black}, white {float(camera.white[0]):g}")
    known = {field: None if (value := getattr(camera, field)) is None else float(value[0]) for field in OPTICS}
    yield optics(known)
    yield _isps(_unfit_for(camera, False), "forward")


# ---------------------------------------------------------------- a picture


def _of_picture(path: Path, kind: str, tags: Mapping[str, Any], unread: Sequence[str]) -> Iterator[Finding]:
    from isp.files.exif import model_of, optics_of, orientation_of
    from isp.files.icc import colours_of
    from isp.files.pictures import read_image

    yield Finding("kind", "ok", f"picture, {kind}")
    yield _model(model_of(tags))
    yield orientation(orientation_of(tags))
    yield from (Finding("EXIF", "warning", text.removeprefix(f"{path}: "), "EXIF unreadable") for text in unread)
    try:
        picture = read_image(path)
    except ValueError as problem:
        yield Finding("data", "fatal", str(problem).removeprefix(f"{path}: "))
        return
    height, width, _ = picture.shape
    yield Finding("size", "ok", f"{height}x{width} upright, {8 * picture.itemsize} bits")
    yield (of_colours := colours_of(path, picture, tags).finding)
    if of_colours.severity == "fatal":
        return
    yield _pixels(picture)
    yield optics(optics_of(tags))
    yield Finding("inverse", "ok", "isp.apply inverse takes it; white balance, matrix and levels: --camera or --like")
    yield _isps({}, "inverse")


def _pixels(picture: Any) -> Finding:
    """Whether they can be meant for a display."""
    if picture.min() == picture.max():
        return Finding("data", "fatal", f"expected a picture, got {picture.max()} in every pixel; copy it again")
    said = "mean of red, green, blue {:.1f}, {:.1f}, {:.1f}".format(*picture.reshape(-1, 3).mean(0))
    if picture.itemsize == 1:
        return Finding("data", "ok", said)
    text = f"{said}; nothing says whether 16 bits are linear or display-encoded, and isp.apply takes them for sRGB: "
    return Finding(
        "data", "warning", f"{text}encode them first if they are linear", "sRGB assumed, 16 bits may be linear"
    )


# ---------------------------------------------------------------- both


def _model(name: str) -> Finding:
    """The camera, and the profile that comes with the package and knows it."""
    from isp import profile

    known = profile.of_camera(name)
    return Finding("camera", "ok", (name or "unknown") + (f"; --camera {known} knows it" if known else ""))


@cache
def _limits() -> dict[str, Limits | str]:
    """The limits of every ISP, or why it cannot be opened."""
    from isp import registry

    found: dict[str, Limits | str] = {}
    for name in registry.names():
        try:
            found[name] = registry.create(name).limits
        except (OSError, ValueError) as problem:
            found[name] = str(problem)
    return found


def _unfit_for(camera: Camera, has_picture: bool) -> dict[str, str]:
    """{ISP: what a RAW file lacks to go through its `forward`}"""
    unfit = {}
    for name, limits in _limits().items():
        if isinstance(limits, str):
            continue
        if camera.cfa[0] not in limits.cfas:
            unfit[name] = f"takes {' or '.join(limits.cfas)} alone"
        elif missing := [field for field in limits.needs if getattr(camera, field) is None]:
            unfit[name] = f"needs {' and '.join(missing)}"
        elif limits.needs_reference and not has_picture:
            unfit[name] = "needs the camera's picture"
    return unfit


def _isps(unfit: Mapping[str, str], direction: str) -> Finding:
    broken = {name: limits for name, limits in _limits().items() if isinstance(limits, str)}
    unfit = {**unfit, **broken}
    fit = [name for name in _limits() if name not in unfit]
    text = (", ".join(fit) or "none") + "".join(f"; not {name} ({reason})" for name, reason in unfit.items())
    return Finding(f"ISPs, {direction}", "ok", text)


# ---------------------------------------------------------------- the command


def report(diagnosis: Diagnosis) -> str:
    """A block of lines, the verdict last."""
    lines = [
        (finding.topic, finding.text if finding.severity == "ok" else f"{finding.severity}: {finding.text}")
        for finding in diagnosis.findings
    ]
    lines.append(("verdict", verdict(diagnosis.findings)))
    width = max(len(topic) for topic, _ in lines) + 1
    return f"{diagnosis.path}\n" + "".join(f"  {topic + ':':<{width}} {text}\n" for topic, text in lines)


def record(diagnosis: Diagnosis) -> dict[str, Any]:
    """The same for machines."""
    return {
        "path": str(diagnosis.path),
        "usable": diagnosis.usable,
        "verdict": verdict(diagnosis.findings),
        "findings": [dataclasses.asdict(finding) for finding in diagnosis.findings],
        "camera": None if diagnosis.camera is None else json.loads(diagnosis.camera.to_json()),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m isp.doctor", description="Says what RAW files and pictures say, and whether to believe it."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a RAW file, JPEG, PNG or TIFF")
    parser.add_argument("--json", action="store_true", help="print one JSON list, an object a file, instead of lines")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    found = []
    try:
        for path in args.files:
            found.append(diagnose(path))
            if not args.json:
                sys.stdout.write(("\n" if len(found) > 1 else "") + report(found[-1]))
    except KeyboardInterrupt:
        sys.stderr.write(f"{path}: interrupted; {len(found)} of {len(args.files)} files are done\n")
        return INTERRUPTED
    if args.json:
        sys.stdout.write(json.dumps([record(diagnosis) for diagnosis in found], indent=1) + "\n")
    return DONE if all(diagnosis.usable for diagnosis in found) else BAD_DATA


if __name__ == "__main__":
    sys.exit(main())
