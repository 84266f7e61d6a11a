"""How fast shards are written and read: `python benchmarks/shards.py [FOLDER]`.

1. Writing 256x256 pairs as a published shard, against plain write() and fsync of the same bytes.
2. Reading random 128-px crops in random order, against decoding the same pictures from PNG and cropping them.

Wall time, interleaved, one process; ratios of medians of one run are what counts. FOLDER chooses the disk.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure
import torch

from blursynth import ShardDataset, make, synthesis
from blursynth.recipe import load_recipe
from blursynth.shards import folders
from blursynth.shards.identity import identity_of
from blursynth.shards.receipt import Receipt
from blursynth.shards.writer import Writer
from isp import command
from isp.files import pictures
from isp.rng import generator

ROUNDS = 12
PAIRS = 64


def written(folder: Path) -> None:
    recipe = load_recipe("realblur_j", ["samples_per_shard=64"])
    footage = recipe.source.open(None)
    identity = identity_of(recipe, footage.digest)
    job = folders.plan(recipe, identity, footage.clips, PAIRS, folder, "cpu")[0]
    samples = [(synthesis.synthesise(clip, recipe, index), clip.digest) for index, clip in job.samples]
    seconds: dict[str, list[float]] = {"published shard": [], "plain write() and fsync": [], "plain write()": []}
    content = b""
    path = job.path
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with Writer(job, recipe.bits) as out:
            for sample, digest in samples:
                out.add(sample, digest)
        seconds["published shard"].append(time.perf_counter() - began)
        content = path.read_bytes()
        for name in ("plain write() and fsync", "plain write()"):
            began = time.perf_counter()
            with (folder / "plain").open("wb") as file:
                file.write(content)
                if "fsync" in name:
                    file.flush()
                    os.fsync(file.fileno())
            seconds[name].append(time.perf_counter() - began)
        path.unlink()
        Receipt.path(path).unlink()
        (folder / "plain").unlink()
    print(f"\nwriting {PAIRS} pairs of 256x256, {len(content) / 1e6:.1f} MB, with checksums, read back and receipt")
    for name, values in seconds.items():
        rate = len(content) / 1e6 / statistics.median(values)
        print(f"  {name:24} {measure.ms(values)} ms  {rate:7.0f} MB/s")
    print(
        f"  {measure.ratio(seconds['published shard'], seconds['plain write() and fsync']):.2f}x of plain write() and fsync"
    )


def read(folder: Path) -> None:
    out = folder / "read"
    code = make.main(["--recipe", "realblur_j", "--count", str(PAIRS), "--workers", "0", "--out", str(out), "--json"])
    assert code == command.DONE
    whole = ShardDataset(out)
    for index in range(len(whole)):
        for name in ("blur", "sharp"):
            pixels = (whole[index][name].permute(1, 2, 0) * 255).round().numpy().astype("uint8")
            pictures.write_image(folder / f"{index}_{name}.png", pixels)
    crops = ShardDataset(out, crop=128, augment=False)
    order = generator(1, 0, "order").permutation(PAIRS)

    def from_shards() -> None:
        for index in order:
            crops[int(index)]

    def from_png() -> None:
        for index in order:
            for name in ("blur", "sharp"):
                pixels = pictures.read_image(folder / f"{index}_{name}.png")[64:192, 64:192]
                torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(torch.float32).div_(255)

    seconds = measure.interleaved({"shards": from_shards, "PNG": from_png}, ROUNDS)
    print(f"\nreading {PAIRS} random 128-px crops of pairs, ms for all (least, median)")
    for name, values in seconds.items():
        print(f"  {name:24} {measure.ms(values)}   {PAIRS / statistics.median(values):.0f} pairs/s")
    print(f"  shards are {measure.ratio(seconds['PNG'], seconds['shards']):.1f}x as fast as PNG")


if __name__ == "__main__":
    print(measure.machine())
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=place) as scratch, synthesis.one_thread():
        written(Path(scratch))
        read(Path(scratch))
    print(measure.machine())
