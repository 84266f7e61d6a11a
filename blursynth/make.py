"""`python -m blursynth.make --recipe realblur_j`: sharp photographs in, shards of realistic blur pairs out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp import command
from isp.command import BAD_DATA, DONE

if TYPE_CHECKING:
    from blursynth.recipe import Recipe
    from blursynth.shards.identity import Identity
    from blursynth.shards.writer import Job
    from blursynth.sources import Clip, Footage


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("blursynth.make", "Turn sharp photographs into HDF5 shards of blurred and sharp pairs.")
    parser.add_argument("--recipe", metavar="NAME|FILE", help="a shipped recipe (see --list) or a .yaml file")
    parser.add_argument(
        "--data", type=command.folder, metavar="DIR", help="folder of pictures (default: built-in photographs)"
    )
    parser.add_argument(
        "--out", type=command.folder, metavar="DIR", help="folder for the shards (default: out/<recipe>)"
    )
    parser.add_argument("--isp", metavar="BACKEND[/VARIANT]", help="the ISP of every stage that does not name its own")
    parser.add_argument(
        "--count", type=command.at_least(1), metavar="N", help="number of pairs; a larger number keeps the first pairs"
    )
    parser.add_argument("--seed", type=command.at_least(0), metavar="N", help="seed of every draw")
    parser.add_argument(
        "--workers", type=command.at_least(0), metavar="N",
        help="worker processes; 0: none "
        "(default: one for each core that CPU affinity, the container's quota and SLURM allow)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the recipe, as in camera.iso=[100,6400]",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="check the recipe and the pictures, write nothing")
    parser.add_argument("--force", action="store_true", help="move another run's shards in --out into a subfolder")
    parser.add_argument("--list", action="store_true", dest="list_all", help="list recipes, ISPs and cameras")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")
    return parser


@command.door("interrupted; every finished shard is kept, run the same command again to continue")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.list_all:
        _print_list()
        return DONE
    if args.recipe is None:
        parser.error("--recipe is missing; --list shows what there is")
    command.check_device(args.device)
    return make(args)


def make(args: argparse.Namespace) -> int:
    """Do the whole job, top to bottom; return the exit code. Raises what `command.door` turns into exit codes."""
    started = time.monotonic()
    from blursynth import synthesis
    from blursynth.executors import locks, processes
    from blursynth.recipe import load_recipe
    from blursynth.shards import folders, publish
    from blursynth.shards.identity import identity_of
    from isp.files import places

    recipe = load_recipe(args.recipe, args.overrides, isp=args.isp, seed=args.seed)
    footage = recipe.source.open(args.data)
    for note in footage.notes:
        command.warn(f"note: {note}")
    count = args.count or footage.default_count
    out = args.out or Path("out") / recipe.name
    places.check_folder(out, "a folder for the shards")
    identity = identity_of(recipe, footage.digest)
    if args.check:
        return _report_check(recipe, identity, footage, count, out, args)

    workers = processes.usable_cores() if args.workers is None else args.workers
    out.mkdir(parents=True, exist_ok=True)
    with locks.only_run_in(out):
        moved = folders.claim(out, recipe, identity, force=args.force)
        if moved is not None:
            command.warn(command.shown(f"moved the shards of another run into {moved}"))
        publish.remove_stale_parts(out)
        for aside in folders.set_strangers_aside(out):
            command.warn(command.shown(f"{aside}: was not written by blursynth, so it was renamed"))
        jobs = folders.plan(recipe, identity, footage.clips, count, out, args.device)
        if jobs and (others := folders.other_versions(out)):
            command.warn(command.shown(f"the shards here were made with {'; '.join(others)}"))
        with command.progress(sum(len(job.samples) for job in jobs), _progress_line) as advance:
            for receipt in processes.run(synthesis.fill, jobs, workers):
                advance(receipt.tried)
        manifest = folders.seal(out, recipe, identity, footage.skipped)
    return _report(manifest, jobs, out, time.monotonic() - started, args)


def _progress_line(pace: command.Pace) -> str:
    return f"{pace.done:.0f}/{pace.total:.0f} pairs, {pace.rate:.1f} pairs/s, {pace.left_s:.0f} s left"


# ---------------------------------------------------------------- what the user sees


def _print_list() -> None:
    import isp
    from blursynth.recipe import summaries
    from isp import profile

    sections = {
        "recipes": summaries(),
        "ISPs": dict.fromkeys(isp.names(), ""),
        "cameras": {name: profile.load(name).model for name in profile.names()},
    }
    for title, entries in sections.items():
        command.say(title)
        for name, summary in entries.items():
            command.say(command.shown(f"  {name:20} {summary}".rstrip()))


def _report_check(
    recipe: Recipe, identity: Identity, footage: Footage, count: int, out: Path, args: argparse.Namespace
) -> int:
    from blursynth.shards import arrays, folders

    if (different := folders.difference(out, recipe, identity)) and not args.force:
        raise ValueError(f"{out}: holds shards of another run ({different})")
    unusable = _unusable(recipe, footage.clips[:count])
    if unusable:
        raise ValueError("\n".join(unusable))
    height, width = recipe.size
    shards = -(-count // recipe.samples_per_shard)
    per_pair = sum(array.bytes_per_pair(recipe.size, recipe.bits) for array in arrays.asked_for(recipe.save))
    found = {
        "recipe": recipe.name,
        "recipe_digest": identity.recipe,
        "clips": len(footage.clips),
        "skipped_files": footage.skipped,
        "pairs": count,
        "size": [height, width],
        "shards": shards,
        "bytes": count * per_pair,
        "out": str(out),
    }
    if args.as_json:
        command.say(command.json_of(found))
    else:
        command.say(
            f"recipe {recipe.name} is good: {len(footage.clips)} clips -> {count} pairs of "
            f"{width}x{height} in {shards} shards, about {count * per_pair / 1e6:.0f} MB, in {command.shown(str(out))}"
        )
        for kind, number in footage.skipped.items():
            command.say(command.shown(f"  left out: {number} x {kind}"))
    return DONE


def _unusable(recipe: Recipe, clips: Sequence[Clip]) -> list[str]:
    """What is wrong with the pictures: each must be readable, and large enough for the recipe's crop."""
    from blursynth import synthesis
    from blursynth.stages.geometry import Crop

    found = []
    for index, clip in enumerate(clips):
        try:
            sample = synthesis.start(clip, recipe, index, "cpu")
            if isinstance(recipe.stages[0], Crop):
                recipe.stages[0](sample)
        except (ValueError, OSError) as problem:
            found.append(command.located(clip.name, str(problem)))
    return found


