"""Does a change of the code leave every pixel as it was? `python benchmarks/same_shards.py --before REV_OR_FOLDER`.

Every shipped recipe makes a few pairs with the code before (a git revision, or a folder with a checkout) and with that of
the working tree: as it is shipped, and once more with everything stored that it can store. Shards must have the same bytes;
only the versions of code and libraries in them may differ. The exit code is 1 if anything else does.

It imports nothing of the code that it judges. Pictures are photographs of scikit-image, or are cut from them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import skimage
import yaml
from PIL import Image
from scipy.ndimage import uniform_filter1d

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--count", "8", "--set", "samples_per_shard=4", "--workers", "0")  # four draw no kernel of one family
SAVES = ("raw", "kernel", "saturated")
AT_ONCE = 2  # one run of each side; a run takes one thread
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")
TRIPLES = {  # blurred image, saturation mask, sharp picture
    "gopro_u": ("centroid_blurred_img/1_blurred.png", "centroid_blurred_mask_100/1_blurred.png", "target_img/1_gt.png"),
    "gopro_abme": ("avg_inter_img/avg_blur.png", "avg_inter_mask_100/avg_blur.png", "gt/gt_sharp.png"),
    "rsblur": ("avg65_img/avg_blur.png", "avg65_mask_100/avg_blur.png", "gt/gt_sharp.png"),
}


@dataclass(frozen=True)
class Code:
    """A checkout. Its cache is its own: digests that the other code remembered would hide a change of digests."""

    side: str
    checkout: Path
    cache: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(self.checkout), "XDG_CACHE_HOME": str(self.cache)}
        command = (sys.executable, *arguments)
        return subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True)

    def make(self, *arguments: str) -> str:
        """Runs `blursynth.make`. Gives what it complains of at its end; "" if all went well."""
        done = self.run("-m", "blursynth.make", *arguments)
        *_, last = done.stderr.splitlines() or [""]
        return f"exit code {done.returncode}: {last.strip()}" if done.returncode else ""

    def check_imports(self) -> None:
        """Ends the program if this checkout would not be run, but another one that is installed."""
        done = self.run("-c", "import blursynth, isp; print(blursynth.__file__, isp.__file__, sep='\\n')")
        expected = [str(self.checkout / package / "__init__.py") for package in ("blursynth", "isp")]
        if done.stdout.splitlines() != expected:
            sys.exit(f"{self.side}: expected to import {expected}, got {done.stdout.splitlines()}; {done.stderr}")

    def recipes(self) -> dict[str, Any]:
        return {path.stem: yaml.safe_load(path.read_text()) for path in (self.checkout / "recipes").glob("*.yaml")}


@contextmanager
def checkout_of(before: str, scratch: Path) -> Iterator[Path]:
    """The folder `before`, or a worktree of that revision, which is removed at the end."""
    if (Path(before) / "blursynth" / "make.py").is_file():
        yield Path(before).resolve()
        return
    worktree, place = ("git", "-C", str(ROOT), "worktree"), str(scratch / "checkout")
    done = subprocess.run((*worktree, "add", "--detach", place, before), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"--before: expected a revision or a folder with a checkout, got {before}; {done.stderr.strip()}")
    try:
        yield Path(place)
    finally:
        subprocess.run((*worktree, "remove", "--force", place), check=True)


def data_for(source: dict[str, Any], folder: Path) -> list[str]:
    """The arguments that give a recipe its pictures, which are written first if none are built in."""
    if source["use"] == "photos":
        return []
    for number, name in enumerate(PHOTOGRAPHS, 1):
        sharp = np.asarray(Image.open(Path(skimage.data_dir, name)).convert("RGB"))[:400, :600]
        if source["use"] == "frames":  # the camera pans one pixel a frame
            window = source.get("window", 11)
            files = {f"{at:04d}.png": sharp[:, at : sharp.shape[1] - window + at] for at in range(window)}
        else:
            light = sharp.astype(float), np.where(sharp >= 250, 255.0, 0.0)
            blurred, mask = (uniform_filter1d(each, 9, axis=1).round().astype(np.uint8) for each in light)
            files = dict(zip(TRIPLES[source["layout"]], (blurred, mask, sharp), strict=True))
        for file, pixels in files.items():
            path = folder / f"{number:04d}" / file  # for the camera of `rsblur`, the number is a capture day
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return ["--data", str(folder)]


def leaves(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ; blocks of keys come first, since the statistics of a pair follow from its dice."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys(), key=lambda key: (not isinstance(before.get(key), dict), key)):
            yield from leaves(before.get(key, "no such key"), now.get(key, "no such key"), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for at, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from leaves(old, new, f"{path}[{at}]")
    elif json.dumps(before) != json.dumps(now):
        yield f"{path.lstrip('.')} {json.dumps(before):.70} before, {json.dumps(now):.70} now".strip()


def contents(path: Path, left_out: str) -> dict[str, tuple[str, Any]]:
    """How each part of a file is stored, and its value: an array, or a JSON value without the key `left_out`.

    The parts are the datasets and attributes of a shard, or the whole of a JSON file.
    """
    if path.suffix == ".json":
        return {"": ("", json.loads(path.read_text(), object_hook=lambda o: {k: o[k] for k in o if k != left_out}))}
    found: dict[str, tuple[str, Any]] = {}

    def look(name: str, thing: Any) -> None:
        for key, value in thing.attrs.items():
            value = value.decode() if isinstance(value, bytes) else value
            plain = json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value
            plain = plain.tolist() if isinstance(plain, np.generic | np.ndarray) else plain
            found[f"{name} attribute {key}"] = str(thing.attrs.get_id(key).dtype), plain
        if isinstance(thing, h5py.Dataset):
            filters = {name: getattr(thing, name) for name in ("chunks", "maxshape", "fletcher32", "compression")}
            value = [json.loads(record) for record in thing[:]] if name == "record" else thing[()]
            found[f" {name}"] = f"{thing.dtype} {thing.shape} {filters}", value

    with h5py.File(path, "r") as file:
        look("", file)
        file.visititems(look)
    return found


def difference(before: tuple[str, Any], now: tuple[str, Any]) -> str:
    """What differs between two datasets, attributes or JSON files, bit for bit; "" if nothing does."""
    (form, value), (new_form, new_value) = before, now
    arrays = [each for each in (value, new_value) if isinstance(each, np.ndarray)]
    if not arrays and (found := [*leaves(value, new_value)]):
        return found[0] + f"; and {len(found) - 1} more" * (len(found) > 1)
    if len(arrays) == 2 and value.dtype == new_value.dtype and value.shape == new_value.shape:
        bits, new_bits = (each.reshape(-1).view(np.uint8).reshape(-1, each.itemsize) for each in arrays)
        if count := (bits != new_bits).any(axis=1).sum():
            return f"{count} of {value.size} values, by at most {np.abs(new_value.astype(float) - value).max():g}"
    return f"{form} before, {new_form} now" * (form != new_form)


def differences(before: Path, now: Path) -> tuple[list[str], set[str]]:
    """What differs between two folders of shards, and which versions do in those whose bytes differ."""
    names = {path.name for folder in (before, now) for form in ("*.h5", "*.json") for path in folder.glob(form)}
    found, versions, shards_differ = [], set(), False
    for name in sorted(names, key=lambda name: (name.endswith(".json"), name)):
        paths = before / name, now / name
        if not all(path.is_file() for path in paths):
            found.append(f"{name}: is there {'before' if paths[0].is_file() else 'now'} only")
        elif paths[0].read_bytes() != paths[1].read_bytes():
            shards_differ |= name.endswith(".h5")
            # Once the bytes of shards are known to differ, their SHA-256 in JSON files says nothing of its own.
            old, new = (contents(path, "sha256" * shards_differ) for path in paths)
            absent = "absent", "absent"
            parts = {part: difference(old.get(part, absent), new.get(part, absent)) for part in sorted(old | new)}
            versions |= {parts.pop(" attribute versions", "")} - {""}
            wrong = [f"{name}{part}: {what}" for part, what in parts.items() if what]
            explained = bool(versions) or (shards_differ and name.endswith(".json"))
            found += wrong if wrong or explained else [f"{name}: other bytes, though all that is read is the same"]
    return found, versions


def compare(codes: tuple[Code, Code], arguments: list[str], out: Path) -> tuple[int, list[str], set[str]]:
    """Makes the same pairs with both codes: how many there are, what differs, and which versions do."""
    folders = [out / code.side for code in codes]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = [*pool.map(lambda code, folder: code.make(*arguments, "--out", str(folder)), codes, folders)]
    if any(ends):
        return 0, [f"{code.side}: {end}" for code, end in zip(codes, ends, strict=True) if end], set()
    return json.loads((folders[0] / "manifest.json").read_text())["count"], *differences(*folders)


def check(name: str, document: dict[str, Any], codes: tuple[Code, Code], out: Path, data: Path) -> bool:
    """Compares the runs of one recipe and prints a line, with a line below for each difference. Is it as it was?"""
    arguments = ["--recipe", name, *SMALL, *data_for(document["source"], data)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        refused = [*pool.map(lambda what: codes[0].make(*arguments, "--check", "--set", f"save=[{what}]"), SAVES)]
    saves = [what for what, complaint in zip(SAVES, refused, strict=True) if not complaint]
    runs = {"as shipped": compare(codes, arguments, out / "as_shipped")}
    if set(saves) != set(document.get("save", [])):
        everything = f"save=[{','.join(saves)}]"
        runs[everything] = compare(codes, [*arguments, "--set", everything], out / "everything_saved")
    wrong = [f"    {which}: {what}" for which, (_, found, _) in runs.items() for what in found]
    versions = "; ".join(sorted(set().union(*(found for _, _, found in runs.values()))))
    verdict = "DIFFERS" if wrong else f"equal but for versions: {versions}" if versions else "equal bytes"
    pairs = ", ".join(f"{count} pairs {which}" for which, (count, _, _) in runs.items())
    print(f"{name:20} {pairs:58} {verdict}", *wrong, sep="\n", flush=True)
    return not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REV_OR_FOLDER", help="the code to compare with")
    parser.add_argument("--recipes", metavar="A,B", help="some of the shipped recipes (default: all)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for the shards of both, which stays")
    asked = parser.parse_args()
    if asked.keep and asked.keep.exists():
        parser.error(f"--keep: expected a new folder, got {asked.keep}; what is in it would not be made again")
    with tempfile.TemporaryDirectory() as folder, checkout_of(asked.before, Path(folder).resolve()) as before:
        scratch = Path(folder).resolve()
        codes = Code("before", before, scratch / "cache_before"), Code("now", ROOT, scratch / "cache_now")
        for code in codes:
            code.check_imports()
        old, new = (code.recipes() for code in codes)
        chosen = asked.recipes.split(",") if asked.recipes else sorted(old | new)
        if unknown := set(chosen) - set(old | new):
            parser.error(f"--recipes: expected some of {', '.join(sorted(old | new))}, got {', '.join(unknown)}")
        out, same = (asked.keep or scratch / "out").resolve(), []
        for name in chosen:
            if name in old and name in new:
                same.append(check(name, old[name], codes, out / name, scratch / "data" / name))
            else:
                print(f"{name:20} {'is new: nothing to compare' if name in new else 'is no longer shipped: DIFFERS'}")
                same.append(name in new)
        return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
