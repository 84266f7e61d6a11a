"""`python -m isp.doctor`: reports what a RAW file or a picture contains, and whether that can be true.

    python -m isp.doctor photo.nef photo.jpg
    python -m isp.doctor --json *.dng

Every line is a finding: ok, a warning, or fatal. `isp.files.findings.verdict` sums them up in a verdict.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp import command
from isp.command import BAD_DATA, DONE, INTERRUPTED
from isp.files import tiff
from isp.files.findings import OPTICS, Finding, optics, orientation, verdict

if TYPE_CHECKING:
    from isp.camera import Camera
    from isp.contract import Direction, Limits
    from isp.files.raw import RawImage

_RAW = {  # {name: (offset, the bytes that start there)}
    "TIFF structure": (0, tiff.STARTS), "CIFF (Canon CRW)": (6, (b"HEAPCCDR",)), "Canon CR3": (4, (b"ftypcrx ",)),
    "Fujifilm RAF": (0, (b"FUJIFILMCCD-RAW",)), "Panasonic RW2": (0, (b"IIU\0",)),
    "Olympus ORF": (0, (b"IIRO", b"IIRS", b"MMOR")), "Minolta MRW": (0, (b"\0MRM",)), "Sigma X3F": (0, (b"FOVb",)),
}  # fmt: skip
_EXPECTED = "expected a RAW file, JPEG, PNG or TIFF"
_BARE = "write it as a DNG with its size, CFA, levels and matrix"
_NEITHER = {  # other files that people try: {name: (offset, the bytes that start there, remedy)}
    "a NumPy array": (0, b"\x93NUMPY", f"if it is a bare mosaic, {_BARE}"),
    "a video, or a HEIF or AVIF picture": (4, b"ftyp", "save what you need as PNG or JPEG"),
    "a GIF": (0, b"GIF8", "save it as PNG"),
    "a WebP picture": (8, b"WEBP", "save it as PNG"),
    "an HDF5 file": (0, b"\x89HDF\r\n", "only isp.prepare and blursynth.inspect read those"),
}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings on one file; `camera` is None unless the file is a sound RAW file."""

    path: Path
    findings: tuple[Finding, ...]
    camera: Camera | None = None

    @property
    def usable(self) -> bool:
        return all(finding.severity != "fatal" for finding in self.findings)


def diagnose(path: Path) -> Diagnosis:
    """Return the findings on a file. A missing or unreadable file is a fatal finding, not an exception."""
    from isp.files.exif import read_tags
    from isp.files.pictures import IMAGE_SUFFIXES, kind_of
    from isp.files.shot import MOSAIC_SUFFIXES

    try:
        tags, unread = read_tags(path)
        with path.open("rb") as file:
            head = file.read(32)
        kind = kind_of(head)
        if kind == "TIFF" and path.suffix.lower() in MOSAIC_SUFFIXES and path.with_suffix(".json").exists():
            return Diagnosis(path, tuple(_of_mosaic(path)))
        # The suffix decides on TIFF files: LibRaw takes plain TIFF pictures for RAW files, too.
        if kind in ("PNG", "JPEG") or (kind == "TIFF" and path.suffix.lower() in IMAGE_SUFFIXES):
            return Diagnosis(path, tuple(_of_picture(path, kind, tags, unread)))
        return _of_raw(path, head)
    except MemoryError:
        text = "expected enough memory for its pixels, got too little; close other programs, or use a smaller picture"
        return Diagnosis(path, (Finding("file", "fatal", text),))
    except (OSError, ValueError) as problem:
        text = command.sentence_of(problem, "check the path").removeprefix(f"{path}: ")
        return Diagnosis(path, (Finding("file", "fatal", text),))


# ---------------------------------------------------------------- a RAW file


