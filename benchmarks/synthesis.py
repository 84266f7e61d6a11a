"""How fast pairs are made: `python benchmarks/synthesis.py`.

1. The ISP and noise part of one 264x264 patch, against the operations of the published code.
2. A 256x256 pair of realblur_j, stage by stage, against its floor: decoding, convolution and random draws alone.
3. The same pair through the learned ISP that realblur_j takes by default.
4. Memory of a worker on 1280x720 pairs, with either ISP.

Parts 1 and 2 are about the pipeline and take the parametric ISP; what the learned one costs is its networks: networks.py.

Everything on one thread, interleaved, CPU time; ratios of medians of one run are what counts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
import published
import torch

from blursynth import synthesis
from blursynth.recipe import load_recipe
from blursynth.sample import Sample
from isp import profile
from isp.files import pictures
from isp.light import raster
from isp.light.convolution import convolve
from isp.rng import generator

ROUNDS = 60
PARAMETRIC = "isp=rsblur/a7r3"


def isp_part() -> None:
    """Everything between the decoded patch and the cut of the border, except convolution, which neither does here."""
    rng = generator(1, 0, "benchmark")
    side = 264
    bound = load_recipe("realblur_j", [PARAMETRIC])
    picture = synthesis.start(bound.source.open(None).clips[0], bound, 0, "cpu")
    sharp = picture.sharp[..., 40 : 40 + side, 100 : 100 + side].contiguous()
    mask = torch.from_numpy((rng.random((1, 3, side, side)) > 0.98).astype(np.float32))
    camera = profile.load("a7r3").camera((2.1, 1.7), "GRBG", iso=160.0)
    fixed = "saturate.strength=[0.8, 0.8]"
    stages = {
        "gopro_u": dict(load_recipe("gopro_u", [fixed]).labelled),
        "realblur_j": dict(load_recipe("realblur_j", [fixed, PARAMETRIC]).labelled),
    }
    base = Sample(
        image=sharp,
        space="srgb",
        sharp=sharp,
        saturation=mask,
        camera=camera,
        sharp_frame=None,
        seed=1,
        index=0,
        source="",
    )
    part = ("inverse_isp", "saturate", "mosaic", "sensor_noise", "forward_isp", "keep_saturated", "tone_curve")

    def ours(name: str, leave_out: str = "") -> Sample:
        sample = base
        for label in part:
            if label in stages[name] and label != leave_out:
                sample = stages[name][label](sample.replace(stage=label))
        return sample

    def theirs(noise: tuple[float, float] | None = (8.8915e-5, 2.943e-5)) -> tuple[torch.Tensor, torch.Tensor]:
        planes = (image[0].permute(1, 2, 0).contiguous() for image in (sharp, mask, sharp))
        return published.pair(*planes, camera, 0.8, noise)

    difference = ours("gopro_u", "sensor_noise").image[0].permute(1, 2, 0) - theirs(None)[0]
    worst = float(difference.abs().max())
    assert worst < 1e-4, f"the yardstick does not compute what gopro_u computes: {worst}"
    seconds = measure.interleaved(
        {
            "published operations": theirs,
            "gopro_u (same result)": lambda: ours("gopro_u"),
            "realblur_j": lambda: ours("realblur_j"),
        },
        ROUNDS,
    )
    print(f"\nISP and noise part of one {side}x{side} patch, ms (least, median)   agreement {worst:.1e}")
    for name, values in seconds.items():
        print(f"  {name:24} {measure.ms(values)}   {measure.ratio(values, seconds['published operations']):.3f}x")


def whole_pair() -> None:
    """A pair of realblur_j from the built-in photographs: every stage, and what no program could leave out."""
    bound = load_recipe("realblur_j", [PARAMETRIC])
    clips = bound.source.open(None).clips
    labelled = list(bound.labelled)
    spent: dict[str, list[float]] = {name: [] for name in ("decode", *(label for label, _ in labelled))}
    floor: dict[str, list[float]] = {
        name: [] for name in ("decode alone", "kernel alone", "convolution alone", "draws alone")
    }
    whole: list[float] = []

    def timed(values: list[float], task: object) -> object:
        began = time.process_time()
        result = task()  # type: ignore[operator]
        values.append(time.process_time() - began)
        return result

    for index in range(ROUNDS + 5):
        clip = clips[index % len(clips)]
        before = sample = timed(spent["decode"], lambda: synthesis.start(clip, bound, index, "cpu"))
        for label, stage in labelled:
            before = sample if label == "camera_shake" else before
            sample = timed(spent[label], lambda: stage(sample.replace(stage=label)))
        timed(whole, lambda: synthesis.synthesise(clip, bound, index))
        timed(floor["decode alone"], clip.read)
        size = sample.draws["camera_shake.size"]
        kernel = timed(
            floor["kernel alone"],
            lambda: raster.camera_shake(
                generator(bound.seed, index, "camera_shake.trajectory"), sample.draws["camera_shake.family"], size
            ),
        )
        light = [cut for cut in (before.image, before.saturation) if bool(cut.any())]
        timed(floor["convolution alone"], lambda: convolve(torch.cat(light), torch.from_numpy(kernel)))
        timed(
            floor["draws alone"],
            lambda: [generator(1, index, p).standard_normal(296 * 296, dtype=np.float32) for p in "ab"],
        )
    print("\none 256x256 pair of realblur_j from the built-in photographs, ms (least, median)")
    for name, values in [*spent.items(), ("whole pair", whole), *floor.items()]:
        print(f"  {name:24} {measure.ms(values[5:])}")
    # Means, since pictures differ in size and some have no clipped light to convolve: medians would not add up.
    mean = {name: float(np.mean(values[5:])) for name, values in [*spent.items(), *floor.items()]}
    total = float(np.mean(whole[5:]))
    least = sum(mean[name] for name in floor)
    isp = sum(mean[s] for s in ("inverse_isp", "saturate", "mosaic", "sensor_noise", "forward_isp", "keep_saturated"))
    parts = mean["decode alone"] + mean["kernel alone"] + mean["convolution alone"] + isp
    print(f"  {1 / total:.1f} pairs/s a core; {total / least:.2f}x its floor (decode + kernel + convolution + draws)")
    print(f"  {total / parts:.3f}x of decode + kernel + convolution + ISP part")


def learned_pair() -> None:
    """A pair of realblur_j as it is."""
    bound = load_recipe("realblur_j")
    clips = bound.source.open(None).clips
    tasks = {bound.isp: lambda: synthesis.synthesise(clips[0], bound, 0)}
    seconds = measure.interleaved(tasks, 5)[bound.isp]
    print(f"\none 256x256 pair of realblur_j through {bound.isp}, ms (least, median)")
    print(f"  {'whole pair':24} {measure.ms(seconds)}   {1 / min(seconds):.1f} pairs/s a core")


def memory() -> None:
    """Largest resident set of one process that makes 1280x720 pairs."""
    program = (
        "import sys, resource\n"
        "from blursynth import make\n"
        "assert make.main(sys.argv[1:]) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    print()
    with tempfile.TemporaryDirectory() as folder:
        frame = np.zeros((720 + 40, 1280 + 40, 3), np.uint8)
        frame[:] = generator(1, 0, "frame").integers(0, 256, (1, 1320, 3), dtype=np.uint8)
        (Path(folder) / "data").mkdir()
        pictures.write_image(Path(folder) / "data" / "frame.png", frame)
        for isp in ("rsblur/a7r3", load_recipe("realblur_j").isp):
            out = f"{folder}/{isp.partition('/')[0]}"
            arguments = ["--recipe", "realblur_j", "--data", f"{folder}/data", "--out", out, "--count", "4"]
            arguments += ["--workers", "0", "--json", "--isp", isp]
            arguments += ["--set", "crop.size=[760, 1320]", "--set", "save=[raw,kernel,saturated]"]
            command = [sys.executable, "-c", program, *arguments]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            largest = int(result.stdout.splitlines()[-1]) / 1e6
            print(f"largest resident set of a worker on 1280x720 pairs, {isp}: {largest:.2f} GB")


if __name__ == "__main__":
    print(measure.machine())
    memory()  # first: a process inherits the largest resident set of the one that starts it
    with synthesis.one_thread():
        isp_part()
        whole_pair()
        learned_pair()
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB; {measure.machine()}")
