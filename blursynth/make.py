"""`python -m blursynth.make --recipe realblur_j`: sharp photographs in, shards of realistic blur pairs out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blursynth.recipe import Recipe
    from blursynth.shards.identity import Identity
    from blursynth.shards.shard import Job, Receipt

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m blursynth.make", description="Sharp photographs in, HDF5 shards of realistic blur pairs out."
    )
    parser.add_argument("--recipe", metavar="NAME|FILE", help="a shipped recipe (see --list) or a .yaml file")
    parser.add_argument(
        "--data", type=_folder, metavar="DIR", help="folder of pictures (default: built-in photographs)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the shards (default: out/<recipe>)")
    parser.add_argument("--isp", metavar="BACKEND[/VARIANT]", help="the ISP of every stage that does not name its own")
    parser.add_argument("--count", type=at_least(1), metavar="N", help="number of pairs; more only lengthens the set")
    parser.add_argument("--seed", type=at_least(0), metavar="N", help="seed of every draw")
    parser.add_argument(
        "--workers", type=at_least(0), metavar="N", help="processes (default: one a core); 0 works in this one"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (default: cpu)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the recipe, as in camera.iso=[100,6400]",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="validate everything, touch nothing")
    parser.add_argument("--force", action="store_true", help="move another run's shards in --out into a subfolder")
    parser.add_argument("--list", action="store_true", dest="list_all", help="list recipes, ISPs and cameras")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")
    return parser


def at_least(least: int) -> Any:
    """The type of an argument that is a whole number of at least `least`."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {value}")
        return value

    return integer


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 1 bad data, disk or worker, 2 usage or recipe, 130 interrupted."""
    parser = _arguments()
    args = parser.parse_args(argv)
    if args.list_all:
        _print_list()
        return DONE
    if args.recipe is None:
        parser.error("--recipe is needed; --list shows what there is")
    try:
        from blursynth.executors.processes import WorkerDiedError
        from blursynth.recipe import RecipeError

        try:
            if wrong := _wrong_with(args.device):
                return _refuse(f"--device: {wrong}", USAGE)
            return make(args)
        except RecipeError as problem:
            return _refuse(str(problem), USAGE)
        except (ValueError, ImportError, OSError, WorkerDiedError) as problem:
            return _refuse(sentence_of(problem), FAILED)
    except KeyboardInterrupt:
        return _refuse("interrupted; every finished shard is kept, run the same command again to go on", INTERRUPTED)


def _refuse(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code


def sentence_of(problem: Exception) -> str:
    """What went wrong, where, and what to do."""
    if isinstance(problem, OSError) and problem.errno is not None:
        where = problem.filename or "writing"
        return f"{where}: {problem.strerror}; what was finished is kept, so mend that and run the same command again"
    return str(problem)


def make(args: argparse.Namespace) -> int:
    """The whole job, top to bottom. Raises what `main` turns into exit codes."""
    started = time.monotonic()
    from blursynth import recipe, synthesis
    from blursynth.executors import locks, processes
    from blursynth.shards import folders, publish
    from blursynth.shards.identity import identity_of

    made_by = recipe.load(args.recipe, args.overrides, isp=args.isp, seed=args.seed)
    footage = made_by.source.open(args.data)
    count = args.count or footage.default_count
    out = args.out or Path("out") / made_by.name
    identity = identity_of(made_by, footage.digest)
    if args.check:
        return _report_check(made_by, identity, footage, count, out, args)

    out.mkdir(parents=True, exist_ok=True)
    with locks.only_run_in(out):
        moved = folders.claim(out, identity, force=args.force)
        if moved is not None:
            sys.stderr.write(f"moved the shards of another run into {moved}\n")
        publish.remove_stale_parts(out)
        jobs = folders.plan(made_by, identity, footage.clips, count, out, args.device)
        workers = min(len(jobs), os.cpu_count() or 1) if args.workers is None else args.workers
        for _ in _with_progress(processes.run(synthesis.fill, jobs, workers), jobs):
            pass
        manifest = folders.seal(out, made_by, identity, footage.skipped)
    return _report(manifest, jobs, out, time.monotonic() - started, args)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got an empty text (an unset variable?)")
    return Path(text)


def _wrong_with(device: str) -> str:
    import torch

    if device.partition(":")[0] not in ("cpu", "cuda"):
        return f'expected cpu or cuda, got "{device}"'
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        return f'expected a device that works here, got "{device}" ({str(problem).splitlines()[0]}); choose cpu'
    return ""


# ---------------------------------------------------------------- what the user sees


def _with_progress(receipts: Iterator[Receipt], jobs: Sequence[Job]) -> Iterator[Receipt]:
    """Passes receipts on, with a bar on a terminal and a line every few seconds elsewhere."""
    from tqdm import tqdm

    total = sum(len(job.samples) for job in jobs)
    on_terminal = sys.stderr.isatty()
    said = started = time.monotonic()
    done = 0
    with tqdm(total=total, unit="pair", disable=not on_terminal or not total) as bar:
        for receipt in receipts:
            yield receipt
            done += receipt.tried
            bar.update(receipt.tried)
            now = time.monotonic()
            if not on_terminal and (now - said > 5 or done == total):
                rate = done / max(now - started, 1e-9)
                left_s = (total - done) / rate
                sys.stderr.write(f"{done}/{total} pairs, {rate:.1f} pairs/s, {left_s:.0f} s left\n")
                said = now


def _print_list() -> None:
    import isp
    from blursynth import recipe
    from isp import profile

    sections = {
        "recipes": recipe.summaries(),
        "ISPs": dict.fromkeys(isp.names(), ""),
        "cameras": {name: profile.load(name).model for name in profile.names()},
    }
    for title, entries in sections.items():
        sys.stdout.write(f"{title}\n")
        for name, summary in entries.items():
            sys.stdout.write(f"  {name:20} {summary}".rstrip() + "\n")


def _report_check(
    made_by: Recipe, identity: Identity, footage: Any, count: int, out: Path, args: argparse.Namespace
) -> int:
    from blursynth.shards import folders

    owner = folders.identity_of(out)
    if owner is not None and owner != identity and not args.force:
        raise ValueError(f"{out}: holds shards of another run ({owner.differences(identity)})")
    unusable = _unusable(made_by, footage.clips[:count])
    if unusable:
        raise ValueError("\n".join(unusable))
    height, width = made_by.size
    shards = -(-count // made_by.samples_per_shard)
    per_pixel = 6 * made_by.bits // 8 + sum({"raw": 4, "saturated": 3}.get(what, 0) for what in made_by.save)
    found = {
        "recipe": made_by.name,
        "recipe_digest": identity.recipe,
        "clips": len(footage.clips),
        "skipped_files": footage.skipped,
        "pairs": count,
        "size": [height, width],
        "shards": shards,
        "bytes": count * height * width * per_pixel,
        "out": str(out),
    }
    if args.as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(f"recipe {made_by.name} is good: {len(footage.clips)} clips -> {count} pairs of ")
        sys.stdout.write(f"{width}x{height} in {shards} shards, about {found['bytes'] / 1e6:.0f} MB, in {out}\n")
        for kind, number in footage.skipped.items():
            sys.stdout.write(f"  left out: {number} x {kind}\n")
    return DONE


def _unusable(made_by: Recipe, clips: Sequence[Any]) -> list[str]:
    """What is wrong with the pictures: each is read, and must be large enough for the recipe's window."""
    from blursynth import synthesis
    from blursynth.stages.geometry import Crop

    found = []
    for index, clip in enumerate(clips):
        try:
            sample = synthesis.start(clip, made_by, index, "cpu")
            if isinstance(made_by.stages[0], Crop):
                made_by.stages[0](sample)
        except (ValueError, OSError) as problem:
            found.append(f"{clip.name}: {problem}")
    return found


