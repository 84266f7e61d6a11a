"""`python -m isp.apply`: an ISP on photographs and RAW files of one's own.

    python -m isp.apply inverse photo.jpg                       sRGB to RAW: mosaic, sidecar, preview
    python -m isp.apply forward shot.NEF out/apply/photo.tif    RAW to sRGB
    python -m isp.apply transfer photo.jpg --to paramisp/B      as if another camera had taken it
    python -m isp.apply hdr photo.jpg                           a wider tonal range: RAW times gains, rendered, fused

A file that cannot be used is named with the reason, and the others go on. What is there is replaced with --force only.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isp.apply.settings import Choice
    from isp.contract import ISP

DONE, BAD_DATA, USAGE, INTERRUPTED = 0, 1, 2, 130
PAIR = "paramisp"  # a bare name: the pair that comes with the package
GAINS = (0.1, 1.4, 2.7, 4.0)  # Source: kim2024, §5
SUFFIXES = {"png": ".png", "png16": ".png", "jpg": ".jpg"}
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
RESULTS = {  # what is appended to a file's name; {} is the suffix of --format
    "inverse": (".tif", ".json", "_preview.png"),
    "forward": ("{}",),
    "transfer": ("_transfer{}", "_transfer_before_after.jpg"),
    "hdr": ("_hdr{}", "_hdr_before_after.jpg"),
}

Work = Callable[[Path, Sequence[Path]], None]  # on one file, given the paths of its results

# ---------------------------------------------------------------- numbers on the command line


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 1e9:
        raise argparse.ArgumentTypeError(f'expected a number, got "{text}"')
    return value


def positive(text: str) -> float:
    value = number(text)
    if value < 1e-9:
        raise argparse.ArgumentTypeError(f'expected a number above 0, got "{text}"')
    return value


def level(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f'expected a level of 0 to 65535, got "{text}"')
    return value


def quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f'expected a quality of 1 to 100, got "{text}"')
    return int(text)


def byte_count(text: str) -> int:
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    count = positive(text[: len(text) - len(unit)]) * UNITS.get(unit, math.nan)
    if not count >= 1:
        raise argparse.ArgumentTypeError(f'expected bytes, or a number with K, M or G, got "{text}"')
    return int(count)


def numbers(text: str, each: Callable[[str], float], counts: tuple[int, ...] = ()) -> tuple[float, ...]:
    """Numbers with commas between them, as many as one of `counts` says."""
    values = tuple(each(part) for part in text.split(","))
    if counts and len(values) not in counts:
        wanted = " or ".join(map(str, counts))
        raise argparse.ArgumentTypeError(f'expected {wanted} with commas between them, got {len(values)} in "{text}"')
    return values


def matrix(text: str) -> tuple[float, ...]:
    a, b, c, d, e, f, g, h, i = values = numbers(text, number, (9,))
    if abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) < 1e-6:
        raise argparse.ArgumentTypeError(f'expected a matrix that can be inverted, got "{text}"')
    return values


# ---------------------------------------------------------------- what the command line is


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m isp.apply", description="Takes your own photographs through a camera ISP, back or forth."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="inverse|forward|transfer|hdr")

    def command(name: str, purpose: str) -> Any:
        made = commands.add_parser(name, help=purpose, description=f"{purpose}.")
        made.add_argument("files", nargs="+", type=Path, metavar="FILE")
        made.add_argument("--out", type=Path, default=Path("out/apply"), metavar="DIR", help="default: out/apply")
        made.add_argument("--force", action="store_true", help="replace results that are there")
        made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
        made.add_argument(
            "--memory", type=byte_count, metavar="8G", help="bytes, or with K, M, G; default: 80 %% of what is free"
        )
        return made

    backward = command("inverse", "sRGB to RAW: a 16-bit mosaic with a sidecar for forward, and a preview")
    onward = command("forward", "RAW to sRGB: RAW files, and mosaics of inverse with their sidecars")
    across = command("transfer", "a photograph as if another camera had taken it")
    wider = command("hdr", "a photograph with a wider tonal range: its RAW times gains, rendered and fused")
    for made in (backward, onward, wider):
        made.add_argument("--isp", metavar="NAME", help=f"such as paramisp/FOLDER or rsblur/a7r3; default: {PAIR}")
    across.add_argument("--from", dest="source", metavar="NAME", help=f"the ISP that is undone; default: {PAIR}")
    across.add_argument("--to", dest="target", metavar="NAME", required=True, help="the ISP that renders")
    across.add_argument("--from-camera", metavar="PROFILE", help="default: what --from was trained for")
    across.add_argument("--to-camera", metavar="PROFILE", help="default: what --to was trained for")
    wider.add_argument(
        "--gains",
        type=partial(numbers, each=positive),
        default=GAINS,
        metavar="G,G,...",
        help="default: 0.1,1.4,2.7,4.0",
    )
    for made in (backward, wider):
        of = made.add_mutually_exclusive_group()
        of.add_argument(
            "--camera",
            metavar="PROFILE",
            help="a name, or a .yaml file, for matrix, levels and daylight; default: what the ISP was trained for",
        )
        of.add_argument(
            "--like",
            type=Path,
            metavar="FILE",
            help="a RAW file of the same camera, for matrix, levels and white balance",
        )
    for made in (backward, onward, wider):
        made.add_argument(
            "--white-balance",
            type=partial(numbers, each=positive, counts=(2,)),
            metavar="R,B",
            help="gains; green is 1",
        )
        made.add_argument(
            "--matrix", type=matrix, metavar="M,M,...", help="nine numbers, row by row: camera RGB to linear sRGB"
        )
        made.add_argument(
            "--black",
            type=partial(numbers, each=level, counts=(1, 3)),
            metavar="N",
            help="a level, or three: of red, green, blue",
        )
        made.add_argument("--white", type=level, metavar="N")
        made.add_argument("--cfa", choices=PATTERNS, help="of the top-left pixels")
    for made in (backward, onward, across, wider):
        for option, unit in (("--iso", "N"), ("--exposure-s", "SECONDS"), ("--f-number", "N"), ("--focal-mm", "MM")):
            made.add_argument(option, type=positive, metavar=unit, help="in place of what the file says")
    for made in (onward, across, wider):
        made.add_argument("--format", choices=SUFFIXES, default="png", help="default: png, of 8 bits")
        made.add_argument("--quality", type=quality, default=95, metavar="N", help="of a JPEG, 1 to 100; default: 95")
    return parser


def results_of(args: argparse.Namespace) -> dict[Path, list[Path]]:
    """{file: what will be written for it}. Raises `ValueError` where that would overwrite anything."""
    suffix = SUFFIXES.get(getattr(args, "format", ""), "")
    sources = {path.resolve() for path in args.files}
    planned: dict[Path, list[Path]] = {}
    owner: dict[Path, Path] = {}
    for path in args.files:
        planned[path] = [args.out / f"{path.stem}{end.format(suffix)}" for end in RESULTS[args.command]]
        for result in planned[path]:
            if result in owner:
                raise ValueError(
                    f"{path}: expected one file of that name, got {owner[result]} too; give it in a call with another --out"
                )
            if result.resolve() in sources:
                raise ValueError(f"{result}: expected a place for a result, got a file to read; choose another --out")
            if result.exists() and not args.force:
                raise ValueError(f"{result}: expected nothing there, got a file; choose another --out, or give --force")
            owner[result] = path
    return planned


def work_of(args: argparse.Namespace) -> Work:
    """Opens what all files share, once. Raises `ValueError` or `OSError` where something of it cannot be used."""
    import numpy as np
    import torch

    from isp import full_size
    from isp.apply import one_file, settings

    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: expected a CUDA device, got none on this machine; leave the option out")
    options = one_file.Options(
        device=args.device,
        memory_bytes=args.memory or full_size.budget_bytes(args.device),
        depth=np.uint16 if getattr(args, "format", "") == "png16" else np.uint8,
        quality=getattr(args, "quality", 95),
    )
    said = settings.Overrides(
        **{field.name: getattr(args, field.name, None) for field in dataclasses.fields(settings.Overrides)}
    )

    def noted(choice: Choice, camera_isp: ISP) -> Choice:
        one_file.say([*choice.notes, *settings.unlike(camera_isp, choice)])
        return choice

    def choice(camera_isp: ISP) -> Choice:
        if args.like:
            return settings.from_raw(args.like, said)
        return settings.from_profile(args.camera, camera_isp, said)

    if args.command == "inverse":
        camera_isp = _opened(args.isp, args.device)
        chosen = noted(settings.with_levels(choice(camera_isp)), camera_isp)
        return partial(one_file.inverse, options=options, camera_isp=camera_isp, choice=chosen)
    if args.command == "forward":
        return partial(one_file.forward, options=options, camera_isp=_opened(args.isp, args.device), said=said)
    if args.command == "hdr":
        camera_isp = _opened(args.isp, args.device)
        chosen = noted(choice(camera_isp), camera_isp)
        return partial(one_file.hdr, options=options, camera_isp=camera_isp, choice=chosen, gains=args.gains)
    first = _opened(args.source, args.device)
    second = first if args.target == (args.source or PAIR) else _opened(args.target, args.device)
    source = noted(settings.from_profile(args.from_camera, first, said), first)
    target = noted(settings.from_profile(args.to_camera, second, said), second)
    return partial(one_file.transfer, options=options, isps=(first, second), choices=(source, target))


def _opened(name: str | None, device: str) -> ISP:
    from isp import registry

    camera_isp = registry.create(name or PAIR, device=device)
    if name is None:
        sys.stderr.write(f"isp: {camera_isp.name}, which comes with the package; --isp chooses another\n")
    return camera_isp


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    try:
        return _run(args)
    except KeyboardInterrupt:
        sys.stderr.write(f"{args.out}: interrupted; what is listed is whole, give the other files again\n")
        return INTERRUPTED


@contextmanager
def _all_or_none(results: Sequence[Path]) -> Iterator[None]:
    """Where not all results can be written, those that are new go: a mosaic without its sidecar is of no use."""
    there = [result for result in results if result.exists()]
    try:
        yield
    except BaseException:
        for result in results:
            if result not in there:
                result.unlink(missing_ok=True)
        raise


def _run(args: argparse.Namespace) -> int:
    try:
        planned = results_of(args)
        work = work_of(args)
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        return USAGE
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        sys.stderr.write(
            f"--out {args.out}: expected a folder to write into, got: {problem.strerror}; choose another\n"
        )
        return USAGE
    failed = []
    for path, results in planned.items():
        try:
            with _all_or_none(results):
                work(path, results)
        except (OSError, ValueError) as problem:
            if isinstance(problem, OSError) and problem.errno is not None and problem.filename != str(path):
                sys.stderr.write(
                    f"--out {args.out}: expected to write the results of {path}, got: {problem.strerror}; "
                    "mend that, or choose another; what is listed is whole, give the other files again\n"
                )
                return BAD_DATA
            said = str(problem)
            sys.stderr.write(f"{said if said.startswith(str(path)) else f'{path}: {said}'}\n")
            failed.append(str(path))
        else:
            sys.stdout.writelines(f"{result}\n" for result in results)
            sys.stdout.flush()
    if failed:
        sys.stderr.write(f"{len(failed)} of {len(planned)} files could not be used: {', '.join(failed)}\n")
    return BAD_DATA if failed else DONE


if __name__ == "__main__":
    sys.exit(main())