def _of_raw(path: Path, head: bytes) -> Diagnosis:
    from isp.files.raw import examine

    kind = next((kind for kind, (at, starts) in _RAW.items() if head[at:].startswith(starts)), None)
    if kind is None:
        for name, (at, start, remedy) in _NEITHER.items():
            if head[at:].startswith(start):
                return Diagnosis(path, (Finding("kind", "fatal", f"{_EXPECTED}, got {name}; {remedy}"),))
    examined = examine(path)
    image = examined.image
    if kind is not None:
        what = Finding("kind", "ok", f"RAW, {path.suffix.removeprefix('.').upper() or 'no suffix'}: {kind}")
    elif image is not None:
        text = f"no known header; LibRaw guesses the camera from the size of {path.stat().st_size} bytes"
        what = Finding("kind", "warning", text, "camera guessed from the size of the file")
    else:
        # Anything else that LibRaw reports on such a file is a guess from its size, too.
        text = f"{_EXPECTED}, got {path.stat().st_size} bytes without a known header; if it is a bare mosaic, {_BARE}"
        return Diagnosis(path, (Finding("kind", "fatal", text),))
    findings = [what, _model(examined.model), orientation(examined.orientation), *examined.findings]
    on_jpeg, has_reference = _embedded(path, image)
    findings += [optics(examined.optics), on_jpeg]
    if image is None:
        return Diagnosis(path, tuple(findings))
    return Diagnosis(path, (*findings, _forward(image.camera, has_reference)), image.camera)


def _embedded(path: Path, image: RawImage | None) -> tuple[Finding, bool]:
    """Return (the finding on the JPEG inside a RAW file, whether that JPEG can serve as a reference picture)."""
    from isp.files.raw import find_embedded_jpeg
    from isp.files.shot import as_reference

    jpeg, reason = find_embedded_jpeg(path)
    if jpeg is None:
        return Finding("embedded JPEG", "ok", f"none that LibRaw finds ({reason})"), False
    text = f"{jpeg.shape[0]}x{jpeg.shape[1]}"
    if image is None:
        return Finding("embedded JPEG", "ok", text), False
    reference, reason = as_reference(jpeg, image)
    return Finding("embedded JPEG", "ok", text if reference is not None else f"{text}; {reason}"), reference is not None


# ---------------------------------------------------------------- a mosaic of isp.apply


def _of_mosaic(path: Path) -> Iterator[Finding]:
    """Yield the findings on a TIFF with a JSON file beside it."""
    from isp.files.shot import find_reference, read_mosaic

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
    reference, _ = find_reference(path, mosaic)
    yield _forward(camera, reference is not None)


# ---------------------------------------------------------------- a picture


def _of_picture(path: Path, kind: str, tags: Mapping[str, Any], unread: Sequence[str]) -> Iterator[Finding]:
    from isp.files.exif import model_of, optics_of, orientation_of
    from isp.files.icc import colours_of
    from isp.files.pictures import decoded, opened

    yield Finding("kind", "ok", f"picture, {kind}")
    yield _model(model_of(tags))
    yield orientation(orientation_of(tags))
    yield from (Finding("EXIF", "warning", text.removeprefix(f"{path}: "), "EXIF unreadable") for text in unread)
    try:
        held = opened(path)
        picture = decoded(held, str(path))
    except ValueError as problem:
        yield Finding("data", "fatal", str(problem).removeprefix(f"{path}: "))
        return
    height, width, _ = picture.shape
    yield Finding("size", "ok", f"{height}x{width} upright, {8 * picture.itemsize} bits")
    on_colours = colours_of(held, picture, tags).finding
    yield on_colours
    if on_colours.severity == "fatal":
        return
    yield _pixels(picture)
    known = optics_of(tags)
    yield optics(known)
    yield Finding(
        "inverse", "ok", "isp.apply inverse takes it; --camera or --like set white balance, matrix and levels"
    )
    # A profile gives all else that `inverse` may need.
    given = {"xyz_to_sensor", "black", "white", *(field for field, value in known.items() if value is not None)}
    yield _isps("inverse", cfa=(), known=given, has_reference=False)