def _report(manifest: dict[str, Any], jobs: Sequence[Job], out: Path, seconds: float, args: argparse.Namespace) -> int:
    from blursynth.shards import contact_sheet, folders

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
        "versions": folders.versions_in(out),
    }
    if pairs:
        summary["contact_sheet"] = str(contact_sheet.write_contact_sheet(out))
    if args.as_json:
        command.say(command.json_of(summary))
    else:
        rows = {
            "pairs": pairs,
            "shards": f"{len(receipts)} ({len(jobs)} made now)",
            "skipped samples": len(summary["skipped_samples"]),
            "skipped files": ", ".join(f"{n} x {kind}" for kind, n in summary["skipped_files"].items()) or "0",
            "mean blur PSNR": "-" if summary["blur_psnr_db"] is None else f"{summary['blur_psnr_db']:.2f} dB",
            "saturated": f"{100 * summary['saturated_share']:.2f} %",
            "seconds": f"{seconds:.1f}",
            "versions": ", ".join(f"{package} {' and '.join(each)}" for package, each in summary["versions"].items()),
            "shards in": out,
            "contact sheet": summary.get("contact_sheet", "none, there are no pairs"),
        }
        for name, value in rows.items():
            command.say(f"{name:16} {command.shown(str(value))}")
    for skipped in summary["skipped_samples"]:
        command.warn(command.shown(f"skipped: {skipped['reason']}"))
    return BAD_DATA if summary["skipped_samples"] else DONE


if __name__ == "__main__":
    sys.exit(main())
