"""`python -m isp.apply`: takes your own photographs and RAW files through an ISP.

    python -m isp.apply inverse photo.jpg                       sRGB to RAW: mosaic, sidecar, preview
    python -m isp.apply forward shot.NEF out/apply/photo.tif    RAW to sRGB
    python -m isp.apply transfer photo.jpg --to paramisp/B      as if another camera had taken it
    python -m isp.apply hdr photo.jpg                           a wider tonal range: RAW times gains, rendered, fused

If a file cannot be used, a line says why and the others continue. Existing results are replaced with --force only.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from isp import command
from isp.apply.results import Results, plan
from isp.command import BAD_DATA, DONE, INTERRUPTED, USAGE, number, positive

if TYPE_CHECKING:
    from isp.apply.settings import ChosenCamera
    from isp.contract import ISP

PAIR = "paramisp"  # a bare name: the pair that comes with the package
GAINS = (0.1, 1.4, 2.7, 4.0)  # the default of hdr. Source: kim2024, §5
SUFFIXES = {"png": ".png", "png16": ".png", "jpg": ".jpg"}
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")  # those of isp.cfa, which would load torch
REST = "the files listed above are complete, run the command again for the rest"

Work = Callable[[Path, Results], None]  # takes a file and the paths of its results

# ---------------------------------------------------------------- kinds of arguments


def level(text: str) -> float:
    """A raw level, 0 to 65535."""
    value = number(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f'expected a level of 0 to 65535, got "{text}"')
    return value


def quality(text: str) -> int:
    """The quality of a JPEG, 1 to 100."""
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f'expected a quality of 1 to 100, got "{text}"')
    return int(text)


def numbers(text: str, each: Callable[[str], float], counts: tuple[int, ...] = ()) -> tuple[float, ...]:
    """Numbers separated by commas; `counts` lists how many there may be, any if it is empty."""
    values = tuple(each(part) for part in text.split(","))
    if counts and len(values) not in counts:
        wanted = " or ".join(map(str, counts))
        raise argparse.ArgumentTypeError(
            f'expected {wanted} numbers separated by commas, got {len(values)} in "{text}"'
        )
    return values


def matrix(text: str) -> tuple[float, ...]:
    """The nine numbers of an invertible matrix, row by row."""
    a, b, c, d, e, f, g, h, i = values = numbers(text, number, (9,))
    if abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) < 1e-6:
        raise argparse.ArgumentTypeError(f'expected an invertible matrix, got "{text}"')
    return values


# ---------------------------------------------------------------- the command line


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("isp.apply", "Takes your own photographs through a camera ISP, in either direction.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="inverse|forward|transfer|hdr")

    def subcommand(name: str, purpose: str) -> Any:
        made = commands.add_parser(name, help=purpose, description=f"{purpose}.")
        made.add_argument("files", nargs="+", type=Path, metavar="FILE")
        made.add_argument("--out", type=Path, default=Path("out/apply"), metavar="DIR", help="default: out/apply")
        made.add_argument("--force", action="store_true", help="replace existing results")
        made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
        made.add_argument(
            "--memory",
            type=command.byte_count,
            metavar="8G",
            help="bytes, or a number with K, M or G; default: 80 %% of the free memory",
        )
        return made

    inverse = subcommand("inverse", "sRGB to RAW: a 16-bit mosaic with a sidecar for forward, and a preview")
    forward = subcommand("forward", "RAW to sRGB: RAW files, and mosaics of inverse with their sidecars")
    transfer = subcommand("transfer", "a photograph as if another camera had taken it")
    hdr = subcommand("hdr", "a photograph with a wider tonal range: its RAW times gains, rendered and fused")
    for made in (inverse, forward, hdr):
        made.add_argument("--isp", metavar="NAME", help=f"such as paramisp/FOLDER or rsblur/a7r3; default: {PAIR}")
    transfer.add_argument("--from", dest="source", metavar="NAME", help=f"the ISP to invert; default: {PAIR}")
    transfer.add_argument("--to", dest="target", metavar="NAME", required=True, help="the ISP that renders")
    transfer.add_argument("--from-camera", metavar="PROFILE", help="default: the camera --from was trained for")
    transfer.add_argument("--to-camera", metavar="PROFILE", help="default: the camera --to was trained for")
    hdr.add_argument(
        "--gains",
        type=partial(numbers, each=positive),
        default=GAINS,
        metavar="G,G,...",
        help="default: 0.1,1.4,2.7,4.0",
    )
    for made in (inverse, hdr):
        camera = made.add_mutually_exclusive_group()
        camera.add_argument(
            "--camera",
            metavar="PROFILE",
            help="a name or a .yaml file, for matrix, levels and daylight; default: the camera the ISP was trained for",
        )
        camera.add_argument(
            "--like",
            type=Path,
            metavar="FILE",
            help="a RAW file of the same camera, for matrix, levels and white balance",
        )
    for made in (inverse, forward, hdr):
        made.add_argument(
            "--white-balance",
            type=partial(numbers, each=positive, counts=(2,)),
            metavar="R,B",
            help="gains of red and blue; green is 1",
        )
        made.add_argument(
            "--matrix", type=matrix, metavar="M,M,...", help="nine numbers, row by row: camera RGB to linear sRGB"
        )
        made.add_argument(
            "--black",
            type=partial(numbers, each=level, counts=(1, 3)),
            metavar="N",
            help="one level, or three: of red, green, blue",
        )
        made.add_argument("--white", type=level, metavar="N", help="the level of saturation")
        made.add_argument("--cfa", choices=PATTERNS, help="the colours of the top-left 2x2 pixels")
    for made in (inverse, forward, transfer, hdr):
        for option, unit in (("--iso", "N"), ("--exposure-s", "SECONDS"), ("--f-number", "N"), ("--focal-mm", "MM")):
            made.add_argument(option, type=positive, metavar=unit, help="replaces the value in the file")
    for made in (forward, transfer, hdr):
        made.add_argument("--format", choices=SUFFIXES, default="png", help="default: png, of 8 bits")
        made.add_argument("--quality", type=quality, default=95, metavar="N", help="of a JPEG, 1 to 100; default: 95")
    return parser


def plan_results(args: argparse.Namespace) -> dict[Path, Results]:
    """Return {file: its results}. Raises `ValueError` if a result would overwrite anything."""
    suffix = SUFFIXES.get(getattr(args, "format", ""), "")
    sources = {os.path.realpath(path) for path in args.files}
    planned: dict[Path, Results] = {}
    owner: dict[Path, Path] = {}
    for path in args.files:
        planned[path] = plan(args.command, path, args.out, suffix)
        for result in planned[path]:
            if result in owner:
                raise ValueError(
                    f"{path}: its results would have the names of those of {owner[result]}; "
                    "run the command on it alone, with another --out"
                )
            if os.path.realpath(result) in sources:
                raise ValueError(f"{result}: the output would overwrite an input; choose another --out")
            if result.is_dir():
                raise ValueError(f"{result}: expected the name of a file, got that of a folder; choose another --out")
            if result.exists() and not args.force:
                raise ValueError(f"{result}: exists already; choose another --out, or replace it with --force")
            owner[result] = path
    return planned


def open_work(args: argparse.Namespace) -> Work:
    """Open once what all files share, and return the work on one file.

    Raises `ValueError` or `OSError` if an ISP, a camera or the device cannot be used.
    """
    import numpy as np

    from isp import full_size
    from isp.apply import one_file, settings

    if problem := command.device_problem(args.device):
        raise ValueError(f"--device: {problem}")
    options = one_file.Options(
        device=args.device,
        memory_bytes=args.memory or full_size.budget_bytes(args.device),
        depth=np.uint16 if getattr(args, "format", "") == "png16" else np.uint8,
        quality=getattr(args, "quality", 95),
    )
    overrides = settings.Overrides(
        **{field.name: getattr(args, field.name, None) for field in dataclasses.fields(settings.Overrides)}
    )

    def noted(chosen: ChosenCamera, camera_isp: ISP) -> ChosenCamera:
        one_file.say([*chosen.notes, *settings.unlike(camera_isp, chosen)])
        return chosen

    def choose(camera_isp: ISP) -> ChosenCamera:
        if args.like:
            return settings.from_raw(args.like, overrides)
        return settings.from_profile(args.camera, camera_isp, overrides)

    if args.command == "inverse":
        camera_isp = _open_isp(args.isp, args.device)
        chosen = noted(settings.with_levels(choose(camera_isp)), camera_isp)
        return partial(one_file.inverse, options=options, camera_isp=camera_isp, chosen=chosen)
    if args.command == "forward":
        camera_isp = _open_isp(args.isp, args.device)
        return partial(one_file.forward, options=options, camera_isp=camera_isp, overrides=overrides)
    if args.command == "hdr":
        camera_isp = _open_isp(args.isp, args.device)
        chosen = noted(choose(camera_isp), camera_isp)
        return partial(one_file.hdr, options=options, camera_isp=camera_isp, chosen=chosen, gains=args.gains)
    first = _open_isp(args.source, args.device, "--from")
    second = first if args.target == (args.source or PAIR) else _open_isp(args.target, args.device)
    source = noted(settings.from_profile(args.from_camera, first, overrides, "--from-camera"), first)
    target = noted(settings.from_profile(args.to_camera, second, overrides, "--to-camera"), second)
    return partial(one_file.transfer, options=options, isps=(first, second), chosen=(source, target))


def _open_isp(name: str | None, device: str, option: str = "--isp") -> ISP:
    from isp import registry

    camera_isp = registry.create(name or PAIR, device=device)
    if name is None:
        command.warn(f"no {option} given; using {camera_isp.name}, which comes with the package")
    return camera_isp


# ---------------------------------------------------------------- the work


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return command.refuse(f"{args.out}: interrupted; {REST}", INTERRUPTED)


def _write_all(work: Work, path: Path, results: Results, out: Path) -> None:
    """Do the work on one file in a folder of its own, then move all results to their places in `out`.

    A mosaic with the sidecar of an earlier run, or without one, would be worse than no mosaic.
    Raises `OSError` with the name `out` if the results cannot be written, and what `work` raises if the file is at fault.
    """
    from isp import full_size

    unfinished = str(out)
    try:
        with TemporaryDirectory(prefix=".", suffix=".part", dir=out, ignore_cleanup_errors=True) as unfinished:
            made = [Path(unfinished) / result.name for result in results]
            with full_size.memory_errors():
                work(path, type(results)(*made))
            for one, result in zip(made, results, strict=True):
                one.replace(result)
    except OSError as problem:
        if str(problem.filename).startswith((unfinished, str(out / "."))):
            raise OSError(problem.errno, problem.strerror, str(out)) from problem
        raise
    except ValueError as problem:
        raise ValueError(str(problem).replace(unfinished, str(out))) from problem


def _run(args: argparse.Namespace) -> int:
    try:
        planned = plan_results(args)
        work = open_work(args)
    except (OSError, ValueError) as problem:
        return command.refuse(command.sentence_of(problem, "check the path"), USAGE)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        sentence = f"--out {args.out}: expected a folder to write into, got: {problem.strerror}; choose another"
        return command.refuse(sentence, USAGE)
    failed = []
    for path, results in planned.items():
        try:
            _write_all(work, path, results, args.out)
        except (OSError, ValueError, MemoryError) as problem:
            if isinstance(problem, OSError) and problem.filename == str(args.out):
                return command.refuse(
                    f"--out {args.out}: cannot write the results of {path}: {problem.strerror}; "
                    f"fix that or choose another --out; {REST}",
                    BAD_DATA,
                )
            command.warn(command.shown(command.located(path, _sentence(problem))))
            failed.append(str(path))
        else:
            command.say("\n".join(command.shown(str(result)) for result in results))
    if failed:
        listed = command.shown(", ".join(failed))
        command.warn(f"{len(failed)} of {len(planned)} files could not be used: {listed}")
    return BAD_DATA if failed else DONE


def _sentence(problem: Exception) -> str:
    """Return why a file cannot be used."""
    if isinstance(problem, MemoryError):
        return (
            "expected enough memory for its pixels, got too little; give less with --memory, or use a smaller picture"
        )
    if isinstance(problem, OSError) and problem.errno is not None:
        return f"expected a readable file, got an error ({problem.strerror}); check it"
    return str(problem)


if __name__ == "__main__":
    sys.exit(main())