def _report(manifest: dict[str, Any], jobs: Sequence[Job], out: Path, seconds: float, args: argparse.Namespace) -> int:
    from blursynth.shards import contact_sheet

    receipts = manifest["shards"]
    ratios = [(r["blur_psnr_db"], r["count"]) for r in receipts if r["blur_psnr_db"] is not None]
    pairs = manifest["count"]
    summary = {
        "pairs": pairs,
        "shards": len(receipts),
        "shards_made_now": len(jobs),
        "skipped_samples": manifest["skipped_samples"],
        "skipped_files": manifest["skipped_files"],
        "blur_psnr_db": round(sum(p * n for p, n in ratios) / sum(n for _, n in ratios), 2) if ratios else None,
        "saturated_share": round(sum(r["saturated_share"] * r["count"] for r in receipts) / pairs, 5) if pairs else 0.0,
        "seconds": round(seconds, 1),
        "out": str(out),
    }
    if pairs:
        summary["contact_sheet"] = str(contact_sheet.write_contact_sheet(out))
    if args.as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        rows = {
            "pairs": pairs,
            "shards": f"{len(receipts)} ({len(jobs)} made now)",
            "skipped samples": len(summary["skipped_samples"]),
            "skipped files": ", ".join(f"{n} x {kind}" for kind, n in summary["skipped_files"].items()) or "0",
            "mean blur PSNR": "-" if summary["blur_psnr_db"] is None else f"{summary['blur_psnr_db']:.2f} dB",
            "saturated": f"{100 * summary['saturated_share']:.2f} %",
            "seconds": f"{seconds:.1f}",
            "shards in": out,
            "contact sheet": summary.get("contact_sheet", out / contact_sheet.CONTACT_SHEET),
        }
        for name, value in rows.items():
            sys.stdout.write(f"{name:16} {value}\n")
    for skipped in summary["skipped_samples"]:
        sys.stderr.write(f"skipped: {skipped['reason']}\n")
    return FAILED if summary["skipped_samples"] else DONE


if __name__ == "__main__":
    sys.exit(main())