def _pixels(picture: Any) -> Finding:
    """Return the finding on whether the pixels can be those of a picture for a display."""
    if picture.min() == picture.max():
        return Finding("data", "fatal", f"expected a picture, got {picture.max()} in every pixel; copy it again")
    means = "mean of red, green, blue {:.1f}, {:.1f}, {:.1f}".format(*picture.reshape(-1, 3).mean(0))
    if picture.itemsize == 1:
        return Finding("data", "ok", means)
    text = (
        f"{means}; the file does not say whether its 16 bits are linear or display-encoded, and isp.apply assumes sRGB: "
        "encode them first if they are linear"
    )
    return Finding("data", "warning", text, "sRGB assumed, 16 bits may be linear")


# ---------------------------------------------------------------- both


def _model(name: str) -> Finding:
    """Return the finding on the camera and its shipped profile, if there is one."""
    from isp import profile

    known = profile.of_camera(name)
    return Finding("camera", "ok", (name or "unknown") + (f"; its profile: --camera {known}" if known else ""))


@cache
def _limits(names: tuple[str, ...]) -> dict[str, Limits | str]:
    """Return the limits of every ISP, or why it cannot be opened."""
    from isp import registry

    found: dict[str, Limits | str] = {}
    for name in names:
        try:
            found[name] = registry.create(name).limits
        except (OSError, ValueError) as problem:
            found[name] = str(problem)
    return found


def _forward(camera: Camera, has_reference: bool) -> Finding:
    """Return the finding on which ISPs `isp.apply forward` can render a mosaic with."""
    from isp.contract import known_fields

    return _isps("forward", cfa=camera.cfa, known=known_fields(camera), has_reference=has_reference)


def _isps(direction: Direction, *, cfa: Collection[str], known: Collection[str], has_reference: bool) -> Finding:
    """Return the finding on which ISPs take an image of these properties; `isp.apply` asks the same function."""
    from isp import registry
    from isp.contract import unfit

    fit, others = [], ""
    for name, limits in _limits(tuple(registry.names())).items():
        if isinstance(limits, str):
            others += f"; not {name} ({limits})"
        elif misfits := unfit(limits, direction, cfa=cfa, known=known, has_reference=has_reference):
            others += f"; not {name} ({'; '.join(misfit.sentence for misfit in misfits)})"
        else:
            fit.append(name)
    return Finding(f"ISPs, {direction}", "ok", (", ".join(fit) or "none") + others)


# ---------------------------------------------------------------- the command


def report(diagnosis: Diagnosis) -> str:
    """Return the findings as a block of lines, the verdict last."""
    lines = [
        (finding.topic, finding.text if finding.severity == "ok" else f"{finding.severity}: {finding.text}")
        for finding in diagnosis.findings
    ]
    lines.append(("verdict", verdict(diagnosis.findings)))
    width = max(len(topic) for topic, _ in lines) + 1
    blocks = (f"  {topic + ':':<{width}} {command.shown(text)}\n" for topic, text in lines)
    return f"{command.shown(str(diagnosis.path))}\n" + "".join(blocks)


def record(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the findings as a JSON object."""
    return {
        "path": str(diagnosis.path),
        "usable": diagnosis.usable,
        "verdict": verdict(diagnosis.findings),
        "findings": [dataclasses.asdict(finding) for finding in diagnosis.findings],
        "camera": None if diagnosis.camera is None else json.loads(diagnosis.camera.to_json()),
    }


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("isp.doctor", "Reports what RAW files and pictures contain, and whether that can be true.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a RAW file, JPEG, PNG or TIFF")
    parser.add_argument("--json", action="store_true", help="print a JSON list with one object per file")
    return parser


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    found = []
    try:
        for path in args.files:
            found.append(diagnose(path))
            if not args.json:
                command.say(("\n" if len(found) > 1 else "") + report(found[-1]).rstrip("\n"))
    except KeyboardInterrupt:
        done = f"{len(found)} of {len(args.files)} files are done"
        return command.refuse(f"{path}: interrupted; {done}, run the command again for the rest", INTERRUPTED)
    if args.json:
        command.say(command.json_of([record(diagnosis) for diagnosis in found], indent=1))
    return DONE if all(diagnosis.usable for diagnosis in found) else BAD_DATA


if __name__ == "__main__":
    sys.exit(main())
